import { KinesisEngine, type Limits, type Output } from '@shardline/local';
import { compareSequenceNumbers, findHoles } from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

function setup(limits: boolean | Partial<Limits> = true, transitionMs = 0) {
  const clock = new ManualClock();
  const engine = new KinesisEngine({ clock, limits, transitionMs });
  engine.execute('CreateStream', { StreamName: 'orders', ShardCount: 1 });
  const put = (count: number, bytes = 10): number => {
    const Records = Array.from({ length: count }, () => ({
      PartitionKey: 'k',
      Data: Buffer.alloc(bytes),
    }));
    return engine.execute('PutRecords', { StreamName: 'orders', Records })[
      'FailedRecordCount'
    ] as number;
  };
  const iterator = (type: string): unknown =>
    engine.execute('GetShardIterator', {
      StreamName: 'orders',
      ShardId: 'shardId-000000000000',
      ShardIteratorType: type,
    })['ShardIterator'];
  const read = (from: unknown): Output => engine.execute('GetRecords', { ShardIterator: from });
  return { clock, engine, put, iterator, read };
}

const count = (output: Output): number => (output['Records'] as unknown[]).length;

describe('KinesisEngine in virtual time', () => {
  it('takes 1,000 records a second and shard, second after second', async () => {
    const { clock, put } = setup();
    for (let second = 0; second < 3; second += 1) {
      expect(put(500) + put(500)).toBe(0);
      expect(put(100)).toBe(100);
      await clock.advance(1_000);
    }
    await clock.advance(100);
    expect(put(500) + put(500)).toBe(0);
  });

  it('takes 1 MiB a second and shard', async () => {
    const { clock, put } = setup();
    expect(put(20, 50_000)).toBe(0);
    expect(put(2, 50_000)).toBe(2);
    await clock.advance(500);
    expect(put(20, 50_000)).toBeGreaterThan(8);
  });

  it('allows 5 reads a second, and none for as long as a large read takes at 2 MiB/s', async () => {
    const { clock, put, iterator, read } = setup({ writeBytesPerSecond: null });
    put(20, 500_000);
    const from = iterator('TRIM_HORIZON');
    expect(count(read(from))).toBe(20);
    const refused = expect.objectContaining({ name: 'ProvisionedThroughputExceededException' });
    expect(() => read(from)).toThrow(refused);
    await clock.advance(4_000);
    expect(() => read(from)).toThrow(refused);
    await clock.advance(1_000);
    const tip = iterator('LATEST');
    for (let call = 0; call < 5; call += 1) read(tip);
    expect(() => read(tip)).toThrow(refused);
    await clock.advance(200);
    read(tip);
  });

  it('says that a reader is at the tip only if nothing follows, even in the same millisecond', async () => {
    const { clock, engine, put, iterator } = setup();
    put(2);
    const lagOf = (Limit: number): unknown =>
      engine.execute('GetRecords', { ShardIterator: iterator('TRIM_HORIZON'), Limit })[
        'MillisBehindLatest'
      ];
    expect([lagOf(1), lagOf(2)]).toEqual([1, 0]);
    await clock.advance(70);
    expect([lagOf(1), lagOf(2)]).toEqual([70, 0]);
  });

  it('lets iterators expire after five minutes', async () => {
    const { clock, iterator, read } = setup();
    const from = iterator('LATEST');
    await clock.advance(300_000);
    read(from);
    await clock.advance(1);
    expect(() => read(from)).toThrow(expect.objectContaining({ name: 'ExpiredIteratorException' }));
  });

  it('forgets records after the retention period', async () => {
    const { clock, put, iterator, read } = setup();
    put(3);
    await clock.advance(12 * 3_600_000);
    put(2);
    await clock.advance(12 * 3_600_000 + 1);
    expect(count(read(iterator('TRIM_HORIZON')))).toBe(2);
  });

  it('forgets them for subscriptions, too', async () => {
    const { clock, engine, put } = setup();
    const { Consumer: consumer } = engine.execute('RegisterStreamConsumer', {
      StreamARN: engine.streamArn('orders'),
      ConsumerName: 'app',
    });
    put(3);
    await clock.advance(24 * 3_600_000 + 1);
    const subscription = engine.subscribe({
      ConsumerARN: (consumer as { ConsumerARN: string }).ConsumerARN,
      ShardId: 'shardId-000000000000',
      StartingPosition: { Type: 'TRIM_HORIZON' },
    });
    expect(subscription.next()).toBeUndefined();
    subscription.end();
  });

  it('knows a closed shard only while one of its records may be kept', async () => {
    const { clock, engine, iterator } = setup();
    engine.execute('SplitShard', {
      StreamName: 'orders',
      ShardToSplit: 'shardId-000000000000',
      NewStartingHashKey: '1000',
    });
    await clock.advance(24 * 3_600_000);
    expect(iterator('TRIM_HORIZON')).toBeDefined();
    await clock.advance(1);
    expect(() => iterator('TRIM_HORIZON')).toThrow(
      expect.objectContaining({ name: 'ResourceNotFoundException' }),
    );
  });

  it('ends a subscription after five minutes and keeps the five-second rule', async () => {
    const { clock, engine } = setup();
    const registered = engine.execute('RegisterStreamConsumer', {
      StreamARN: engine.streamArn('orders'),
      ConsumerName: 'app',
    });
    const { ConsumerARN } = registered['Consumer'] as { ConsumerARN: string };
    const input = {
      ConsumerARN,
      ShardId: 'shardId-000000000000',
      StartingPosition: { Type: 'LATEST' },
    };
    const first = engine.subscribe(input);
    await clock.advance(4_999);
    expect(() => engine.subscribe(input)).toThrow(
      expect.objectContaining({ name: 'ResourceInUseException' }),
    );
    await clock.advance(1);
    const second = engine.subscribe(input);
    expect([first.isEnded, second.isEnded]).toEqual([true, false]);
    await clock.advance(300_000);
    expect(second.remainingMs).toBeLessThanOrEqual(0);
  });

  it('takes its time for streams and reshards if told to', async () => {
    const { clock, engine, put } = setup(true, 500);
    const status = (): unknown =>
      (
        engine.execute('DescribeStreamSummary', { StreamName: 'orders' })[
          'StreamDescriptionSummary'
        ] as Output
      )['StreamStatus'];
    expect(status()).toBe('CREATING');
    expect(() => put(1)).toThrow(expect.objectContaining({ name: 'ResourceNotFoundException' }));
    await clock.advance(500);
    expect(status()).toBe('ACTIVE');
    engine.execute('SplitShard', {
      StreamName: 'orders',
      ShardToSplit: 'shardId-000000000000',
      NewStartingHashKey: '99',
    });
    expect(status()).toBe('UPDATING');
    expect(put(1)).toBe(0);
    await clock.advance(500);
    expect(engine.streams.get('orders')?.openShards).toHaveLength(2);
  });

  it('sends a fan-out consumer 2 MiB a second and no more', async () => {
    const { clock, engine, put } = setup({ writeBytesPerSecond: null });
    put(20, 500_000);
    const registered = engine.execute('RegisterStreamConsumer', {
      StreamARN: engine.streamArn('orders'),
      ConsumerName: 'app',
    });
    const { ConsumerARN } = registered['Consumer'] as { ConsumerARN: string };
    const subscription = engine.subscribe({
      ConsumerARN,
      ShardId: 'shardId-000000000000',
      StartingPosition: { Type: 'TRIM_HORIZON' },
    });
    const drain = (): number => {
      let records = 0;
      for (let event = subscription.next(); event; event = subscription.next())
        records += event.Records.length;
      return records;
    };
    expect(drain()).toBeLessThanOrEqual(6);
    expect(subscription.waitMs).toBeGreaterThan(0);
    let seconds = 0;
    for (let got = 6; got < 20; seconds += 1) {
      await clock.advance(1_000);
      const now = drain();
      expect(now).toBeLessThanOrEqual(6);
      got += now;
    }
    expect(seconds).toBeGreaterThanOrEqual(3);
  });

  it('limits the rate of control-plane calls, operation by operation', async () => {
    const { clock, engine } = setup();
    const describe = (): unknown => engine.execute('DescribeLimits', {});
    describe();
    expect(describe).toThrow(expect.objectContaining({ name: 'LimitExceededException' }));
    engine.execute('ListStreams', {});
    await clock.advance(1_000);
    describe();
  });

  it('keeps to the quotas of shards, streams and consumers', async () => {
    const limited = expect.objectContaining({ name: 'LimitExceededException' });
    const { engine, clock } = setup({
      shardQuota: 3,
      onDemandStreamQuota: 1,
      consumersPerStream: 1,
      callsPerSecond: { CreateStream: null },
    });
    expect(() => engine.execute('CreateStream', { StreamName: 'big', ShardCount: 3 })).toThrow(
      limited,
    );
    engine.execute('CreateStream', { StreamName: 'small', ShardCount: 2 });
    expect(() =>
      engine.execute('SplitShard', {
        StreamName: 'small',
        ShardToSplit: 'shardId-000000000000',
        NewStartingHashKey: '9',
      }),
    ).toThrow(limited);
    const onDemand = { StreamModeDetails: { StreamMode: 'ON_DEMAND' } };
    engine.execute('CreateStream', { StreamName: 'auto', ...onDemand });
    expect(() => engine.execute('CreateStream', { StreamName: 'auto-2', ...onDemand })).toThrow(
      limited,
    );
    const register = (ConsumerName: string) => () =>
      engine.execute('RegisterStreamConsumer', {
        StreamARN: engine.streamArn('orders'),
        ConsumerName,
      });
    register('a')();
    expect(register('b')).toThrow(limited);
    const slow = setup({ creatingAtOnce: 1 }, 1_000);
    expect(() =>
      slow.engine.execute('CreateStream', { StreamName: 'second', ShardCount: 1 }),
    ).toThrow(limited);
    await slow.clock.advance(1_000);
    slow.engine.execute('CreateStream', { StreamName: 'second', ShardCount: 1 });
    expect(clock.pending).toBe(0);
  });

  it('allows ten shard count updates a day', async () => {
    const { clock, engine } = setup({ callsPerSecond: { UpdateShardCount: null } });
    const scale = (TargetShardCount: number): unknown =>
      engine.execute('UpdateShardCount', {
        StreamName: 'orders',
        TargetShardCount,
        ScalingType: 'UNIFORM_SCALING',
      });
    for (let update = 0; update < 10; update += 1) scale(update % 2 === 0 ? 2 : 1);
    expect(() => scale(2)).toThrow(expect.objectContaining({ name: 'LimitExceededException' }));
    await clock.advance(86_400_001);
    scale(2);
  });

  it('keeps hash ranges whole and sequence numbers in order through any resharding', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.nat()), { maxLength: 30 }), (changes) => {
        const { engine } = setup({ callsPerSecond: { SplitShard: null, MergeShards: null } });
        const stream = engine.streams.get('orders');
        for (const [isSplit, pick] of changes) {
          const open = [...(stream?.openShards ?? [])].sort((a, b) =>
            a.birth.range.start < b.birth.range.start ? -1 : 1,
          );
          const at = pick % open.length;
          const [first, second] = [open[at], open[at + 1]];
          if (isSplit && first) {
            const { start, end } = first.birth.range;
            engine.execute('SplitShard', {
              StreamName: 'orders',
              ShardToSplit: first.id,
              NewStartingHashKey: String(start + (end - start) / 2n),
            });
          } else if (first && second) {
            engine.execute('MergeShards', {
              StreamName: 'orders',
              ShardToMerge: second.id,
              AdjacentShardToMerge: first.id,
            });
          }
        }
        expect(findHoles((stream?.openShards ?? []).map(({ birth }) => birth.range))).toEqual([]);
        for (const shard of stream?.shards ?? []) {
          for (const child of shard.children)
            expect([child.birth.parentShardId, child.birth.adjacentParentShardId]).toContain(
              shard.id,
            );
          expect(shard.isOpen).toBe(shard.children.length === 0);
          const end = shard.endingSequenceNumber ?? 'SHARD_END';
          expect(compareSequenceNumbers(shard.startingSequenceNumber, end)).toBeLessThan(0);
        }
      }),
      { numRuns: 40 },
    );
  });

  it('splits a shard of an on-demand stream that throttles, if told to', async () => {
    const clock = new ManualClock();
    const engine = new KinesisEngine({ clock, splitOnDemand: true });
    engine.execute('CreateStream', {
      StreamName: 'auto',
      StreamModeDetails: { StreamMode: 'ON_DEMAND' },
    });
    const Records = Array.from({ length: 500 }, () => ({
      PartitionKey: 'k',
      ExplicitHashKey: '0',
      Data: Buffer.alloc(1),
    }));
    for (let call = 0; call < 3; call += 1)
      engine.execute('PutRecords', { StreamName: 'auto', Records });
    await clock.advance(1);
    expect(engine.streams.get('auto')?.openShards).toHaveLength(5);
  });

  it('keeps at most so many bytes in a shard, the newest', () => {
    const clock = new ManualClock();
    const engine = new KinesisEngine({ clock, limits: false, maxShardBytes: 100_000 });
    engine.execute('CreateStream', { StreamName: 'orders', ShardCount: 1 });
    for (let index = 0; index < 100; index += 1) {
      engine.execute('PutRecord', {
        StreamName: 'orders',
        PartitionKey: 'k',
        Data: Buffer.alloc(9_999, index),
      });
    }
    const records = engine.stored('orders').get('shardId-000000000000') ?? [];
    expect(records.length).toBeGreaterThanOrEqual(8);
    expect(records.length).toBeLessThanOrEqual(10);
    expect(records.at(-1)?.Data[0]).toBe(99);
  });

  it('shows a stale listing, expired iterators and skewed timestamps on command', async () => {
    const { clock, engine, put, iterator, read } = setup();
    await clock.advance(10_000);
    engine.listingLagMs = 5_000;
    engine.execute('SplitShard', {
      StreamName: 'orders',
      ShardToSplit: 'shardId-000000000000',
      NewStartingHashKey: '9',
    });
    const listed = (): unknown[] =>
      engine.execute('ListShards', { StreamName: 'orders', ShardFilter: { Type: 'AT_LATEST' } })[
        'Shards'
      ] as unknown[];
    expect(listed()).toHaveLength(1);
    await clock.advance(5_001);
    expect(listed()).toHaveLength(2);
    const from = iterator('TRIM_HORIZON');
    engine.expireIterators();
    expect(() => read(from)).toThrow(expect.objectContaining({ name: 'ExpiredIteratorException' }));
    engine.timestampSkewMs = -60_000;
    put(1);
    const [record] = [...engine.stored('orders').values()].flat();
    expect(record?.ApproximateArrivalTimestamp.getTime()).toBe(clock.now() - 60_000);
  });

  it('distributes records itself on AUTO streams, keys or not', () => {
    const engine = new KinesisEngine({
      clock: new ManualClock(),
      limits: false,
      random: seededRandom(3),
    });
    engine.execute('CreateStream', {
      StreamName: 'auto',
      StreamModeDetails: { StreamMode: 'ON_DEMAND' },
      RecordDistributionStrategy: 'AUTO',
    });
    for (let index = 0; index < 100; index += 1)
      engine.execute('PutRecord', { StreamName: 'auto', Data: Buffer.alloc(1) });
    const counts = [...engine.stored('auto').values()].map((records) => records.length);
    expect(counts.every((count) => count > 10)).toBe(true);
    expect(engine.stored('auto').get('shardId-000000000000')?.[0]?.PartitionKey).toBeUndefined();
  });

  it('takes records of up to 10 MiB where the stream does', () => {
    const { engine } = setup(false);
    const large = { StreamName: 'orders', PartitionKey: 'k', Data: Buffer.alloc(5 * 2 ** 20) };
    expect(() => engine.execute('PutRecord', large)).toThrow(
      expect.objectContaining({ name: 'ValidationException' }),
    );
    engine.execute('UpdateMaxRecordSize', {
      StreamARN: engine.streamArn('orders'),
      MaxRecordSizeInKiB: 10_240,
    });
    expect(engine.execute('PutRecord', large)).toMatchObject({ ShardId: 'shardId-000000000000' });
  });
});
