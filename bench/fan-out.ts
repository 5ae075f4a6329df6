import { once } from 'node:events';

import {
  DescribeStreamSummaryCommand,
  KinesisClient,
  PutRecordsCommand,
  RegisterStreamConsumerCommand,
  SubscribeToShardCommand,
} from '@aws-sdk/client-kinesis';
import { Consumer, MemoryLeaseTable } from '@shardline/consumer';

import { DelayProxy } from './delay-proxy.js';
import { compare } from './harness.js';
import { startLocalServer } from './local.js';

const ROUND_TRIP_MS = 50;
const RECORD_BYTES = 50_000;
const RECORDS = 1_200;
const MB = 1e6;
/** The stock client is so slow that a little has to do. */
const STOCK_RECORDS = 20;

/** Enhanced fan-out over a distance: what the receive windows let through. */
export async function fanOutBench(): Promise<void> {
  const { child, clientConfig } = await startLocalServer(1);
  const near = new KinesisClient(clientConfig);
  const data = Buffer.alloc(RECORD_BYTES, 7);
  for (let done = 0; done < RECORDS; done += 100) {
    await near.send(
      new PutRecordsCommand({
        StreamName: 'bench',
        Records: Array.from({ length: 100 }, () => ({ Data: data, PartitionKey: 'k' })),
      }),
    );
  }
  const { StreamDescriptionSummary: stream } = await near.send(
    new DescribeStreamSummaryCommand({ StreamName: 'bench' }),
  );
  const { Consumer: registered } = await near.send(
    new RegisterStreamConsumerCommand({ StreamARN: stream?.StreamARN, ConsumerName: 'stock' }),
  );
  near.destroy();
  const proxy = new DelayProxy(Number(new URL(clientConfig.endpoint).port), ROUND_TRIP_MS / 2);
  const far = { ...clientConfig, endpoint: `http://127.0.0.1:${await proxy.listen()}` };

  await compare(
    `fan-out, one shard, records of 50 KB, ${ROUND_TRIP_MS} ms of round trip; wall is what counts`,
    'MB of data',
    [
      {
        name: 'consumer, from start to the last record handled',
        isOurs: true,
        run: async () => {
          const consumer = new Consumer({
            streamName: 'bench',
            applicationName: 'bench',
            retrieval: 'fanOut',
            leaseTable: new MemoryLeaseTable(),
            initialPosition: 'TRIM_HORIZON',
            until: { records: RECORDS },
            clientConfig: far,
            handler: { processBatch: () => {} },
          });
          await consumer.finished();
          return (RECORDS * RECORD_BYTES) / MB;
        },
      },
      {
        name: 'the SDK with its default handler',
        run: async () => {
          const client = new KinesisClient(far);
          const stop = new AbortController();
          const { EventStream = [] } = await client.send(
            new SubscribeToShardCommand({
              ConsumerARN: registered?.ConsumerARN,
              ShardId: 'shardId-000000000000',
              StartingPosition: { Type: 'TRIM_HORIZON' },
            }),
            { abortSignal: stop.signal },
          );
          let records = 0;
          for await (const event of EventStream) {
            records += event.SubscribeToShardEvent?.Records?.length ?? 0;
            if (records >= STOCK_RECORDS) break;
          }
          stop.abort();
          client.destroy();
          return (records * RECORD_BYTES) / MB;
        },
      },
    ],
  );
  proxy.close();
  child.kill();
  await once(child, 'exit');
}
