import {
  DescribeStreamSummaryCommand,
  KinesisClient,
  ListStreamConsumersCommand,
  PutRecordCommand,
  PutRecordsCommand,
  SplitShardCommand,
} from '@aws-sdk/client-kinesis';
import { Consumer, type ConsumerOptions, type RecordHandler } from '@shardline/consumer';
import { type Local, startLocal } from '@shardline/local';
import type { UserRecord } from '@shardline/shared';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { DynamoDbLeaseTable } from '../src/lease/dynamodb-lease-table.js';
import type { Row } from '../src/lease/lease-table.js';

const QUICK = {
  failoverMs: 1_500,
  assignmentIntervalMs: 150,
  checkpointIntervalMs: 50,
  idlePauseMs: 200,
  maxIdlePauseMs: 200,
  initialPosition: 'TRIM_HORIZON',
} as const;

describe.each(['polling', 'fanOut'] as const)('a consumer by %s', (retrieval) => {
  let local: Local;
  let client: KinesisClient;
  let consumers: { close(): Promise<void> }[];
  let seen: number[];

  beforeEach(async () => {
    local = await startLocal({
      streams: [{ name: 'orders', shards: 2 }],
      limits: { readCallsPerSecond: null, resubscribePauseMs: 0 },
    });
    client = new KinesisClient(local.kinesis);
    consumers = [];
    seen = [];
  });

  afterEach(async () => {
    await Promise.all(consumers.map((consumer) => consumer.close()));
    client.destroy();
    await local.close();
  });

  const handler: RecordHandler = {
    processRecord: ({ data }) => void seen.push(Number(data.toString())),
  };

  const make = (options: Partial<ConsumerOptions> = {}): Consumer => {
    const consumer = new Consumer({
      streamName: 'orders',
      applicationName: 'billing',
      retrieval,
      clientConfig: local.kinesis,
      dynamodbConfig: local.dynamodb,
      handler,
      ...QUICK,
      ...options,
    });
    consumers.push(consumer);
    return consumer;
  };

  const put = async (from: number, to: number): Promise<void> => {
    await client.send(
      new PutRecordsCommand({
        StreamName: 'orders',
        Records: Array.from({ length: to - from }, (_, index) => ({
          PartitionKey: `key-${(from + index) % 10}`,
          Data: Buffer.from(String(from + index)),
        })),
      }),
    );
  };

  const sorted = (): number[] => [...seen].sort((a, b) => a - b);
  const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
  const has = (count: number) =>
    expect.poll(() => new Set(seen).size, { timeout: 10_000 }).toBe(count);
  const state = (consumer: Consumer): string[] =>
    consumer.status().shards.map((shard) => shard.state);

  it('is read by for await: a record counts as handled when the next is asked for', async () => {
    await put(0, 20);
    const first = make({ handler: undefined } as object);
    for await (const { item, context } of first) {
      seen.push(Number(item.data.toString()));
      expect(context.shardId).toMatch(/^shardId-/);
      if (seen.length === 8) break;
    }
    const last = seen.pop() as number;
    const second = make({ handler: undefined } as object);
    const again: number[] = [];
    for await (const { item } of second) {
      again.push(Number(item.data.toString()));
      if (again.length === 13) void second.close();
    }
    // The record the loop was left with comes again; those before it do not.
    expect(again).toContain(last);
    expect([...seen, ...again].sort((a, b) => a - b)).toEqual(upTo(20));
  });

  it('ends a bounded read when all there was is handled, and its loop with it', async () => {
    await put(0, 40);
    const consumer = make({ until: 'now', handler: undefined } as object);
    for await (const { item } of consumer) seen.push(Number(item.data.toString()));
    expect(sorted()).toEqual(upTo(40));
    const other = make({ until: { records: 5 }, applicationName: 'other' });
    await other.finished();
    expect(seen).toHaveLength(45);
  });

  it('reads through reshards to its bound', async () => {
    await put(0, 20);
    await client.send(
      new SplitShardCommand({
        StreamName: 'orders',
        ShardToSplit: 'shardId-000000000000',
        NewStartingHashKey: (2n ** 126n).toString(),
      }),
    );
    await put(20, 40);
    await make({ until: 'now' }).finished();
    expect(sorted()).toEqual(upTo(40));
  });

  it('pauses one shard or all, and goes on where it was', async () => {
    const consumer = make();
    await consumer.start();
    await put(0, 20);
    await has(20);
    expect(consumer.pause()).toBe(true);
    await expect.poll(() => state(consumer)).toEqual(['paused', 'paused']);
    await put(20, 40);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(seen).toHaveLength(20);
    consumer.resume();
    await has(40);
    expect(consumer.pause('shardId-000000000001')).toBe(true);
    expect(consumer.pause('shardId-000000000077')).toBe(false);
    await expect.poll(() => state(consumer).sort()).toEqual(['paused', 'processing']);
    await consumer.close();
    expect(sorted()).toEqual(upTo(40));
  });

  it('forgets a pause of one shard with its lease, and gives paused shards away at once', async () => {
    const a = make();
    await a.start();
    await put(0, 20);
    await has(20);
    a.pause('shardId-000000000000');
    a.pause('shardId-000000000001');
    await put(20, 40);
    const b = make();
    await b.start();
    await expect.poll(() => b.status().shards.length).toBe(1);
    const startedMs = Date.now();
    await a.close();
    expect(Date.now() - startedMs).toBeLessThan(2_000);
    await has(40);
    expect(sorted()).toEqual(upTo(40));
  });

  it('seeks with the fleet running: back to the horizon, to a time, and to one record', async () => {
    const consumer = make();
    await consumer.start();
    await put(0, 20);
    await has(20);
    const dry = await consumer.seek('TRIM_HORIZON', { dryRun: true });
    expect(dry.map(({ to, owner }) => [to.sequenceNumber, owner])).toEqual([
      ['TRIM_HORIZON', consumer.workerId],
      ['TRIM_HORIZON', consumer.workerId],
    ]);
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(seen).toHaveLength(20);
    await consumer.seek('TRIM_HORIZON');
    await expect.poll(() => seen.length).toBe(40);
    expect(sorted()).toEqual(upTo(20).flatMap((number) => [number, number]));

    await new Promise((resolve) => setTimeout(resolve, 50));
    const timestamp = new Date();
    await put(20, 30);
    await expect.poll(() => seen.length).toBe(50);
    await consumer.seek({ timestamp });
    await expect.poll(() => seen.length).toBe(60);
    expect(seen.slice(-10).sort((a, b) => a - b)).toEqual(upTo(10).map((number) => number + 20));

    seen.length = 0;
    const [stored] = [...local.engine.stored('orders')];
    const [shardId = '', records = []] = stored ?? [];
    const at = records[2];
    await consumer.seek({ shardId, sequenceNumber: at?.SequenceNumber ?? '' });
    await expect.poll(() => seen.length).toBe(records.length - 2);
    expect(seen[0]).toBe(Number(at?.Data.toString()));
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(seen).toHaveLength(records.length - 2);
  });

  it('seeks with the fleet stopped, finished shards too, and parents come before children', async () => {
    await put(0, 20);
    await client.send(
      new SplitShardCommand({
        StreamName: 'orders',
        ShardToSplit: 'shardId-000000000000',
        NewStartingHashKey: (2n ** 126n).toString(),
      }),
    );
    await put(20, 40);
    await make({ until: 'now' }).finished();
    expect(sorted()).toEqual(upTo(40));
    seen.length = 0;
    const tool = make();
    const moves = await tool.seek('TRIM_HORIZON');
    expect(moves.map(({ owner }) => owner)).toEqual(moves.map(() => undefined));
    expect(moves).toHaveLength(4);
    await make({ until: 'now' }).finished();
    expect(sorted()).toEqual(upTo(40));
    for (const key of upTo(10)) {
      const own = seen.filter((number) => number % 10 === key);
      expect(own).toEqual([...own].sort((a, b) => a - b));
    }
    await expect(tool.seek({ shardId: 'shardId-9', sequenceNumber: '1' })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      value: 'shardId-9',
    });
  });

  it('skips to the latest by a seek', async () => {
    await put(0, 20);
    const tool = make({ until: 'now' });
    await tool.finished();
    await put(20, 40);
    await make().seek('LATEST');
    const consumer = make();
    await consumer.ready();
    await put(40, 50);
    await expect.poll(() => seen.length).toBe(30);
    expect(sorted().slice(20)).toEqual(upTo(10).map((number) => number + 40));
  });

  it('misses nothing after ready() when it begins at the latest, whoever reads on', async () => {
    await put(0, 10);
    const a = make({
      initialPosition: 'LATEST',
      handler: { processRecord: () => Promise.reject(new Error('down')) },
      drainTimeoutMs: 50,
    });
    await a.ready();
    // Nothing is handled yet, and a is gone before anything is: what came meanwhile is not lost.
    await put(10, 30);
    await a.close();
    await put(30, 40);
    await make({ initialPosition: 'LATEST' }).start();
    await expect.poll(() => new Set(sorted().filter((number) => number >= 10)).size).toBe(30);
  });

  it('keeps the progress of the old owner in the row, for user records ahead of a stuck one', async () => {
    await put(0, 40);
    const stuck = (record: UserRecord): boolean => Number(record.data.toString()) === 0;
    const a = make({
      concurrency: 32,
      drainTimeoutMs: 100,
      handler: {
        processRecord: (record) => {
          if (stuck(record)) throw new Error('stuck');
          seen.push(Number(record.data.toString()));
        },
      },
    });
    await a.start();
    // Everything in other lanes than the stuck record's is handled.
    await expect.poll(() => seen.length).toBeGreaterThan(30);
    await new Promise((resolve) => setTimeout(resolve, 200));
    await a.close();
    const byA = [...seen];
    const b = make({ concurrency: 32 });
    await b.start();
    await has(40);
    expect(sorted()).toEqual(upTo(40));
    const remembered = b
      .status()
      .shards.reduce((sum, { rememberedRecords }) => sum + rememberedRecords, 0);
    expect(remembered).toBeGreaterThan(0);
    expect(byA.length).toBeGreaterThan(30);
  });

  it('stores nothing but what a manual handler says', async () => {
    await put(0, 10);
    const a = make({
      checkpointing: 'manual',
      handler: {
        processRecord: async ({ data }, context) => {
          seen.push(Number(data.toString()));
          if (seen.length === 4) await context.checkpoint();
        },
      },
    });
    await a.start();
    await has(10);
    await a.close();
    const b = make();
    await b.start();
    await expect.poll(() => seen.length).toBeGreaterThanOrEqual(16);
    await new Promise((resolve) => setTimeout(resolve, 300));
    // What one checkpoint covered does not come again; what none covered does.
    expect(seen.length).toBeGreaterThanOrEqual(16);
    expect(seen.length).toBeLessThan(20);
    await b.close();
  });

  it('tells when shards start and end, before and after their records', async () => {
    await put(0, 10);
    const told: string[] = [];
    const consumer = make({
      handler: {
        shardStarted: ({ shardId, position }) =>
          void told.push(`start ${shardId.slice(-1)} ${position.sequenceNumber}`),
        shardEnded: ({ shardId }) => void told.push(`end ${shardId.slice(-1)} ${seen.length}`),
        processRecord: ({ data }) => void seen.push(Number(data.toString())),
      },
    });
    await consumer.start();
    await has(10);
    await client.send(
      new SplitShardCommand({
        StreamName: 'orders',
        ShardToSplit: 'shardId-000000000000',
        NewStartingHashKey: (2n ** 126n).toString(),
      }),
    );
    await expect.poll(() => told.length, { timeout: 8_000 }).toBe(5);
    expect(told.slice(0, 2).sort()).toEqual(['start 0 TRIM_HORIZON', 'start 1 TRIM_HORIZON']);
    expect(told[2]).toBe('end 0 10');
    expect(told.slice(3).sort()).toEqual(['start 2 TRIM_HORIZON', 'start 3 TRIM_HORIZON']);
  });

  it('goes on without a shard the stream has forgotten, with its children', async () => {
    const table = new DynamoDbLeaseTable({
      tableName: 'billing',
      clientConfig: local.dynamodb,
      requestTimeoutMs: 1_000,
      clock: {
        now: () => 0,
        monotonicMs: () => performance.now(),
        schedule: () => ({ cancel: () => {} }),
      },
      random: Math.random,
    });
    await make({ until: 'now' }).finished();
    const shards = async (): Promise<readonly Row[]> => table.scan('shardId-', true);
    const [some] = await shards();
    // A parent of shard 0 that is not listed any more, in a row an old fleet left behind.
    await table.create({
      ...some,
      leaseKey: { S: 'shardId--00000000001' },
      checkpoint: { S: 'TRIM_HORIZON' },
    });
    const consumer = make({ auditIntervalMs: 1_000 });
    await consumer.start();
    await expect.poll(async () => (await shards()).length, { timeout: 8_000 }).toBe(2);
    await put(0, 10);
    await has(10);
    table.close();
  });
});

it('registers its fan-out consumer again when somebody removed it meanwhile', async () => {
  const local = await startLocal({
    streams: [{ name: 'orders', shards: 1 }],
    limits: { resubscribePauseMs: 0 },
  });
  const seen: string[] = [];
  const consumer = new Consumer({
    streamName: 'orders',
    applicationName: 'billing',
    retrieval: 'fanOut',
    initialPosition: 'TRIM_HORIZON',
    clientConfig: local.kinesis,
    dynamodbConfig: local.dynamodb,
    handler: {
      processRecord: ({ data }) => {
        seen.push(data.toString());
      },
    },
  });
  await consumer.start();
  const client = new KinesisClient(local.kinesis);
  const put = (data: string): Promise<unknown> =>
    client.send(
      new PutRecordCommand({ StreamName: 'orders', PartitionKey: 'k', Data: Buffer.from(data) }),
    );
  await put('before');
  await vi.waitFor(() => expect(seen).toEqual(['before']), { timeout: 10_000 });
  await consumer.removeFanOutConsumer();
  await put('after');
  await vi.waitFor(() => expect(seen).toEqual(['before', 'after']), { timeout: 15_000 });
  await consumer.close();
  client.destroy();
  await local.close();
});

it('removes its fan-out consumer when asked', async () => {
  const local = await startLocal({ streams: [{ name: 'orders', shards: 1 }] });
  const make = (): Consumer =>
    new Consumer({
      streamName: 'orders',
      applicationName: 'billing',
      retrieval: 'fanOut',
      clientConfig: local.kinesis,
      dynamodbConfig: local.dynamodb,
      handler: { processRecord: () => {} },
    });
  const consumer = make();
  await consumer.start();
  const client = new KinesisClient(local.kinesis);
  const names = async (): Promise<(string | undefined)[]> => {
    const { StreamDescriptionSummary: stream } = await client.send(
      new DescribeStreamSummaryCommand({ StreamName: 'orders' }),
    );
    const { Consumers = [] } = await client.send(
      new ListStreamConsumersCommand({ StreamARN: stream?.StreamARN }),
    );
    return Consumers.map(({ ConsumerName }) => ConsumerName);
  };
  expect(await names()).toEqual(['billing']);
  await consumer.close();
  const tool = make();
  await tool.removeFanOutConsumer();
  expect(await names()).toEqual([]);
  await tool.removeFanOutConsumer();
  await tool.close();
  client.destroy();
  await local.close();
});
