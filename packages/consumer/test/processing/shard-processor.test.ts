import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import type { HandlerContext, WindowCall } from '@shardline/consumer';
import { ByteBudget, sealEnvelope, sleep, type UserRecord } from '@shardline/shared';
import { ManualClock, seededRandom, settle } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { judgeFailure } from '../../src/processing/failure-policy.js';
import { ReadBound } from '../../src/processing/read-bound.js';
import { sliceByWindow } from '../../src/processing/tumbling-window.js';
import { memoryStore, numberOf, records, rig, SHARD } from './processor-setup.js';

const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

describe('what happens to records between reading and checkpointing', () => {
  it('waits for what a handler returns, also for a promise of another library', async () => {
    const clock = new ManualClock();
    const endings: (() => void)[] = [];
    const OtherPromise = runInNewContext('Promise') as PromiseConstructor;
    const foreign = (): Promise<void> => new OtherPromise((resolve) => endings.push(resolve));
    expect(OtherPromise).not.toBe(Promise);
    for (const handler of [{ processRecord: foreign }, { processBatch: foreign }]) {
      const { processor, accept } = await rig(clock, { handler });
      await accept(records(0, 1));
      await settle();
      expect(processor.counts.handledRecords).toBe(0);
      for (const end of endings.splice(0)) end();
      await settle();
      expect(processor.counts.handledRecords).toBe(1);
      await processor.idle();
    }
  });

  it('leaves nothing of what was handled to a collection of all of the heap', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as (options?: { readonly type: 'minor' }) => void;
    const { processor, accept } = await rig(new ManualClock(), {
      handler: { processBatch: () => {} },
    });
    const handle = async (batches: number): Promise<void> => {
      for (let batch = 0; batch < batches; batch += 1) {
        await accept(records(batch * 1_000, (batch + 1) * 1_000));
        await processor.idle();
      }
    };
    await handle(20);
    collect();
    const before = process.memoryUsage().heapUsed;
    await handle(100);
    collect({ type: 'minor' });
    const leftBytes = process.memoryUsage().heapUsed - before;
    expect(processor.counts.handledRecords).toBe(120_000);
    expect(leftBytes / 100_000).toBeLessThan(100);
  });

  it('takes nothing that a handler of single records returns for a part of a batch', async () => {
    const { processor, accept } = await rig(new ManualClock(), {
      handler: { processRecord: () => ({ retryFrom: 0 }) as unknown as void },
    });
    await accept(records(0, 3));
    await processor.idle();
    expect(processor.counts.handledRecords).toBe(3);
  });

  it('tells a handler of its call, also where that takes the context apart', async () => {
    const told: unknown[] = [];
    const { processor, accept } = await rig(new ManualClock(), {
      handler: {
        processBatch: async (_items: readonly unknown[], context: HandlerContext) => {
          const { streamName, shardId, position, attempt, signal, checkpoint } = context;
          const { records: given, millisBehindLatest } = context;
          told.push({ streamName, shardId, position, attempt, millisBehindLatest });
          told.push(given.length, signal.aborted, await checkpoint());
        },
      },
    });
    await accept(records(0, 2), { millisBehindLatest: 70 });
    await processor.idle();
    const position = { sequenceNumber: '1001', subSequenceNumber: 0 };
    expect(told).toEqual([
      { streamName: 'orders', shardId: SHARD, position, attempt: 1, millisBehindLatest: 70 },
      2,
      false,
      position,
    ]);
  });

  it('survives a crash at any point: nothing is lost, keys stay in order, only what was not stored comes again', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 5 }),
        fc.nat(400),
        fc.nat(400),
        fc.integer(),
        async (count, concurrency, keys, storedMs, crashedMs, seed) => {
          const clock = new ManualClock();
          const random = seededRandom(seed);
          const store = memoryStore();
          const finished: { readonly number: number; readonly worker: string }[] = [];
          const handlerOf = (worker: string) => ({
            processRecord: async (record: UserRecord, { signal }: HandlerContext) => {
              await sleep(clock, 1 + random() * 40, signal);
              if (random() < 0.1) throw new Error('simulated');
              finished.push({ number: numberOf(record), worker });
            },
          });
          const first = await rig(clock, { handler: handlerOf('a'), concurrency, random }, store);
          await first.accept(records(0, count, { keys }));
          await clock.advance(storedMs);
          const progress = first.processor.progress;
          await first.held.checkpoint(progress);
          const known = new Set(finished.map(({ number }) => number));
          await clock.advance(crashedMs);
          first.handling.abort(new Error('crashed'));
          first.processor.stop();
          await clock.advance(1);
          const before = finished.length;
          const second = await rig(
            clock,
            { handler: handlerOf('b'), concurrency, random },
            store,
            'b',
          );
          await second.accept(records(0, count, { keys }));
          const idle = second.processor.idle();
          await clock.advance(600_000);
          await idle;
          const byB = finished.slice(before).map(({ number }) => number);
          expect(new Set(finished.map(({ number }) => number)).size).toBe(count);
          // What was finished when the position was stored is never given again.
          expect(byB.filter((number) => known.has(number))).toEqual([]);
          for (let key = 0; key < keys; key += 1) {
            for (const worker of ['a', 'b']) {
              const own = finished.filter(
                (done) => done.worker === worker && done.number % keys === key,
              );
              expect(own).toEqual([...own].sort((a, b) => a.number - b.number));
            }
          }
          expect(second.processor.progress.checkpoint.sequenceNumber).toBe(
            String(1_000 + count - 1),
          );
          expect(second.processor.openCount).toBe(0);
          expect(clock.pending).toBe(2);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('remembers what a former owner had handled further on, though it has not come to it', async () => {
    const clock = new ManualClock();
    const store = memoryStore();
    const done: number[] = [];
    const handler = {
      processRecord: (record: unknown) => {
        const number = numberOf(record as UserRecord);
        if (number === 0 && done.length < 7) throw new Error('stuck');
        done.push(number);
      },
    };
    const first = await rig(clock, { handler, concurrency: 8 }, store);
    await first.accept(records(0, 8, { keys: 8 }));
    await clock.advance(10);
    await first.held.checkpoint(first.processor.progress);
    first.handling.abort();
    const handledByFirst = done.length;
    expect(handledByFirst).toBeGreaterThan(2);
    // The next one is gone again before it has read anything, the one after it with one at a time.
    const second = await rig(clock, { handler }, store, 'b');
    await second.held.checkpoint({ ...second.processor.progress, startAtMs: 5 });
    const third = await rig(clock, { handler }, store, 'c');
    await third.accept(records(0, 8, { keys: 8 }));
    await clock.advance(600_000);
    expect([...done].sort((a, b) => a - b)).toEqual(upTo(8));
  });

  it('lets handlers finish while a large batch is gone through, and goes through all of it', async () => {
    const clock = new ManualClock();
    const done: number[] = [];
    let mostOpen = 0;
    const { processor, accept } = await rig(clock, {
      handler: {
        processRecord: (record) => {
          done.push(numberOf(record as UserRecord));
          mostOpen = Math.max(mostOpen, processor.openCount);
        },
      },
    });
    let isAccepted = false;
    const accepted = accept(records(0, 20_000)).then(() => (isAccepted = true));
    while (done.length < 5_000) await new Promise((resolve) => setImmediate(resolve));
    expect(isAccepted).toBe(false);
    await accepted;
    await settle();
    expect(done).toEqual(upTo(20_000));
    expect(mostOpen).toBeLessThan(5_000);
  });

  it('gives back the bytes of all that was read, handled or not', async () => {
    const clock = new ManualClock();
    const handler = { processRecord: (): Promise<void> => sleep(clock, 10) };
    const budget = new ByteBudget(1_000);
    const { processor, accept } = await rig(clock, { handler, budget });
    await accept(records(0, 10));
    expect(budget.usedBytes).toBe(10);
    await clock.advance(35);
    processor.stop();
    await clock.advance(10);
    expect(processor.counts.handledRecords).toBe(4);
    expect(budget.usedBytes).toBe(0);
  });

  it('halves a batch that fails until the record that fails is alone, and handles the others', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.uniqueArray(fc.nat(39), { maxLength: 4 }),
        async (count, poison) => {
          const clock = new ManualClock();
          const done: number[] = [];
          const dead: number[] = [];
          const { processor, accept } = await rig(clock, {
            bisectBatches: true,
            maxAttempts: 2,
            deadLetter: (given) => void dead.push(...given.map(numberOf)),
            handler: {
              processBatch: (batch: readonly unknown[]) => {
                const numbers = (batch as UserRecord[]).map(numberOf);
                if (numbers.some((number) => poison.includes(number))) throw new Error('poison');
                done.push(...numbers);
              },
            },
          });
          await accept(records(0, count));
          const idle = processor.idle();
          await clock.advance(1_000_000);
          await idle;
          expect(dead).toEqual(poison.filter((number) => number < count).sort((a, b) => a - b));
          expect(done).toEqual(upTo(count).filter((number) => !poison.includes(number)));
          expect(processor.counts.deadLetteredRecords).toBe(dead.length);
          expect(processor.openCount).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('gives again what a batch handler says it has left, and only that', async () => {
    const clock = new ManualClock();
    const calls: number[][] = [];
    const { processor, accept } = await rig(clock, {
      handler: {
        processBatch: (batch: readonly unknown[]) => {
          const numbers = (batch as UserRecord[]).map(numberOf);
          calls.push(numbers);
          return numbers.length > 3 ? { retryFrom: 3 } : undefined;
        },
      },
    });
    await accept(records(0, 8));
    await clock.advance(100_000);
    expect(calls).toEqual([upTo(8), [3, 4, 5, 6, 7], [6, 7]]);
    expect(processor.position?.sequenceNumber).toBe('1007');
  });

  it('does not believe a batch handler that names a record it was not given', async () => {
    const clock = new ManualClock();
    let answer = 9;
    const { processor, accept } = await rig(clock, {
      handler: { processBatch: () => ({ retryFrom: answer }) },
    });
    await accept(records(0, 3));
    await clock.advance(10_000);
    expect(processor.openCount).toBe(3);
    answer = 3;
    await clock.advance(100_000);
    expect(processor.openCount).toBe(0);
  });

  it('gives up records that are too old, and tries again while the dead letter fails', async () => {
    const clock = new ManualClock();
    const dead: number[] = [];
    let isDown = true;
    const { processor, accept } = await rig(clock, {
      maxRecordAgeMs: 60_000,
      deadLetter: (given, error) => {
        if (isDown) throw new Error('the dead letter is down');
        expect(error).toMatchObject({ message: 'broken' });
        dead.push(...given.map(numberOf));
      },
      handler: {
        processRecord: () => {
          throw new Error('broken');
        },
      },
    });
    await accept(records(0, 1, { arrivedAtMs: clock.now() }));
    await clock.advance(50_000);
    expect(processor.openCount).toBe(1);
    expect(processor.trouble).toMatch(/^the handler failed, attempt \d+$/);
    await clock.advance(100_000);
    expect(dead).toEqual([]);
    isDown = false;
    await clock.advance(60_000);
    expect(dead).toEqual([0]);
    expect(processor.trouble).toBeUndefined();
  });

  it('gives damaged and oversized records to the dead letter if asked, and handles the others', async () => {
    const clock = new ManualClock();
    const done: number[] = [];
    const dead: [string | undefined, unknown][] = [];
    const { processor, accept } = await rig(clock, {
      onDamage: 'deadLetter',
      maxRawBytes: 1_024,
      deadLetter: ([record], error) => void dead.push([record?.damage, error]),
      handler: {
        processBatch: (batch) => void done.push(...(batch as UserRecord[]).map(numberOf)),
      },
    });
    const [a = {}, b = {}, c = {}, d = {}] = records(0, 4);
    const damaged = Buffer.concat([Buffer.from('f3899ac2', 'hex'), Buffer.alloc(40, 1)]);
    const bomb = await sealEnvelope(Buffer.alloc(100_000), 'gzip', 'data');
    await accept([a, { ...b, Data: damaged }, { ...c, Data: bomb }, d]);
    await clock.advance(1_000);
    expect(done).toEqual([0, 3]);
    expect(dead).toEqual([
      ['checksum', expect.objectContaining({ code: 'DAMAGED_RECORD' })],
      ['envelope', expect.objectContaining({ code: 'DAMAGED_RECORD' })],
    ]);
    expect(processor.openCount).toBe(0);
  });

  it('gives handlers what the deserializer makes of a record, and takes what it throws for a failure', async () => {
    const clock = new ManualClock();
    const seen: unknown[] = [];
    let isBroken = true;
    const { processor, accept } = await rig(clock, {
      deserialize: async (record) => {
        await settle();
        if (isBroken && numberOf(record) === 1) throw new Error('not JSON');
        return { value: numberOf(record) };
      },
      handler: {
        processRecord: (item, context) => {
          expect(context.records.map(numberOf)).toEqual([(item as { value: number }).value]);
          seen.push(item);
        },
      },
    });
    await accept(records(0, 3));
    await clock.advance(1_000);
    expect(seen).toEqual([{ value: 0 }]);
    isBroken = false;
    await clock.advance(60_000);
    // The deserializer takes turns of the event loop of its own.
    await clock.advance(1);
    expect(seen).toEqual([{ value: 0 }, { value: 1 }, { value: 2 }]);
    expect(processor.openCount).toBe(0);
  });

  it('passes over what the filter does not want, moves on, and counts it', async () => {
    const clock = new ManualClock();
    const done: number[] = [];
    const { processor, accept } = await rig(clock, {
      filter: (record) => numberOf(record) % 2 === 0,
      handler: { processRecord: (record) => void done.push(numberOf(record as UserRecord)) },
    });
    await accept(records(0, 6));
    await clock.advance(10);
    expect(done).toEqual([0, 2, 4]);
    expect(processor.counts.filteredRecords).toBe(3);
    expect(processor.position?.sequenceNumber).toBe('1005');
  });

  it('stops at its bound: so many records, a time, or what there was at the start', async () => {
    const clock = new ManualClock();
    const done: number[] = [];
    const handler = {
      processRecord: (record: unknown) => void done.push(numberOf(record as UserRecord)),
    };
    const few = await rig(clock, { handler, bound: new ReadBound({ records: 4 }, clock) });
    await few.accept(records(0, 10));
    expect(few.processor.isBoundReached).toBe(true);
    await clock.advance(10);
    expect(done.splice(0)).toEqual([0, 1, 2, 3]);
    expect(few.processor.position?.sequenceNumber).toBe('1003');

    const timestamp = new Date(5_000);
    const timed = await rig(clock, { handler, bound: new ReadBound({ timestamp }, clock) });
    await timed.accept([
      ...records(0, 2, { arrivedAtMs: 4_999 }),
      ...records(2, 4, { arrivedAtMs: 5_000 }),
    ]);
    expect(timed.processor.isBoundReached).toBe(true);
    await clock.advance(10);
    expect(done.splice(0)).toEqual([0, 1]);

    const now = await rig(clock, { handler, bound: new ReadBound('now', clock) });
    await clock.advance(3_000);
    await now.accept(records(0, 2), { millisBehindLatest: 60_000 });
    expect(now.processor.isBoundReached).toBe(false);
    await now.accept(records(2, 4), { millisBehindLatest: 2_900 });
    expect(now.processor.isBoundReached).toBe(true);
  });

  it('does not take a batch that waited for one that has passed its bound', async () => {
    const clock = new ManualClock();
    const handler = { processRecord: () => {} };
    const startedMs = clock.monotonicMs();
    const now = await rig(clock, { handler, bound: new ReadBound('now', clock) });
    await clock.advance(10);
    const askedMs = clock.monotonicMs();
    // What follows arrived twenty milliseconds before the start.
    const stale = { askedMs, millisBehindLatest: askedMs - startedMs + 20 };
    await clock.advance(5_000);
    await now.accept(records(0, 2), stale);
    expect(now.processor.isBoundReached).toBe(false);
    await now.accept(records(2, 4), { askedMs, millisBehindLatest: 0 });
    expect(now.processor.isBoundReached).toBe(true);

    const timestamp = new Date(clock.now() + 1_000);
    const timed = await rig(clock, { handler, bound: new ReadBound({ timestamp }, clock) });
    const early = { askedMs: clock.monotonicMs(), millisBehindLatest: 0 };
    await clock.advance(2_000);
    await timed.accept([], early);
    expect(timed.processor.isBoundReached).toBe(false);
    await timed.accept([]);
    expect(timed.processor.isBoundReached).toBe(true);
  });

  it('judges failures: age first, then halves, then attempts', () => {
    const policy = { maxAttempts: 3, maxRecordAgeMs: 1_000, bisectBatches: true };
    expect(judgeFailure({ attempt: 1, items: 5, ageMs: 2_000 }, policy)).toEqual({
      kind: 'giveUp',
      reason: 'age',
    });
    expect(judgeFailure({ attempt: 9, items: 5, ageMs: 0 }, policy)).toEqual({
      kind: 'split',
      at: 3,
    });
    expect(judgeFailure({ attempt: 3, items: 1, ageMs: 0 }, policy)).toEqual({
      kind: 'giveUp',
      reason: 'attempts',
    });
    expect(judgeFailure({ attempt: 2, items: 1, ageMs: 0 }, policy)).toEqual({ kind: 'retry' });
    const endless = { maxAttempts: 0, maxRecordAgeMs: 0, bisectBatches: false };
    expect(judgeFailure({ attempt: 1e9, items: 5, ageMs: Infinity }, endless)).toEqual({
      kind: 'retry',
    });
  });
});

describe('checkpoints a handler asks for', () => {
  it('store as far as everything is handled, and nothing else does', async () => {
    const clock = new ManualClock();
    const stored: (string | undefined)[] = [];
    const { held, accept } = await rig(clock, {
      concurrency: 4,
      handler: {
        processRecord: async (record, context) => {
          // The first record of all is slow: nothing behind it may be stored before it is done.
          await sleep(clock, numberOf(record as UserRecord) === 0 ? 100 : 10);
          stored.push((await context.checkpoint())?.sequenceNumber);
        },
      },
    });
    await accept(records(0, 4, { keys: 4 }));
    await clock.advance(50);
    expect(stored.every((position) => position === undefined)).toBe(true);
    expect(held.lease.checkpoint.sequenceNumber).toBe('TRIM_HORIZON');
    await clock.advance(100);
    expect(stored.at(-1)).toBe('1003');
    expect(held.lease.checkpoint.sequenceNumber).toBe('1003');
  });

  it('come in two phases: the next owner gets what was prepared, a commit or another checkpoint ends it', async () => {
    const clock = new ManualClock();
    const store = memoryStore();
    let preparedAt: string | undefined;
    const { held, accept } = await rig(
      clock,
      {
        handler: {
          processRecord: async (record, context) => {
            if (numberOf(record as UserRecord) === 1) {
              const prepared = await context.prepareCheckpoint(Buffer.from('half'));
              preparedAt = prepared?.position.sequenceNumber;
            }
            if (numberOf(record as UserRecord) === 2) {
              const prepared = await context.prepareCheckpoint(Buffer.from('whole'));
              await prepared?.commit();
            }
          },
        },
      },
      store,
    );
    await accept(records(0, 2));
    await clock.advance(10);
    expect(preparedAt).toBe('1001');
    const half = await store.get(SHARD);
    expect(half).toMatchObject({
      checkpoint: { sequenceNumber: 'TRIM_HORIZON' },
      pendingCheckpoint: { position: { sequenceNumber: '1001' }, state: Buffer.from('half') },
    });
    await accept(records(2, 3));
    await clock.advance(10);
    expect(held.lease).toMatchObject({
      checkpoint: { sequenceNumber: '1002' },
      pendingCheckpoint: undefined,
    });
  });
});

describe('tumbling windows', () => {
  it('cut any batch by arrival time, in order, and only go forward', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(100_000), { maxLength: 40 }),
        fc.integer({ min: 1, max: 20_000 }),
        fc.option(fc.nat(100_000), { nil: undefined }),
        (arrivals, windowMs, open) => {
          const openStartAt =
            open === undefined ? undefined : Math.floor(open / windowMs) * windowMs;
          const slices = sliceByWindow(arrivals, windowMs, openStartAt);
          expect(slices.flatMap(({ from, to }) => upTo(to - from).map((at) => at + from))).toEqual(
            upTo(arrivals.length),
          );
          let before = openStartAt ?? -1;
          for (const { startAt, from, to } of slices) {
            expect(startAt).toBeGreaterThanOrEqual(before);
            for (const arrivedAt of arrivals.slice(from, to)) {
              expect(arrivedAt).toBeLessThan(startAt + windowMs);
            }
            before = startAt;
          }
        },
      ),
    );
  });

  interface Call {
    readonly startAt: number;
    readonly sum: number;
    readonly isFinal: boolean;
  }
  const summing = (calls: Call[], failAt = -1) => ({
    processWindow: (items: readonly unknown[], { startAt, state, isFinal }: WindowCall) => {
      if (calls.length === failAt) {
        failAt = -1;
        throw new Error('broken');
      }
      const own = (items as UserRecord[]).map(numberOf).reduce((sum, number) => sum + number, 0);
      const sum = ((state as number | undefined) ?? 0) + own;
      calls.push({ startAt, sum, isFinal });
      return sum;
    },
  });

  it('carry their state from call to call, and end once when their time has passed', async () => {
    const clock = new ManualClock();
    const calls: Call[] = [];
    const { processor, accept } = await rig(clock, {
      tumblingWindowMs: 10_000,
      maxBatchRecords: 2,
      handler: summing(calls, 1),
    });
    const at = (atMs: number): number => Math.floor(clock.now() / 10_000) * 10_000 + atMs;
    const start = at(0);
    await accept(records(1, 5, { arrivedAtMs: at(1_000) }));
    await clock.advance(3_000);
    await accept(records(5, 6, { arrivedAtMs: start + 12_000 }));
    await clock.advance(3_000);
    expect(calls).toEqual([
      { startAt: start, sum: 3, isFinal: false },
      { startAt: start, sum: 10, isFinal: false },
      { startAt: start, sum: 10, isFinal: true },
      { startAt: start + 10_000, sum: 5, isFinal: false },
    ]);
    await clock.advance(20_000);
    await accept([]);
    await clock.advance(1);
    expect(calls.at(-1)).toEqual({ startAt: start + 10_000, sum: 5, isFinal: true });
    await accept([]);
    await clock.advance(1);
    expect(calls).toHaveLength(5);
    expect(processor.progress.windowState).toBeUndefined();
  });

  it('do not end for an answer that waited: what follows it may belong to them', async () => {
    const clock = new ManualClock();
    const calls: Call[] = [];
    const { accept } = await rig(clock, { tumblingWindowMs: 10_000, handler: summing(calls) });
    const start = Math.floor(clock.now() / 10_000) * 10_000;
    const askedMs = clock.monotonicMs();
    await clock.advance(20_000);
    await accept(records(1, 3, { arrivedAtMs: start + 1_000 }), { askedMs });
    await clock.advance(1);
    expect(calls).toEqual([{ startAt: start, sum: 3, isFinal: false }]);
    await accept([]);
    await clock.advance(1);
    expect(calls.at(-1)).toEqual({ startAt: start, sum: 3, isFinal: true });
  });

  it('go on with the next owner where the checkpoint stands, and end with the shard', async () => {
    const clock = new ManualClock();
    const store = memoryStore();
    const first: Call[] = [];
    const arrivedAtMs = Math.floor(clock.now() / 10_000) * 10_000;
    const options = { tumblingWindowMs: 10_000, maxBatchRecords: 2 };
    const a = await rig(clock, { ...options, handler: summing(first) }, store);
    await a.accept(records(1, 3, { arrivedAtMs }));
    await clock.advance(1);
    await a.held.checkpoint(a.processor.progress);
    await a.accept(records(3, 5, { arrivedAtMs }));
    await clock.advance(1);
    expect(first.at(-1)?.sum).toBe(10);
    a.processor.stop();
    // What a handled after its checkpoint is not in the state b begins with.
    const second: Call[] = [];
    const b = await rig(clock, { ...options, handler: summing(second) }, store, 'b');
    await b.accept(records(1, 5, { arrivedAtMs }));
    b.processor.endWindow();
    await clock.advance(1);
    expect(second).toEqual([
      { startAt: arrivedAtMs, sum: 10, isFinal: false },
      { startAt: arrivedAtMs, sum: 10, isFinal: true },
    ]);
  });

  it('bury a damaged record alone, and count the others', async () => {
    const clock = new ManualClock();
    const calls: Call[] = [];
    const dead: (string | undefined)[] = [];
    const { processor, accept } = await rig(clock, {
      tumblingWindowMs: 10_000,
      onDamage: 'deadLetter',
      deadLetter: (given) => void dead.push(...given.map(({ damage }) => damage)),
      handler: summing(calls),
    });
    const [first = {}, ...others] = records(1, 5);
    const damaged = Buffer.concat([Buffer.from('f3899ac2', 'hex'), Buffer.alloc(40, 1)]);
    await accept([{ ...first, Data: damaged }, ...others]);
    await clock.advance(1);
    expect(dead).toEqual(['checksum']);
    expect(calls.find(({ isFinal }) => !isFinal)?.sum).toBe(2 + 3 + 4);
    expect(processor.openCount).toBe(0);
  });

  it('refuse a state that could not be kept, and keep the records with the handler', async () => {
    const clock = new ManualClock();
    const { processor, accept } = await rig(clock, {
      tumblingWindowMs: 10_000,
      handler: { processWindow: () => 'x'.repeat(400_000) },
    });
    await accept(records(0, 2));
    await clock.advance(5_000);
    expect(processor.openCount).toBe(2);
    expect(processor.trouble).toMatch(/^the handler failed/);
  });
});
