import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { FlushGroup } from '../src/flush-group.js';
import { HeldRecords } from '../src/held-records.js';
import type { PendingRecord } from '../src/pending-record.js';

const BYTES = 7;
const KEY_BYTES = 2;

function pending(group: FlushGroup, expiresMs = 0): PendingRecord {
  return {
    partitionKey: 'k1',
    explicitHashKey: undefined,
    data: Buffer.alloc(BYTES - KEY_BYTES),
    bytes: BYTES,
    expiresMs,
    group,
    origin: undefined,
    caller: undefined,
  };
}

function held(...records: readonly PendingRecord[]): HeldRecords {
  const result = new HeldRecords((records[0] as PendingRecord).group);
  for (const record of records) result.add(record, KEY_BYTES);
  return result;
}

describe('HeldRecords', () => {
  it('sums what is open and forgets what is settled, one by one or all at once', () => {
    const group = new FlushGroup();
    group.enter(3);
    const records = held(pending(group, 30), pending(group, 10), pending(group, 20));
    expect(records).toMatchObject({ count: 3, open: 3, bytes: 21, dataBytes: 15 });
    expect(records.nextExpiryMs).toBe(10);
    expect(records.openIndexes(20)).toEqual([1, 2]);
    records.settle(1, BYTES, KEY_BYTES);
    expect(records).toMatchObject({ count: 3, open: 2, bytes: 14, dataBytes: 10 });
    expect(records.nextExpiryMs).toBe(20);
    expect(records.openIndexes()).toEqual([0, 2]);
    records.settleAll();
    expect(records).toMatchObject({ count: 3, open: 0, bytes: 0, dataBytes: 0 });
    expect(records.nextExpiryMs).toBe(Infinity);
    expect([0, 1, 2].map((index) => records.isSettled(index))).toEqual([true, true, true]);
  });
});

it('knows when each record is given up, whatever they have in common', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1 }), (times) => {
      const group = new FlushGroup();
      const records = held(...times.map((expiresMs) => pending(group, expiresMs)));
      expect(times.map((_, index) => records.expiresMs(index))).toEqual(times);
      expect(records.nextExpiryMs).toBe(Math.min(...times));
      for (const atMs of [0, 1, 2, 3]) {
        const expired = times.flatMap((expiresMs, index) => (expiresMs <= atMs ? index : []));
        expect(records.openIndexes(atMs)).toEqual(expired);
      }
    }),
  );
});

type Step =
  | { readonly kind: 'put'; readonly into: number }
  | { readonly kind: 'flush' }
  | { readonly kind: 'settleOne' | 'settleAll'; readonly of: number }
  | { readonly kind: 'move'; readonly of: number; readonly into: number };

const anyIndex = fc.nat({ max: 3 });
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('put' as const), into: anyIndex }) },
  fc.record({ kind: fc.constant('flush' as const) }),
  fc.record({ kind: fc.constantFrom('settleOne' as const, 'settleAll' as const), of: anyIndex }),
  fc.record({ kind: fc.constant('move' as const), of: anyIndex, into: anyIndex }),
);

/** Four Kinesis records that user records go into, with the number of each. */
class Model {
  readonly places: { records: HeldRecords | undefined; numbers: number[] }[] = Array.from(
    { length: 4 },
    () => ({ records: undefined, numbers: [] }),
  );
  readonly open = new Set<number>();
  readonly flushes: { readonly upTo: number; isDone: boolean }[] = [];
  group = new FlushGroup();
  #puts = 0;

  take(step: Step): void {
    switch (step.kind) {
      case 'put':
        this.group.enter(1);
        this.open.add(this.#puts);
        this.#add(step.into, pending(this.group), this.#puts);
        this.#puts += 1;
        return;
      case 'flush': {
        const flush = { upTo: this.#puts, isDone: false };
        this.flushes.push(flush);
        this.group = new FlushGroup(this.group);
        void this.group.previousSettled().then(() => {
          flush.isDone = true;
        });
        return;
      }
      case 'settleOne': {
        const { records, numbers } = this.#place(step.of);
        const [index] = records?.openIndexes() ?? [];
        if (index === undefined) return;
        this.open.delete(numbers[index] as number);
        records?.settle(index, BYTES, KEY_BYTES);
        return;
      }
      case 'settleAll':
        this.#end(step.of, (number) => this.open.delete(number));
        return;
      case 'move': {
        const { records: from, numbers } = this.#place(step.of);
        if (!from || step.of === step.into) return;
        this.places[step.of] = { records: undefined, numbers: [] };
        for (const index of from.openIndexes()) {
          this.#add(step.into, pending(from.group), numbers[index] as number);
        }
      }
    }
  }

  settleEverything(): void {
    for (const index of this.places.keys()) this.#end(index, (number) => this.open.delete(number));
  }

  #end(of: number, onSettled: (number: number) => void): void {
    const { records, numbers } = this.#place(of);
    for (const index of records?.openIndexes() ?? []) onSettled(numbers[index] as number);
    records?.settleAll();
    this.places[of] = { records: undefined, numbers: [] };
  }

  #add(into: number, record: PendingRecord, number: number): void {
    const place = this.#place(into);
    place.records ??= new HeldRecords(record.group);
    place.records.add(record, KEY_BYTES);
    place.numbers.push(number);
  }

  #place(index: number): { records: HeldRecords | undefined; numbers: number[] } {
    return this.places[index] as { records: HeldRecords | undefined; numbers: number[] };
  }
}

describe('FlushGroup', () => {
  it('lets a flush end when all that was put before is settled, wherever it moved, and not earlier', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { maxLength: 60 }), async (steps) => {
        const model = new Model();
        const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
        const endedEarly = (): unknown[] =>
          model.flushes.filter(
            ({ upTo, isDone }) => isDone && [...model.open].some((number) => number < upTo),
          );
        for (const step of steps) {
          model.take(step);
          await turn();
          expect(endedEarly()).toEqual([]);
        }
        model.settleEverything();
        await turn();
        expect(model.flushes.filter(({ isDone }) => !isDone)).toEqual([]);
      }),
      {
        numRuns: 300,
        examples: [
          // The first flush has forgotten its group when a record meets what was settled with it.
          [
            [
              { kind: 'put', into: 2 },
              { kind: 'flush' },
              { kind: 'settleOne', of: 2 },
              { kind: 'put', into: 2 },
              { kind: 'flush' },
            ],
          ],
        ],
      },
    );
  });
});
