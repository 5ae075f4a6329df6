import { Consumer } from '@shardline/consumer';

import { type Arrival, childConfig, FAILOVER_MS, STREAM, tell } from './messages.js';

const { kinesis, dynamodb, name, retrieval } = childConfig();

const start = async (): Promise<Consumer> => {
  const consumer = new Consumer({
    streamName: STREAM,
    applicationName: 'chaos',
    workerId: name,
    retrieval,
    clientConfig: kinesis,
    dynamodbConfig: dynamodb,
    initialPosition: 'TRIM_HORIZON',
    failoverMs: FAILOVER_MS,
    assignmentIntervalMs: 300,
    auditIntervalMs: 2_000,
    checkpointIntervalMs: 200,
    drainTimeoutMs: 5_000,
    concurrency: 4,
    rangeCheck: 'aggregate',
    handler: {
      processBatch: async (records, { shardId }) => {
        const arrivals = records.map(({ data, partitionKey = '' }): Arrival => {
          const { n } = JSON.parse(data.toString()) as { readonly n: number };
          return { n, key: partitionKey, shardId };
        });
        await tell({ kind: 'arrivals', arrivals });
      },
    },
  });
  try {
    await consumer.start();
    return consumer;
  } catch {
    // As a supervisor of processes would: one that does not come up is started again.
    await consumer.close();
    await new Promise((resolve) => setTimeout(resolve, 300));
    return start();
  }
};

let isStopping = false;
const running = start();
process.once('SIGTERM', () => {
  if (isStopping) return;
  isStopping = true;
  void running.then((consumer) => consumer.close()).then(() => process.disconnect());
});
process.once('disconnect', () => process.exit());
await running;
await tell({ kind: 'ready' });
