import { randomUUID } from 'node:crypto';

import { KinesisClient, PutRecordsCommand } from '@aws-sdk/client-kinesis';
import { Producer, type ProducerOptions } from '@shardline/producer';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import { compare, type Contender } from './harness.js';
import { startLocalServer } from './local.js';

const RECORDS = 20_000;
const SHARDS = 16;

/**
 * To a local Kinesis in a process of its own, end to end: the CPU time is the client's alone. The pace of
 * a shard, 1 MiB a second, bounds the wall time.
 */
export async function producerBench(): Promise<void> {
  const { child, clientConfig } = await startLocalServer(SHARDS);
  for (const bytes of [100, 1_024]) {
    const keys = Array.from({ length: RECORDS }, () => randomUUID());
    const data = Buffer.alloc(bytes, 'a line of a log that repeats itself ');
    const ours = (name: string, options: Partial<ProducerOptions> = {}): Contender => ({
      name,
      run: () => putAll(keys, data, { clientConfig, ...options }),
    });
    await compare(`producer, ${bytes} B over a socket, ${SHARDS} shards`, 'user record', [
      { ...ours('shardline'), isOurs: true },
      ours("shardline, ordering: 'strict'", { ordering: 'strict' }),
      ours("shardline, compression: 'brotli'", { compression: 'brotli' }),
      ours('shardline, idempotent', { idempotent: true }),
      ours('shardline, aggregation: false', { aggregation: false }),
      {
        name: 'plain SDK, 500 records a call, its own handler',
        run: () => plainSdk(new KinesisClient(clientConfig), keys, data),
      },
      {
        name: 'plain SDK, 500 records a call, HTTP/1.1 keep-alive',
        run: () =>
          plainSdk(
            new KinesisClient({ ...clientConfig, requestHandler: new NodeHttpHandler() }),
            keys,
            data,
          ),
      },
    ]);
  }
  child.kill();
}

async function putAll(
  keys: readonly string[],
  data: Buffer,
  options: Partial<ProducerOptions>,
): Promise<number> {
  const producer = new Producer({
    streamName: 'bench',
    onOutcome: () => {},
    ...options,
  });
  let offered = 0;
  for (const partitionKey of keys) {
    while (!producer.offer({ partitionKey, data })) await producer.drain();
    offered += 1;
    // As anything that reads its records from somewhere does.
    if (offered % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await producer.close();
  return keys.length;
}

async function plainSdk(
  client: KinesisClient,
  keys: readonly string[],
  data: Buffer,
): Promise<number> {
  const calls: Promise<unknown>[] = [];
  for (let from = 0; from < keys.length; from += 500) {
    const Records = keys
      .slice(from, from + 500)
      .map((PartitionKey) => ({ PartitionKey, Data: data }));
    calls.push(client.send(new PutRecordsCommand({ StreamName: 'bench', Records })));
    if (calls.length === 8) await Promise.all(calls.splice(0));
  }
  await Promise.all(calls);
  client.destroy();
  return keys.length;
}
