import { KinesisClient, PutRecordsCommand, SplitShardCommand } from '@aws-sdk/client-kinesis';
import { type FaultRule, type Local, ServiceFault, startLocal } from '@shardline/local';
import { type KinesisRecord, systemClock, systemRandom } from '@shardline/shared';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { AutoFetcher } from '../../src/fetch/auto-fetcher.js';
import { FanOutFetcher } from '../../src/fetch/fan-out-fetcher.js';
import {
  type ChildShard,
  type FetchedBatch,
  type Fetcher,
  type StartingPoint,
} from '../../src/fetch/fetcher.js';
import { FoundConsumer } from '../../src/fetch/found-consumer.js';
import { KinesisReadClient } from '../../src/fetch/kinesis-read-client.js';
import { PollingFetcher } from '../../src/fetch/polling-fetcher.js';

const SHARD = 'shardId-000000000000';
const HORIZON: StartingPoint = {
  position: { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 },
  timestampMs: undefined,
  isAfter: false,
};
const LATEST: StartingPoint = {
  ...HORIZON,
  position: { sequenceNumber: 'LATEST', subSequenceNumber: 0 },
};

/** What every way to read a shard must do, over real sockets and the real SDK. */
describe.each([
  ['polling', 'lean'],
  ['polling', 'cbor'],
  ['polling', 'sdk'],
  ['fanOut', 'lean'],
  ['auto', 'lean'],
] as const)('Fetcher by %s, wire %s', (way, wire) => {
  let local: Local;
  let client: KinesisClient;
  let port: KinesisReadClient;
  let fetcher: Fetcher;
  let stop: AbortController;
  let put: number;
  let troubles: string[];

  beforeEach(async () => {
    local = await startLocal({
      streams: [{ name: 'orders', shards: 1 }],
      limits: { resubscribePauseMs: 0 },
    });
    client = new KinesisClient(local.kinesis);
    port = new KinesisReadClient({
      stream: { name: 'orders', arn: undefined },
      wire,
      clientConfig: local.kinesis,
      clock: systemClock,
      random: systemRandom,
    });
    stop = new AbortController();
    put = 0;
    troubles = [];
    const polling = new PollingFetcher(port, {
      streamName: local.kinesis.endpoint,
      shareRatio: 1,
      idlePauseMs: 200,
      maxIdlePauseMs: 200,
      clock: systemClock,
      random: systemRandom,
    });
    const arn = (): Promise<string> => port.consumerArn('readers', stop.signal);
    const fanOut = new FanOutFetcher(port, new FoundConsumer(arn), systemClock, systemRandom);
    fetcher = {
      polling,
      fanOut,
      auto: new AutoFetcher({
        polling,
        fanOut,
        register: arn,
        fanOutBytesPerSecond: 1_000,
        clock: systemClock,
      }),
    }[way];
  });

  afterEach(async () => {
    stop.abort();
    port.close();
    client.destroy();
    await local.close();
  });

  const store = async (count: number): Promise<void> => {
    await client.send(
      new PutRecordsCommand({
        StreamName: 'orders',
        Records: Array.from({ length: count }, (_, index) => ({
          PartitionKey: 'k',
          Data: Buffer.from(String(put + index)),
        })),
      }),
    );
    put += count;
  };

  const open = (from: StartingPoint): AsyncIterator<FetchedBatch> =>
    fetcher
      .fetch(SHARD, from, stop.signal, (what) => what !== undefined && troubles.push(what))
      [Symbol.asyncIterator]();

  /** Reads until so many records have come. */
  const read = async (
    batches: AsyncIterator<FetchedBatch>,
    count: number,
  ): Promise<{ numbers: number[]; records: KinesisRecord[]; last: FetchedBatch }> => {
    const records: KinesisRecord[] = [];
    let last: FetchedBatch | undefined;
    while (records.length < count) {
      const next = await batches.next();
      if (next.done) break;
      last = next.value;
      records.push(...last.records);
    }
    const numbers = records.map(({ Data }) => Number(Buffer.from(Data ?? []).toString()));
    return { numbers, records, last: last as FetchedBatch };
  };
  const numbers = (from: number, to: number): number[] =>
    Array.from({ length: to - from }, (_, index) => from + index);

  it('gives every record once and in order, from the beginning on and as they come', async () => {
    await store(20);
    const batches = open(HORIZON);
    expect((await read(batches, 20)).numbers).toEqual(numbers(0, 20));
    await store(5);
    expect((await read(batches, 5)).numbers).toEqual(numbers(20, 25));
  });

  it('begins at a record, the record included, or behind it', async () => {
    await store(10);
    const { records } = await read(open(HORIZON), 10);
    const position = { sequenceNumber: records[4]?.SequenceNumber ?? '', subSequenceNumber: 3 };
    stop.abort();
    stop = new AbortController();
    expect((await read(open({ ...HORIZON, position }), 6)).numbers).toEqual(numbers(4, 10));
    const after = { ...HORIZON, position, isAfter: true };
    expect((await read(open(after), 5)).numbers).toEqual(numbers(5, 10));
  });

  it('says with each batch where to go on, and another goes on there', async () => {
    await store(7);
    const { last } = await read(open(HORIZON), 7);
    stop.abort();
    stop = new AbortController();
    await store(3);
    expect((await read(open(last.resume), 3)).numbers).toEqual(numbers(7, 10));
  });

  it('makes a place of LATEST before the first record comes', async () => {
    await store(5);
    const batches = open(LATEST);
    const first = await batches.next();
    expect(first.value?.records).toEqual([]);
    const { resume } = first.value as FetchedBatch;
    expect(resume.position.sequenceNumber).not.toBe('LATEST');
    await store(2);
    expect((await read(batches, 2)).numbers).toEqual(numbers(5, 7));
    stop.abort();
    stop = new AbortController();
    // Somebody else, later, misses nothing; a second or so may come again.
    const { numbers: again } = await read(open(resume), 2);
    expect(again.slice(-2).every((number) => number < 7)).toBe(true);
    expect(numbers(0, 7)).toEqual(expect.arrayContaining(again));
  });

  it('ends with the children of a shard that has ended', async () => {
    await store(4);
    await client.send(
      new SplitShardCommand({
        StreamName: 'orders',
        ShardToSplit: SHARD,
        NewStartingHashKey: (2n ** 127n).toString(),
      }),
    );
    const all: number[] = [];
    let children: readonly ChildShard[] | undefined;
    for (const batches = open(HORIZON); ;) {
      const next = await batches.next();
      if (next.done) break;
      children = next.value.childShards;
      all.push(...next.value.records.map(({ Data }) => Number(Buffer.from(Data ?? []).toString())));
    }
    expect(all).toEqual(numbers(0, 4));
    expect(children?.map(({ shardId, parentShardIds }) => [shardId, parentShardIds])).toEqual([
      ['shardId-000000000001', [SHARD]],
      ['shardId-000000000002', [SHARD]],
    ]);
  });

  it('ends without an error when it is told to', async () => {
    const batches = open(HORIZON);
    await batches.next();
    const next = batches.next();
    stop.abort();
    for (let result = await next; !result.done; result = await batches.next());
    expect((await batches.next()).done).toBe(true);
  });

  it('says that a shard is gone', async () => {
    const gone = fetcher.fetch('shardId-000000000009', HORIZON, stop.signal, () => {});
    await expect(gone[Symbol.asyncIterator]().next()).rejects.toMatchObject({
      code: 'STREAM_NOT_FOUND',
    });
  });

  const operation = way === 'fanOut' ? 'SubscribeToShard' : 'GetRecords';
  const faults: readonly (readonly [string, readonly FaultRule[]])[] = [
    [
      'a throttled call',
      [{ fault: { kind: 'error', name: 'ProvisionedThroughputExceededException' } }],
    ],
    ['limits', [{ fault: { kind: 'error', name: 'LimitExceededException' } }]],
    [
      'a failure of the service',
      [{ fault: { kind: 'error', name: 'InternalFailure', status: 500 } }],
    ],
    ['an expired iterator', [{ fault: { kind: 'error', name: 'ExpiredIteratorException' } }]],
    ['a refused argument', [{ fault: { kind: 'error', name: 'InvalidArgumentException' } }]],
    ['a resource in use', [{ fault: { kind: 'error', name: 'ResourceInUseException' } }]],
    ['a cut connection', [{ fault: { kind: 'drop' } }]],
    ['an answer cut off in the middle', [{ fault: { kind: 'truncate' } }]],
    ['a slow answer', [{ fault: { kind: 'delay', delayMs: 300 } }]],
    [
      'one thing after the other',
      [
        { fault: { kind: 'drop' } },
        { fault: { kind: 'error', name: 'InternalFailure', status: 500 } },
        { fault: { kind: 'error', name: 'ProvisionedThroughputExceededException' } },
      ],
    ],
  ];
  it.each(faults)('gets through %s without losing or repeating', async (_, rules) => {
    for (const rule of rules) local.faults.inject({ operation, ...rule });
    await store(5);
    const batches = open(HORIZON);
    expect((await read(batches, 5)).numbers).toEqual(numbers(0, 5));
    for (const rule of rules) local.faults.inject({ operation, ...rule });
    await store(5);
    local.cutSubscriptions({ error: new ServiceFault('InternalFailureException', 'cut', 500) });
    expect((await read(batches, 5)).numbers).toEqual(numbers(5, 10));
  });

  it('gets through cut connections and ended subscriptions in the middle of the stream', async () => {
    await store(3);
    const batches = open(HORIZON);
    const got = (await read(batches, 3)).numbers;
    for (let round = 0; round < 3; round += 1) {
      if (round === 1) local.cutSubscriptions();
      else local.cutConnections();
      await store(3);
      got.push(...(await read(batches, 3)).numbers);
    }
    expect(got).toEqual(numbers(0, 12));
  });
});

describe('subscriptions', () => {
  it('share a few connections, and leave none behind', async () => {
    const local = await startLocal({ streams: [{ name: 'orders', shards: 40 }] });
    const port = new KinesisReadClient({
      stream: { name: 'orders', arn: undefined },
      wire: 'lean',
      clientConfig: local.kinesis,
      clock: systemClock,
      random: systemRandom,
    });
    const stop = new AbortController();
    const arn = await port.consumerArn('readers', stop.signal);
    // Both ends of each are in this process.
    const connections = (): number =>
      process.getActiveResourcesInfo().filter((name) => name === 'TCPSocketWrap').length / 2;
    const before = connections();
    const opened = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        port.subscribe(arn, `shardId-${String(index).padStart(12, '0')}`, HORIZON, stop.signal),
      ),
    );
    await Promise.all(opened.map((batches) => batches[Symbol.asyncIterator]().next()));
    expect(connections() - before).toBe(3);
    stop.abort();
    await expect.poll(() => connections() - before).toBe(0);
    port.close();
    await local.close();
  });
});
