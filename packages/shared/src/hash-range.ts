import { hashKeyFromBigInt, type HashKeyWords, MAX_HASH_KEY } from './hash-key.js';

/** The hash keys a shard owns; both ends belong to it. */
export interface HashRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** All hash keys. */
export const FULL_HASH_RANGE: HashRange = { start: 0n, end: MAX_HASH_KEY };

export function parseHashRange(range: {
  readonly StartingHashKey: string | undefined;
  readonly EndingHashKey: string | undefined;
}): HashRange {
  return { start: BigInt(range.StartingHashKey ?? '0'), end: BigInt(range.EndingHashKey ?? '0') };
}

/** What `ranges` leave open between 0 and 2^128 - 1, in order. Overlaps are fine. */
export function findHoles(ranges: Iterable<HashRange>): HashRange[] {
  const sorted = [...ranges].sort((a, b) => (a.start < b.start ? -1 : a.start > b.start ? 1 : 0));
  const holes: HashRange[] = [];
  let next = 0n;
  for (const range of sorted) {
    if (range.start > next) holes.push({ start: next, end: range.start - 1n });
    if (range.end >= next) next = range.end + 1n;
  }
  if (next <= MAX_HASH_KEY) holes.push({ start: next, end: MAX_HASH_KEY });
  return holes;
}

const PREFIX_BITS = 12;
const PREFIXES = 2 ** PREFIX_BITS;

/**
 * Finds the range that owns a hash key in a few nanoseconds, however many there are: a table over the
 * key's first 12 bits narrows the search to a range or two.
 */
export class HashRangeIndex {
  /** Four words a range, the starts in ascending order. */
  readonly #starts: Uint32Array;
  /** For each prefix the last range that starts at or before the prefix's first key. */
  readonly #firstByPrefix = new Uint32Array(PREFIXES + 1);
  /** Position in the constructor's array by position in order. */
  readonly #original: Uint32Array;

  /** @param ranges - Must cover all hash keys without overlap; {@link findHoles} tells. */
  constructor(ranges: readonly HashRange[]) {
    const order = [...ranges.keys()].sort((a, b) =>
      startOf(ranges, a) < startOf(ranges, b) ? -1 : 1,
    );
    this.#original = Uint32Array.from(order);
    this.#starts = new Uint32Array(order.length * 4);
    const words = new Uint32Array(4);
    order.forEach((original, index) => {
      hashKeyFromBigInt(startOf(ranges, original), words);
      this.#starts.set(words, index * 4);
    });
    let index = 0;
    for (let prefix = 0; prefix < PREFIXES; prefix += 1) {
      const first = BigInt(prefix) << BigInt(128 - PREFIX_BITS);
      while (index + 1 < order.length && startOf(ranges, order[index + 1] ?? 0) <= first)
        index += 1;
      this.#firstByPrefix[prefix] = index;
    }
    this.#firstByPrefix[PREFIXES] = Math.max(order.length - 1, 0);
  }

  get size(): number {
    return this.#original.length;
  }

  /** Position, in the constructor's array, of the range that owns the key. */
  find(key: HashKeyWords): number {
    const prefix = (key[0] as number) >>> (32 - PREFIX_BITS);
    let low = this.#firstByPrefix[prefix] as number;
    let high = this.#firstByPrefix[prefix + 1] as number;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#startsAfter(middle, key)) high = middle - 1;
      else low = middle;
    }
    return this.#original[low] as number;
  }

  #startsAfter(index: number, key: HashKeyWords): boolean {
    const at = index * 4;
    for (let word = 0; word < 4; word += 1) {
      const start = this.#starts[at + word] as number;
      const own = key[word] as number;
      if (start !== own) return start > own;
    }
    return false;
  }
}

/** True if the key lies in the range given as two times four words. */
export function rangeHolds(start: HashKeyWords, end: HashKeyWords, key: HashKeyWords): boolean {
  return compareWords(start, key) <= 0 && compareWords(key, end) <= 0;
}

function compareWords(a: HashKeyWords, b: HashKeyWords): number {
  for (let word = 0; word < 4; word += 1) {
    const difference = (a[word] as number) - (b[word] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}

function startOf(ranges: readonly HashRange[], index: number): bigint {
  return ranges[index]?.start ?? 0n;
}
