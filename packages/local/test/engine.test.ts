import { KinesisEngine, type Limits, type Output } from '@shardline/local';
import { ManualClock } from '@shardline/shared/testing';
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
    await clock.advance(3_000);
    expect(() => read(from)).toThrow(refused);
    await clock.advance(1_000);
    const tip = iterator('LATEST');
    for (let call = 0; call < 5; call += 1) read(tip);
    expect(() => read(tip)).toThrow(refused);
    await clock.advance(200);
    read(tip);
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
});
