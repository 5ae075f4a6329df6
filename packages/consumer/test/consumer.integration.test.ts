import {
  KinesisClient,
  MergeShardsCommand,
  PutRecordsCommand,
  SplitShardCommand,
} from '@aws-sdk/client-kinesis';
import {
  Consumer,
  type ConsumerOptions,
  DynamoDbLeaseTable,
  type LeaseTable,
  MemoryLeaseTable,
  type RecordHandler,
} from '@shardline/consumer';
import { type Local, ServiceFault, startLocal } from '@shardline/local';
import {
  AggregateEncoder,
  hashKeyOf,
  sealEnvelope,
  systemClock,
  systemRandom,
  type UserRecord,
} from '@shardline/shared';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const QUICK = {
  failoverMs: 1_500,
  assignmentIntervalMs: 150,
  checkpointIntervalMs: 50,
  idlePauseMs: 200,
  auditIntervalMs: 1_000,
  initialPosition: 'TRIM_HORIZON',
} as const;

/** The real SDK clients over real sockets, Kinesis and DynamoDB both. */
describe.each(['polling', 'fanOut'] as const)(
  'Consumer by %s against a local Kinesis',
  (retrieval) => {
    let local: Local;
    let client: KinesisClient;
    let consumers: Consumer[];
    /** What each worker's handler got, in order. */
    let seen: {
      readonly worker: string;
      readonly key: string;
      readonly data: string;
      readonly shardId: string;
    }[];

    beforeEach(async () => {
      // Without the pause after a subscription, so that a shard can change hands quickly.
      local = await startLocal({
        streams: [{ name: 'orders', shards: 4 }],
        limits: { readCallsPerSecond: null, resubscribePauseMs: 0 },
      });
      client = new KinesisClient(local.kinesis);
      consumers = [];
      seen = [];
      frozen.clear();
    });

    afterEach(async () => {
      await Promise.all(consumers.map((consumer) => consumer.close()));
      client.destroy();
      await local.close();
    });

    const dyingStore = (workerId: string): LeaseTable => {
      const store = new DynamoDbLeaseTable({
        tableName: 'billing',
        clientConfig: local.dynamodb,
        requestTimeoutMs: 500,
        clock: systemClock,
        random: systemRandom,
      });
      return new Proxy(store, {
        get(target, name) {
          const method = target[name as keyof LeaseTable] as (...args: unknown[]) => unknown;
          return (...args: unknown[]): unknown =>
            frozen.has(workerId) && name !== 'close'
              ? Promise.reject(new Error('dead'))
              : method.apply(target, args);
        },
      });
    };

    /** Workers whose calls to DynamoDB reach nothing any more, as if their process had died. */
    const frozen = new Set<string>();

    /** Splits one of the first four shards in the middle. */
    const split = (shardId: string): Promise<unknown> =>
      client.send(
        new SplitShardCommand({
          StreamName: 'orders',
          ShardToSplit: shardId,
          NewStartingHashKey: (BigInt(shardId.slice(-1)) * 2n ** 126n + 2n ** 125n).toString(),
        }),
      );

    const start = async (
      workerId: string,
      options: Partial<ConsumerOptions> = {},
    ): Promise<Consumer> => {
      const consumer = new Consumer({
        streamName: 'orders',
        applicationName: 'billing',
        workerId,
        retrieval,
        clientConfig: local.kinesis,
        leaseTable: dyingStore(workerId),
        ...QUICK,
        handler: {
          processRecord: ({ partitionKey = '', data }, { shardId }) => {
            seen.push({ worker: workerId, key: partitionKey, data: data.toString(), shardId });
          },
        },
        ...options,
      });
      consumers.push(consumer);
      await consumer.start();
      return consumer;
    };

    const put = async (from: number, count: number): Promise<void> => {
      await client.send(
        new PutRecordsCommand({
          StreamName: 'orders',
          Records: Array.from({ length: count }, (_, index) => ({
            PartitionKey: `key-${(from + index) % 10}`,
            Data: Buffer.from(String(from + index)),
          })),
        }),
      );
    };

    const until = async (holds: () => boolean, what: string): Promise<void> => {
      const deadline = Date.now() + 15_000;
      while (!holds()) {
        if (Date.now() > deadline) throw new Error(`timed out: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };

    const numbers = (): number[] => seen.map(({ data }) => Number(data)).sort((a, b) => a - b);
    const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

    const expectOrderPerKey = (): void => {
      for (const key of new Set(seen.map((record) => record.key))) {
        const own = seen.filter((record) => record.key === key).map(({ data }) => Number(data));
        expect(own).toEqual([...own].sort((a, b) => a - b));
      }
    };

    it('gives every record once and in order per key, aggregated and compressed ones too', async () => {
      await put(0, 100);
      const encoder = new AggregateEncoder();
      for (let index = 100; index < 110; index += 1)
        encoder.add('key-0', undefined, Buffer.from(String(index)));
      const aggregate = encoder.finish();
      encoder.reset();
      for (let index = 110; index < 120; index += 1)
        encoder.add('key-0', undefined, Buffer.from(String(index)));
      await client.send(
        new PutRecordsCommand({
          StreamName: 'orders',
          Records: [
            { PartitionKey: 'key-0', Data: aggregate },
            {
              PartitionKey: 'key-0',
              Data: await sealEnvelope(encoder.finish(), 'brotli', 'aggregate'),
            },
          ],
        }),
      );
      const consumer = await start('a', { concurrency: 4 });
      await until(() => seen.length >= 120, 'records arrive');
      expect(numbers()).toEqual(upTo(120));
      expectOrderPerKey();
      await consumer.ready();
      expect(consumer.status().shards.map(({ state }) => state)).toEqual(
        Array.from({ length: 4 }, () => 'processing'),
      );
    });

    it.each([
      ['goes on where it stopped, inside an aggregate too', false],
      ['goes on where it stopped while the last records of an ended shard were handled', true],
    ])('%s', async (_, isSplit) => {
      const encoder = new AggregateEncoder();
      for (let index = 0; index < 10; index += 1)
        encoder.add('key-0', undefined, Buffer.from(String(index)));
      const { Records: results } = await client.send(
        new PutRecordsCommand({
          StreamName: 'orders',
          Records: [{ PartitionKey: 'key-0', Data: encoder.finish() }],
        }),
      );
      const shardId = results?.[0]?.ShardId ?? '';
      let release: () => void = () => {};
      const blocked = new Promise<void>((resolve) => (release = resolve));
      const first = await start('a', {
        drainTimeoutMs: 100,
        handler: {
          processRecord: async ({ data }, { signal }) => {
            if (data.toString() === '6') {
              await Promise.race([
                blocked,
                new Promise((resolve) => signal.addEventListener('abort', resolve)),
              ]);
              throw new Error('not done');
            }
            seen.push({ worker: 'a', key: 'key-0', data: data.toString(), shardId: '' });
          },
        },
      });
      await until(() => seen.length === 6, 'six are handled');
      if (isSplit) {
        await split(shardId);
        const state = (): string | undefined =>
          first.status().shards.find((shard) => shard.shardId === shardId)?.state;
        await until(() => state() === 'ending', 'the end is read');
      }
      await first.close();
      const store = dyingStore('anyone');
      // Given away, not left to expire.
      expect((await store.get(shardId))?.leaseOwner).toBeUndefined();
      store.close();
      release();
      await start('b');
      await until(() => seen.length === 10, 'the others are handled');
      expect(numbers()).toEqual(upTo(10));
    });

    it('shares the shards between workers and gives them away without losing or repeating anything', async () => {
      await put(0, 50);
      const a = await start('a');
      await until(() => seen.length === 50, 'a reads');
      const b = await start('b');
      let sent = 50;
      await until(() => {
        if (sent < 400) {
          void put(sent, 10);
          sent += 10;
        }
        return a.status().shards.length === 2 && b.status().shards.length === 2;
      }, 'two shards each');
      while (sent < 400) {
        await put(sent, 10);
        sent += 10;
      }
      await until(() => new Set(numbers()).size === 400, 'all arrive');
      await a.close();
      await put(400, 50);
      await until(() => new Set(numbers()).size === 450, 'b takes over');
      expect(numbers()).toEqual(upTo(450));
      expectOrderPerKey();
    });

    it('takes over the shards of a worker cut off from its leases, which stops before that', async () => {
      const a = await start('a');
      await put(0, 40);
      await until(() => seen.length === 40, 'a reads');
      await new Promise((resolve) => setTimeout(resolve, 200));
      frozen.add('a');
      const started = Date.now();
      await start('b');
      await put(40, 40);
      await until(() => seen.some(({ worker }) => worker === 'b'), 'b takes over');
      expect(Date.now() - started).toBeLessThan(QUICK.failoverMs + 1_000);
      await put(80, 40);
      await until(() => new Set(numbers()).size === 120, 'all arrive');
      expect(a.status().shards).toEqual([]);
      for (const shardId of new Set(seen.map((record) => record.shardId))) {
        const workers = seen
          .filter((record) => record.shardId === shardId)
          .map(({ worker }) => worker);
        expect(workers.lastIndexOf('a')).toBeLessThan(
          workers.includes('b') ? workers.indexOf('b') : 1_000,
        );
      }
      // What was checkpointed is not repeated; what came between may be.
      expect(seen.filter(({ data }) => Number(data) < 40)).toHaveLength(40);
    });

    it('reads the parents of a split and a merge to their end before the children', async () => {
      const a = await start('a');
      await put(0, 40);
      await split('shardId-000000000000');
      await client.send(
        new MergeShardsCommand({
          StreamName: 'orders',
          ShardToMerge: 'shardId-000000000002',
          AdjacentShardToMerge: 'shardId-000000000003',
        }),
      );
      await put(40, 40);
      await until(() => new Set(numbers()).size === 80, 'all arrive');
      expect(numbers()).toEqual(upTo(80));
      expectOrderPerKey();
      await until(() => {
        const owned = a
          .status()
          .shards.map(({ shardId }) => shardId.slice(-1))
          .sort();
        return owned.join() === '1,4,5,6';
      }, 'the children are owned');
    });

    it('tries a failing handler again, in order, and says so, while other keys go on', async () => {
      let failures = 0;
      const attempts: number[] = [];
      const handler: RecordHandler = {
        processRecord: ({ partitionKey = '', data }, { attempt }) => {
          if (data.toString() === '5' && failures < 3) {
            failures += 1;
            attempts.push(attempt);
            throw new Error('broken');
          }
          seen.push({ worker: 'a', key: partitionKey, data: data.toString(), shardId: '' });
        },
      };
      await put(0, 60);
      const consumer = await start('a', { handler, concurrency: 16 });
      await until(
        () =>
          consumer.status().shards.some(({ reason }) => reason.startsWith('the handler failed')),
        'it is said',
      );
      await until(() => seen.length === 60, 'all arrive');
      expect(attempts).toEqual([1, 2, 3]);
      expect(numbers()).toEqual(upTo(60));
      expectOrderPerKey();
    });

    it('gives what fails too often to the dead letter, and goes on', async () => {
      const dead: string[] = [];
      await put(0, 20);
      await start('a', {
        maxAttempts: 2,
        deadLetter: (records: readonly UserRecord[]) =>
          void dead.push(...records.map(({ data }) => data.toString())),
        handler: {
          processRecord: ({ data }) => {
            if (Number(data.toString()) % 7 === 0) throw new Error('broken');
            seen.push({ worker: 'a', key: '', data: data.toString(), shardId: '' });
          },
        },
      });
      await until(() => seen.length + dead.length === 20, 'all are dealt with');
      expect(dead.map(Number).sort((a, b) => a - b)).toEqual([0, 7, 14]);
    });

    it('gives batches to a handler that takes them', async () => {
      const sizes: number[] = [];
      await put(0, 100);
      await start('a', {
        maxBatchRecords: 8,
        handler: {
          processBatch: (records) => {
            sizes.push(records.length);
            for (const { partitionKey = '', data } of records)
              seen.push({ worker: 'a', key: partitionKey, data: data.toString(), shardId: '' });
          },
        },
      });
      await until(() => seen.length === 100, 'all arrive');
      expect(Math.max(...sizes)).toBe(8);
      expectOrderPerKey();
    });

    it('gets through refused reads, cut connections and ended subscriptions without losing or repeating', async () => {
      const operation = retrieval === 'polling' ? 'GetRecords' : 'SubscribeToShard';
      for (const fault of [
        { kind: 'error', name: 'ProvisionedThroughputExceededException' },
        { kind: 'error', name: 'InternalFailure', status: 500 },
        { kind: 'error', name: 'ExpiredIteratorException' },
        { kind: 'drop' },
      ] as const) {
        local.faults.inject({ operation, fault });
      }
      await start('a');
      for (let round = 0; round < 5; round += 1) {
        await put(round * 20, 20);
        if (round === 2)
          local.cutSubscriptions({
            error: new ServiceFault('InternalFailureException', 'cut', 500),
          });
        if (round === 3) local.cutConnections();
        if (round === 4) local.cutSubscriptions();
      }
      await until(() => new Set(numbers()).size === 100, 'all arrive');
      expect(numbers()).toEqual(upTo(100));
    });

    it('drops second copies of records that their producer marked, and counts them', async () => {
      const encoder = new AggregateEncoder();
      for (let index = 0; index < 5; index += 1) {
        encoder.add('key-0', undefined, Buffer.from(String(index)), `producer:${index}`);
      }
      const Data = encoder.finish();
      for (let copy = 0; copy < 2; copy += 1) {
        await client.send(
          new PutRecordsCommand({
            StreamName: 'orders',
            Records: [{ PartitionKey: 'key-0', Data }],
          }),
        );
      }
      const consumer = await start('a');
      const duplicates = (): number =>
        consumer.status().shards.reduce((sum, { duplicateRecords }) => sum + duplicateRecords, 0);
      await until(() => duplicates() === 5, 'the copies are dropped');
      expect(numbers()).toEqual(upTo(5));
    });

    it('drops the user records of an aggregate that another shard owns, and counts them', async () => {
      const keys = Array.from({ length: 40 }, (_, index) => `k${index}`);
      const encoder = new AggregateEncoder();
      keys.forEach((key, index) => encoder.add(key, undefined, Buffer.from(String(index))));
      await client.send(
        new PutRecordsCommand({
          StreamName: 'orders',
          Records: [{ PartitionKey: keys[0], Data: encoder.finish() }],
        }),
      );
      const shardOf = (key: string): bigint => hashKeyOf(key) / 2n ** 126n;
      const own = keys.flatMap((key, index) =>
        shardOf(key) === shardOf(keys[0] ?? '') ? [index] : [],
      );
      const consumer = await start('a');
      await until(() => seen.length === own.length, 'own records arrive');
      expect(numbers()).toEqual(own);
      const dropped = consumer
        .status()
        .shards.reduce((sum, { droppedRecords }) => sum + droppedRecords, 0);
      expect(dropped).toBe(40 - own.length);
    });
  },
);

describe('Consumer', () => {
  const handler: RecordHandler = { processRecord: () => {} };
  const base = { streamName: 'orders', applicationName: 'billing', handler };

  it.each([
    ['a handler that is none', { ...base, handler: {} }, { value: 'object' }],
    [
      'two handlers',
      { ...base, handler: { processRecord: () => {}, processBatch: () => {} } },
      { value: 'processRecord, processBatch', limit: 'processRecord, processBatch, processWindow' },
    ],
    ['an unknown option', { ...base, failoverTimeMs: 1 }, { value: 'failoverTimeMs' }],
    [
      'a number out of range',
      { ...base, failoverMs: 999 },
      { limit: '1000 to 600000', unit: 'ms', value: '999' },
    ],
    [
      'a bad position',
      { ...base, initialPosition: 'EARLIEST' },
      { limit: 'LATEST, TRIM_HORIZON, { timestamp }' },
    ],
    ['no application name', { ...base, applicationName: '' }, {}],
    ['no stream', { ...base, streamName: undefined }, {}],
    ['attempts without a dead letter', { ...base, maxAttempts: 3 }, { value: 3 }],
  ])('refuses %s with a typed error', (_, options, expected) => {
    expect(() => new Consumer(options as ConsumerOptions)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', ...expected }),
    );
  });

  it('reports a missing stream and refused credentials when it starts', async () => {
    const local = await startLocal();
    const make = () =>
      new Consumer({ ...base, leaseTable: new MemoryLeaseTable(), clientConfig: local.kinesis });
    const missing = make();
    await expect(missing.start()).rejects.toMatchObject({
      code: 'STREAM_NOT_FOUND',
      value: 'ResourceNotFoundException',
    });
    await missing.close();
    for (const operation of ['DescribeStreamSummary', 'ListShards'] as const) {
      local.faults.inject({
        operation,
        fault: { kind: 'error', name: 'UnrecognizedClientException' },
      });
    }
    const refused = make();
    await expect(refused.start()).rejects.toMatchObject({
      code: 'ACCESS_DENIED',
      value: 'UnrecognizedClientException',
    });
    await refused.close();
    await expect(refused.ready()).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    await local.close();
  });
});
