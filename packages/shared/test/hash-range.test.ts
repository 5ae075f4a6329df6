import {
  findHoles,
  FULL_HASH_RANGE,
  hashKeyFromBigInt,
  type HashRange,
  HashRangeIndex,
  MAX_HASH_KEY,
  rangeHolds,
} from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const anyKey = fc.oneof(
  fc.bigInt({ min: 0n, max: MAX_HASH_KEY }),
  fc.bigInt({ min: 0n, max: 2n ** 20n }),
  fc.constantFrom(0n, MAX_HASH_KEY),
);

/** Ranges that cover everything, cut at the given keys, in scrambled order. */
const anyPartition = fc
  .tuple(fc.uniqueArray(anyKey, { maxLength: 60 }), fc.integer())
  .map(([cuts, order]) => {
    const starts = [0n, ...cuts.filter((cut) => cut > 0n)].sort((a, b) => (a < b ? -1 : 1));
    const ranges = starts.map((start, index): HashRange => ({
      start,
      end: (starts[index + 1] ?? MAX_HASH_KEY + 1n) - 1n,
    }));
    return ranges.sort(
      (a, b) => Number((a.start ^ BigInt(order)) % 7n) - Number((b.start ^ BigInt(order)) % 7n),
    );
  });

function words(value: bigint): Uint32Array {
  const result = new Uint32Array(4);
  hashKeyFromBigInt(value, result);
  return result;
}

describe('HashRangeIndex', () => {
  it('finds the one range that holds a key', () => {
    fc.assert(
      fc.property(anyPartition, fc.array(anyKey, { maxLength: 20 }), (ranges, keys) => {
        const index = new HashRangeIndex(ranges);
        const edges = ranges.flatMap((range) => [range.start, range.end]);
        for (const key of [...keys, ...edges]) {
          const found = ranges[index.find(words(key))];
          expect(found && found.start <= key && key <= found.end).toBe(true);
        }
      }),
    );
  });

  it('finds a shard among 10,000 equal ones', () => {
    const count = 10_000n;
    const ranges = Array.from({ length: Number(count) }, (_, index): HashRange => {
      const width = 2n ** 128n / count;
      const start = width * BigInt(index);
      return { start, end: index === 9_999 ? MAX_HASH_KEY : start + width - 1n };
    });
    const index = new HashRangeIndex(ranges);
    expect(index.size).toBe(10_000);
    for (const at of [0, 1, 4_095, 4_096, 5_000, 9_999]) {
      expect(index.find(words(ranges[at]?.start ?? 0n))).toBe(at);
      expect(index.find(words(ranges[at]?.end ?? 0n))).toBe(at);
    }
  });
});

describe('findHoles', () => {
  it('finds none in a partition, and exactly the range that was taken out', () => {
    fc.assert(
      fc.property(anyPartition, fc.nat(), (ranges, pick) => {
        expect(findHoles(ranges)).toEqual([]);
        const without = ranges.filter((_, index) => index !== pick % ranges.length);
        expect(findHoles(without)).toEqual([ranges[pick % ranges.length]]);
      }),
    );
  });

  it('is not misled by a parent that lies over its children', () => {
    expect(findHoles([FULL_HASH_RANGE, { start: 5n, end: 9n }])).toEqual([]);
  });

  it('calls everything a hole when nothing is covered', () => {
    expect(findHoles([])).toEqual([FULL_HASH_RANGE]);
  });
});

describe('rangeHolds', () => {
  it('includes both ends', () => {
    const hold = (key: bigint): boolean =>
      rangeHolds(words(2n ** 64n), words(2n ** 65n), words(key));
    expect([2n ** 64n - 1n, 2n ** 64n, 2n ** 65n, 2n ** 65n + 1n].map(hold)).toEqual([
      false,
      true,
      true,
      false,
    ]);
  });
});
