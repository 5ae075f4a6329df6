import { startLocal } from '@shardline/local';

/** The server side of benches, in a process of its own. */
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
});
console.log(JSON.stringify({ kinesis: local.kinesis, dynamodb: local.dynamodb }));
