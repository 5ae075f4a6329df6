import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { KinesisEngine } from '@shardline/local';
import { DiskSpill, Producer, type UndeliverableRecord } from '@shardline/producer';
import { ByteBudget, decodeRecords, hashKeyOf } from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';

import { HotKeys } from '../src/hot-keys.js';
import { InFlightLimit } from '../src/in-flight-limit.js';
import { Pace } from '../src/pace.js';
import { EnginePort } from './engine-port.js';
import { FakePort, serviceError } from './fake-port.js';
import { finish, setup } from './setup.js';

describe('a stream whose records the service distributes itself', () => {
  it("gets each record by itself, wherever it lands, unthrottled by one shard's pace", async () => {
    const { clock, port, producer } = setup({}, 4);
    port.isSelfDistributing = true;
    const puts = Array.from({ length: 2_000 }, (_, index) =>
      producer.put({ partitionKey: `k${index}`, data: 'x' }),
    );
    await finish(clock, Promise.all(puts));
    expect(clock.monotonicMs()).toBeLessThan(500);
    expect(port.requests.flatMap(({ entries }) => entries)).toHaveLength(2_000);
    expect(producer.stats().resentEntries).toBe(0);
    await producer.close();
  });

  it('gets aggregates only if the user says that readers can take them', async () => {
    const { clock, port, producer } = setup({ aggregation: 'always' }, 4);
    port.isSelfDistributing = true;
    await finish(
      clock,
      Promise.all([1, 2, 3].map((n) => producer.put({ partitionKey: `k${n}`, data: 'x' }))),
    );
    expect(port.requests.flatMap(({ entries }) => entries)).toHaveLength(1);
  });

  it('is noticed when it becomes one, and when it ceases to be', async () => {
    const { clock, port, producer } = setup({ shardMapMaxAgeMs: 1_000 }, 2);
    const putTwo = () =>
      finish(
        clock,
        Promise.all(
          ['a', 'b'].map((key) =>
            producer.put({ partitionKey: key, explicitHashKey: '0', data: 'x' }),
          ),
        ),
      );
    const sent = async (): Promise<number> => {
      await clock.advance(1_100);
      await putTwo();
      const before = port.requests.flatMap(({ entries }) => entries).length;
      await putTwo();
      return port.requests.flatMap(({ entries }) => entries).length - before;
    };
    expect(await sent()).toBe(1);
    port.isSelfDistributing = true;
    expect(await sent()).toBe(2);
    port.isSelfDistributing = false;
    expect(await sent()).toBe(1);
    await producer.close();
    expect(clock.pending).toBe(0);
  });
});

describe('time limits', () => {
  it('give a record up while its request is under way, once, and take no notice of the answer', async () => {
    const { clock, port, producer } = setup({ recordTtlMs: 500, requestTimeoutMs: 60_000 });
    port.latencyMs = 2_000;
    const put = producer.put({ partitionKey: 'k', data: 'x' });
    put.catch(() => {});
    await clock.advance(499);
    expect(producer.stats().userRecordsFailed).toBe(0);
    await clock.advance(1);
    await expect(put).rejects.toMatchObject({
      code: 'RECORD_EXPIRED',
      message: expect.stringContaining('under way') as string,
    });
    await clock.advance(3_000);
    expect(producer.stats()).toMatchObject({
      userRecordsDelivered: 0,
      userRecordsFailed: 1,
      expiredRecords: 1,
      bufferedBytes: 0,
    });
    await producer.close();
    expect(clock.pending).toBe(0);
  });

  it('hold for records that wait for the first listing of the shards', async () => {
    const { clock, port, producer } = setup({ recordTtlMs: 3_000, whenRefused: 'wait' });
    port.describe = () => Promise.reject(serviceError('ResourceNotFoundException'));
    const put = producer.put({ partitionKey: 'k', data: 'x' });
    await expect(finish(clock, put)).rejects.toMatchObject({ name: 'PutError' });
    expect(clock.monotonicMs()).toBeGreaterThanOrEqual(3_000);
    await producer.close();
    expect(clock.pending).toBe(0);
  });
});

describe('whenRefused', () => {
  it('waits out a missing stream and refused credentials if told to', async () => {
    const { clock, port, producer } = setup({ whenRefused: 'wait' });
    const describe = port.describe.bind(port);
    port.describe = () => Promise.reject(serviceError('ResourceNotFoundException'));
    const put = producer.put({ partitionKey: 'k', data: 'x' });
    await clock.advance(2_500);
    port.describe = describe;
    await finish(clock, put);
    port.failures.push(
      serviceError('AccessDeniedException'),
      serviceError('AccessDeniedException'),
    );
    expect(
      (await finish(clock, producer.put({ partitionKey: 'k', data: 'x' }))).attempts,
    ).toHaveLength(3);
    await producer.close();
  });
});

describe('idempotent', () => {
  it('marks each record with an origin of its own that its copies share', async () => {
    const { clock, port, producer } = setup({ idempotent: true, requestTimeoutMs: 100 }, 2);
    port.latencyMs = 1_000;
    const puts = Promise.all(
      ['a', 'b', 'c'].map((key) => producer.put({ partitionKey: key, data: key })),
    );
    await clock.advance(150);
    port.latencyMs = 10;
    await finish(clock, puts);
    await finish(clock, producer.put({ partitionKey: 'lone', data: 'x' }));
    const originsOf = (request: number): (string | undefined)[] =>
      decodeRecords(
        (port.requests[request]?.entries ?? []).map(({ payload }) => ({ Data: payload })),
      ).map(({ origin }) => origin);
    expect(new Set(originsOf(0)).size).toBe(3);
    expect(port.requests.length).toBeGreaterThan(2);
    for (let request = 1; request < port.requests.length - 1; request += 1) {
      expect(new Set(originsOf(request))).toEqual(new Set(originsOf(0)));
    }
    expect(originsOf(port.requests.length - 1)).toEqual([
      expect.stringMatching(/^[0-9a-f]{12}:4$/),
    ]);
    await producer.close();
  });

  it('needs aggregation', () => {
    expect(() => setup({ idempotent: true, aggregation: false })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION' }),
    );
  });
});

describe('ten producers that know nothing of each other', () => {
  it('share a shard fairly and use most of it', async () => {
    const clock = new ManualClock();
    const engine = new KinesisEngine({ clock });
    engine.execute('CreateStream', { StreamName: 'orders', ShardCount: 1 });
    const delivered = Array.from({ length: 10 }, () => 0);
    const producers = delivered.map(
      (_, index) =>
        new Producer(
          {
            streamName: 'orders',
            clock,
            random: seededRandom(index),
            aggregation: false,
            recordTtlMs: 600_000,
            maxBufferRecords: 300,
            onOutcome: ({ stored, userRecords }) => {
              if (stored && clock.monotonicMs() > 20_000)
                delivered[index] = (delivered[index] ?? 0) + userRecords;
            },
          },
          new EnginePort(engine, clock, 10),
        ),
    );
    while (clock.monotonicMs() < 60_000) {
      for (const producer of producers) while (producer.offer({ partitionKey: 'k', data: 'x' }));
      await clock.advance(100);
    }
    const total = delivered.reduce((sum, count) => sum + count, 0);
    const mean = total / 10;
    expect(total / 40).toBeGreaterThan(800);
    expect(Math.min(...delivered)).toBeGreaterThan(mean * 0.5);
    expect(Math.max(...delivered)).toBeLessThan(mean * 1.5);
    const throttled = producers.reduce(
      (sum, producer) => sum + producer.stats().throttledEntries,
      0,
    );
    expect(throttled).toBeLessThan(total);
    const closing = Promise.all(producers.map((producer) => producer.close({ timeoutMs: 1_000 })));
    await finish(clock, closing);
  }, 60_000);
});

describe('a stream that is resharded under load', () => {
  it('gives a reader that checks ranges as the KCL does every acknowledged record once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer(),
        fc.constantFrom('none' as const, 'strict' as const),
        async (seed, ordering) => {
          const clock = new ManualClock();
          const random = seededRandom(seed);
          const engine = new KinesisEngine({ clock, limits: false, random });
          engine.execute('CreateStream', { StreamName: 'orders', ShardCount: 3 });
          const stream = engine.streams.get('orders');
          const producer = new Producer(
            {
              streamName: 'orders',
              clock,
              random,
              ordering,
              shardMapMaxAgeMs: 1_000,
              recordTtlMs: 600_000,
            },
            new EnginePort(engine, clock, 15),
          );
          const acknowledged: string[] = [];
          const puts: Promise<unknown>[] = [];
          for (let round = 0; round < 60; round += 1) {
            for (let index = 0; index < 8; index += 1) {
              const data = `${round}-${index}`;
              const put = producer.put({ partitionKey: `key-${Math.floor(random() * 40)}`, data });
              puts.push(put.then(() => acknowledged.push(data)));
            }
            const open = [...(stream?.openShards ?? [])].sort((a, b) =>
              a.birth.range.start < b.birth.range.start ? -1 : 1,
            );
            const at = Math.floor(random() * open.length);
            const [first, second] = [open[at], open[at + 1]];
            const dice = random();
            if (first && dice < 0.2) {
              const { start, end } = first.birth.range;
              engine.execute('SplitShard', {
                StreamName: 'orders',
                ShardToSplit: first.id,
                NewStartingHashKey: String(start + (end - start) / 2n),
              });
            } else if (first && second && dice < 0.4) {
              engine.execute('MergeShards', {
                StreamName: 'orders',
                ShardToMerge: first.id,
                AdjacentShardToMerge: second.id,
              });
            }
            await clock.advance(random() * 30);
          }
          await finish(clock, Promise.all(puts));
          const read = (stream?.shards ?? []).flatMap(({ records, birth }) =>
            decodeRecords(records, { hashRange: birth.range, rangeCheck: 'aggregate' }).map(
              ({ data }) => data.toString(),
            ),
          );
          expect(acknowledged).toHaveLength(480);
          expect(read.sort()).toEqual(acknowledged.sort());
          await finish(clock, producer.close());
          expect(clock.pending).toBe(0);
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);
});

describe('a stream that is down for an hour', () => {
  it('costs no more than the buffer, and loses nobody', async () => {
    let outcomes = 0;
    const { clock, port, producer } = setup({
      maxBufferBytes: 65_536,
      recordTtlMs: 60_000,
      onOutcome: ({ userRecords }) => (outcomes += userRecords),
    });
    port.putRecords = () => Promise.reject(serviceError('ServiceUnavailable'));
    let taken = 0;
    let most = 0;
    while (clock.monotonicMs() < 3_600_000) {
      while (producer.offer({ partitionKey: `k${taken % 50}`, data: Buffer.alloc(1_000) }))
        taken += 1;
      most = Math.max(most, producer.stats().bufferedBytes);
      await clock.advance(10_000);
    }
    expect(most).toBeLessThanOrEqual(65_536);
    await finish(clock, producer.close({ timeoutMs: 100 }));
    expect(outcomes).toBe(taken);
    expect(clock.pending).toBe(0);
  });
});

describe('producers that share', () => {
  it('wake one another when there is room', async () => {
    const budget = new ByteBudget(2_000);
    const { clock, producer: a } = setup({ budget, onOutcome: () => {} });
    const b = new Producer(
      { streamName: 'orders', clock, budget, onOutcome: () => {} },
      new FakePort(clock, 1),
    );
    const record = { partitionKey: 'k', data: Buffer.alloc(1_500) };
    expect([a.offer(record), b.offer(record)]).toEqual([true, false]);
    await finish(clock, b.drain());
    expect(b.offer(record)).toBe(true);
    await finish(clock, Promise.all([a.close(), b.close()]));
  });

  it('keep to one byte budget together', async () => {
    const budget = new ByteBudget(2_000);
    const clock = new ManualClock();
    const make = () =>
      new Producer(
        { streamName: 'orders', clock, budget, onOutcome: () => {} },
        new FakePort(clock, 1),
      );
    const [a, b] = [make(), make()];
    expect([
      a.offer({ data: Buffer.alloc(900) }),
      b.offer({ data: Buffer.alloc(900) }),
      b.offer({ data: Buffer.alloc(900) }),
    ]).toEqual([true, true, false]);
    await finish(clock, Promise.all([a.close(), b.close()]));
    expect(budget.usedBytes).toBe(0);
  });
});

describe('closeOnSigterm', () => {
  it('closes on the signal, and leaves no listener after close', async () => {
    const before = process.listenerCount('SIGTERM');
    const { clock, producer } = setup({ closeOnSigterm: true });
    expect(process.listenerCount('SIGTERM')).toBe(before + 1);
    await finish(clock, producer.close());
    expect(process.listenerCount('SIGTERM')).toBe(before);
  });
});

describe('diagnostics', () => {
  it('tell what became of each Kinesis record, without its data or key', async () => {
    const heard: unknown[] = [];
    const listen = (message: unknown): void => void heard.push(message);
    subscribe('shardline:producer:settled', listen);
    const { clock, port, producer } = setup({ recordTtlMs: 300 }, 1);
    await finish(
      clock,
      Promise.all(
        ['secret-key', 'b'].map((key) => producer.put({ partitionKey: key, data: 'secret-data' })),
      ),
    );
    port.answer = () => 'InternalFailure';
    await finish(
      clock,
      producer.put({ partitionKey: 'secret-key', data: 'secret-data' }).catch(() => {}),
    );
    unsubscribe('shardline:producer:settled', listen);
    expect(heard).toEqual([
      {
        streamName: 'orders',
        userRecords: 2,
        attempts: 1,
        ageMs: 10,
        shardId: 'shard-0',
        error: undefined,
      },
      {
        streamName: 'orders',
        userRecords: 1,
        attempts: expect.any(Number) as number,
        ageMs: 300,
        shardId: undefined,
        error: 'RECORD_EXPIRED',
      },
    ]);
    expect(JSON.stringify([heard, producer.stats()])).not.toContain('secret');
    expect(producer.stats()).toMatchObject({
      userRecordsReceived: 3,
      errorsByCode: { InternalFailure: expect.any(Number) as number },
    });
    await finish(clock, producer.close());
  });

  it('name hot keys by their hash, and slow shards', async () => {
    const { clock, port, producer } = setup({ trackHotKeys: true }, 2);
    await finish(clock, producer.put({ partitionKey: 'other', data: 'x' }));
    port.answer = ({ explicitHashKey }) =>
      explicitHashKey === '0' ? 'ProvisionedThroughputExceededException' : undefined;
    const slow = producer.put({ partitionKey: 'k', explicitHashKey: '0', data: 'x' });
    slow.catch(() => {});
    for (let index = 0; index < 20; index += 1)
      await finish(clock, producer.put({ partitionKey: 'pk1', data: 'x' }));
    const { hotKeys, slowestShards, oldestWaitingMs } = producer.stats();
    expect(hotKeys[0]).toEqual({
      hashKeyPrefix: hashKeyOf('pk1').toString(16).padStart(32, '0').slice(0, 16),
      records: 20,
      error: 0,
    });
    expect(slowestShards).toMatchObject([{ shardId: 'shard-0' }]);
    expect(oldestWaitingMs).toBeGreaterThan(100);
    port.answer = () => undefined;
    await finish(clock, producer.close());
  });
});

describe('DiskSpill', () => {
  const folders: string[] = [];
  const folder = (): string => {
    const made = mkdtempSync(join(tmpdir(), 'shardline-'));
    folders.push(made);
    return made;
  };
  afterEach(() => {
    for (const made of folders.splice(0)) rmSync(made, { recursive: true });
  });
  const record = (data: string, explicitHashKey?: string): UndeliverableRecord => ({
    partitionKey: `key of ${data.slice(0, 20)}`,
    explicitHashKey,
    data: Buffer.from(data),
    error: new Error() as UndeliverableRecord['error'],
  });

  it('keeps what could not be delivered and replays it in order, after a restart too', async () => {
    const path = folder();
    const spill = new DiskSpill({ folder: path });
    const { clock, port, producer } = setup({ recordTtlMs: 200, onUndeliverable: spill.take }, 1);
    port.answer = () => 'InternalFailure';
    const puts = Array.from({ length: 5 }, (_, index) =>
      producer.put({ partitionKey: 'k', data: String(index) }).catch(() => {}),
    );
    await finish(clock, Promise.all(puts));
    await finish(clock, producer.close());
    const again = new DiskSpill({ folder: path });
    expect(again.bytes).toBeGreaterThan(0);
    const next = setup({}, 1);
    expect(await finish(next.clock, again.replay(next.producer))).toBe(5);
    expect(next.port.readableByKey().get('k')).toEqual(['0', '1', '2', '3', '4']);
    expect(new DiskSpill({ folder: path }).bytes).toBe(0);
  });

  it('keeps what cannot be replayed', async () => {
    const spill = new DiskSpill({ folder: folder() });
    spill.take([record('a', '5'), record('b'), record('c')]);
    const { clock, port, producer } = setup({ recordTtlMs: 300 }, 1);
    port.answer = ({ payload }) =>
      decodeRecords([{ Data: payload }]).some(({ data }) => data.toString() === 'b')
        ? 'InternalFailure'
        : undefined;
    await expect(finish(clock, spill.replay(producer))).rejects.toMatchObject({
      code: 'RECORD_EXPIRED',
    });
    port.answer = () => undefined;
    await finish(clock, spill.replay(producer));
    expect(spill.bytes).toBe(0);
    expect([...port.stored.values()].flat()).toEqual(
      expect.arrayContaining(['key of a=a', 'key of b=b', 'key of c=c']),
    );
  });

  it('keeps a record once when its own producer fails to replay it', async () => {
    const spill = new DiskSpill({ folder: folder() });
    spill.take([record('a'), record('b'), record('c')]);
    const { bytes } = spill;
    const { clock, port, producer } = setup({ recordTtlMs: 300, onUndeliverable: spill.take }, 1);
    port.answer = () => 'InternalFailure';
    const replay = spill.replay(producer);
    const other = producer.put({ partitionKey: 'k', data: 'a' }).catch(() => {});
    await expect(finish(clock, replay)).rejects.toMatchObject({ code: 'RECORD_EXPIRED' });
    await other;
    expect(spill.bytes).toBeGreaterThan(bytes);
    port.answer = () => undefined;
    expect(await finish(clock, spill.replay(producer))).toBe(4);
    expect(port.stored.get('shard-0')).toEqual(['key of a=a', 'key of b=b', 'key of c=c', 'k=a']);
  });

  it('loses no whole record to a crash at any byte of a write', () => {
    const path = folder();
    const file = join(path, 'undeliverable.records');
    new DiskSpill({ folder: path }).take([record('one'), record('two'), record('three')]);
    const whole = readFileSync(file);
    const ends = ['one', 'two', 'three'].map(
      (name) =>
        whole.indexOf(name, whole.indexOf(`key of ${name}`) + 7 + name.length) + name.length,
    );
    fc.assert(
      fc.property(fc.integer({ min: 0, max: whole.length }), (cut) => {
        writeFileSync(file, whole.subarray(0, cut));
        const kept = Math.max(0, ...ends.filter((end) => end <= cut));
        const spill = new DiskSpill({ folder: path });
        expect(spill.bytes).toBe(kept);
        spill.take([record('after')]);
        expect(new DiskSpill({ folder: path }).bytes).toBe(spill.bytes);
        expect(readFileSync(file).subarray(0, kept).equals(whole.subarray(0, kept))).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('is bounded, counting what it could not keep', () => {
    const spill = new DiskSpill({ folder: folder(), maxBytes: 2 ** 20 });
    spill.take([record('x'.repeat(600_000)), record('y'.repeat(600_000)), record('z')]);
    expect(spill.dropped).toBe(1);
    expect(spill.bytes).toBeLessThanOrEqual(2 ** 20);
  });

  it('sets aside what it cannot read', async () => {
    const path = folder();
    new DiskSpill({ folder: path }).take([record('one'), record('two')]);
    appendFileSync(join(path, 'undeliverable.records'), 'garbage');
    const spill = new DiskSpill({ folder: path });
    const { clock, port, producer } = setup({}, 1);
    expect(await finish(clock, spill.replay(producer))).toBe(2);
    expect([...port.stored.values()].flat()).toHaveLength(2);
    expect(readFileSync(join(path, 'undeliverable.records.damaged'), 'utf8')).toBe('garbage');
  });
});

describe('the pure parts', () => {
  it('HotKeys finds every key with more than its share of the space', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(60), { minLength: 1, maxLength: 600 }), (keys) => {
        const sketch = new HotKeys(10);
        const counts = new Map<number, number>();
        for (const key of keys) {
          sketch.add(new Uint32Array([key, 0, 0, 0]));
          counts.set(key, (counts.get(key) ?? 0) + 1);
        }
        const top = new Map(
          sketch.top(10).map((each) => [Number.parseInt(each.hashKeyPrefix.slice(0, 8), 16), each]),
        );
        for (const [key, count] of counts) {
          if (count <= keys.length / 10) continue;
          const found = top.get(key);
          expect(found && found.records >= count && found.records - found.error <= count).toBe(
            true,
          );
        }
      }),
    );
  });

  it('InFlightLimit stays within 1 and its maximum, grows when used and halves on failure', () => {
    const limit = new InFlightLimit(16);
    expect(limit.value).toBe(4);
    for (let answer = 0; answer < 500; answer += 1) limit.onAnswered(limit.value);
    expect(limit.value).toBe(16);
    limit.onAnswered(1);
    limit.onFailed(0);
    limit.onFailed(50);
    expect(limit.value).toBe(8);
    for (let failure = 1; failure < 20; failure += 1) limit.onFailed(failure * 100);
    expect(limit.value).toBe(1);
    limit.onAnswered(0);
    expect(limit.value).toBe(1);
  });

  it('Pace never lets more through than quota and burst, in any pattern of sending', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(200), fc.nat(100_000)), { maxLength: 300 }), (sends) => {
        const pace = new Pace(0);
        let nowMs = 0;
        let records = 0;
        let bytes = 0;
        for (const [pauseMs, size] of sends) {
          nowMs += pauseMs;
          if (pace.waitMs(nowMs) > 0) continue;
          pace.spend(size);
          records += 1;
          bytes += size;
          expect(records).toBeLessThanOrEqual(101 + nowMs);
          // The last one may go into debt.
          expect(bytes - size).toBeLessThanOrEqual(2 ** 20 * (0.1 + nowMs / 1_000) + 1);
        }
      }),
    );
  });
});
