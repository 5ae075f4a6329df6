import { startLocal } from '@shardline/local';

/** The server side of benches, in a process of its own: so many shards, and TLS if asked for. */
const local = await startLocal({
  streams: [{ name: 'bench', shards: Number(process.argv[2]) }],
  limits: {
    writeRecordsPerSecond: null,
    writeBytesPerSecond: null,
    readCallsPerSecond: null,
    readBytesPerSecond: null,
    fanOutBytesPerSecond: null,
    iteratorCallsPerSecond: null,
    resubscribePauseMs: 0,
  },
  maxShardBytes: 128 * 2 ** 20,
  tls: process.argv[3] === 'tls',
});
console.log(JSON.stringify({ kinesis: local.kinesis, dynamodb: local.dynamodb }));
