/** A hash key that many records had, as far as a bounded table can tell. */
export interface HotKey {
  /** First 64 bits of the hash key, 16 hexadecimal digits: the key itself is nobody's business. */
  readonly hashKeyPrefix: string;
  /** At most so many records had it. */
  readonly records: number;
  /** At least so many fewer may have had it. */
  readonly error: number;
}

interface Counter {
  count: number;
  error: number;
}

/**
 * Finds frequent keys among any number in a fixed space (Space-Saving, Metwally et al. 2005): any key
 * with more than a `capacity`-th of the records is in it.
 */
export class HotKeys {
  readonly #capacity: number;
  readonly #counters = new Map<string, Counter>();

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  add(hashKey: Uint32Array): void {
    const key = hex(hashKey[0] ?? 0) + hex(hashKey[1] ?? 0);
    const known = this.#counters.get(key);
    if (known) {
      known.count += 1;
      return;
    }
    if (this.#counters.size < this.#capacity) {
      this.#counters.set(key, { count: 1, error: 0 });
      return;
    }
    let least: string | undefined;
    let leastCount = Infinity;
    for (const [candidate, { count }] of this.#counters) {
      if (count < leastCount) [least, leastCount] = [candidate, count];
    }
    this.#counters.delete(least ?? '');
    this.#counters.set(key, { count: leastCount + 1, error: leastCount });
  }

  top(count: number): HotKey[] {
    return [...this.#counters]
      .map(([hashKeyPrefix, { count: records, error }]) => ({ hashKeyPrefix, records, error }))
      .sort((a, b) => b.records - a.records)
      .slice(0, count);
  }
}

function hex(word: number): string {
  return word.toString(16).padStart(8, '0');
}
