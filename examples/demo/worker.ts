import { Consumer } from '@shardline/consumer';

import { type Arrival, childConfig, type Payload, tell } from './messages.js';

const { kinesis, dynamodb, streamName, name, retrieval } = childConfig();

const consumer = new Consumer({
  streamName,
  applicationName: 'demo',
  workerId: name,
  retrieval,
  clientConfig: kinesis,
  dynamodbConfig: dynamodb,
  initialPosition: 'TRIM_HORIZON',
  failoverMs: 3_000,
  assignmentIntervalMs: 300,
  checkpointIntervalMs: 200,
  concurrency: 4,
  // All producers of this stream send a misrouted aggregate again as a whole.
  rangeCheck: 'aggregate',
  handler: {
    processBatch: async (records, { shardId }) => {
      const arrivals = records.map(({ data, partitionKey = '' }): Arrival => {
        const { n, sentAt } = JSON.parse(data.toString()) as Payload;
        return { n, key: partitionKey, shardId, latencyMs: Date.now() - sentAt };
      });
      await tell({ kind: 'arrivals', arrivals });
    },
  },
});

const reporting = setInterval(() => {
  void tell({ kind: 'status', status: consumer.status() }).catch(() => {});
}, 200);

process.once('SIGTERM', () => {
  clearInterval(reporting);
  void consumer.close().then(() => process.disconnect());
});

await consumer.start();
