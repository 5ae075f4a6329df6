import { Consumer } from '@shardline/consumer';

/** A worker that tells of every record it handles, for the failover bench. */
const { kinesis, dynamodb, failoverMs } = JSON.parse(process.argv[2] ?? '{}') as {
  kinesis: object;
  dynamodb: object;
  failoverMs: number;
};
const consumer = new Consumer({
  streamName: 'bench',
  applicationName: 'failover',
  initialPosition: 'TRIM_HORIZON',
  failoverMs,
  clientConfig: kinesis,
  dynamodbConfig: dynamodb,
  handler: { processRecord: (_, { shardId }) => void process.send?.(shardId) },
});
process.on('message', () => {
  void consumer.close().then(() => process.exit(0));
});
await consumer.start();
