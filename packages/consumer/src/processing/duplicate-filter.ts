/** Producers remembered at a time; the one heard of longest ago is forgotten first. */
const MAX_PRODUCERS = 200;

/**
 * Knows second copies of records that their producer marked. Remembers a bounded number of records of
 * each of a bounded number of producers, so a copy that comes much later is not known.
 */
export class DuplicateFilter {
  readonly #windowRecords: number;
  /** The last numbers of each producer. */
  readonly #producers = new Map<string, Set<number>>();

  /** @param windowRecords - Records remembered of each producer. 0 remembers none. */
  constructor(windowRecords: number) {
    this.#windowRecords = windowRecords;
  }

  /** True if a record of this origin was seen before. Unmarked records never were. */
  isCopy(origin: string | undefined): boolean {
    if (origin === undefined || this.#windowRecords === 0) return false;
    const colon = origin.indexOf(':');
    const number = Number(origin.slice(colon + 1));
    if (colon < 1 || !Number.isSafeInteger(number)) return false;
    const numbers = this.#numbersOf(origin.slice(0, colon));
    if (numbers.has(number)) return true;
    numbers.add(number);
    if (numbers.size > this.#windowRecords) numbers.delete(numbers.values().next().value as number);
    return false;
  }

  /** Forgets all: records may be read again on purpose. */
  clear(): void {
    this.#producers.clear();
  }

  #numbersOf(producerId: string): Set<number> {
    const numbers = this.#producers.get(producerId) ?? new Set<number>();
    // Last in the map is heard of last.
    this.#producers.delete(producerId);
    this.#producers.set(producerId, numbers);
    if (this.#producers.size > MAX_PRODUCERS) {
      this.#producers.delete(this.#producers.keys().next().value as string);
    }
    return numbers;
  }
}
