import type { FlushGroup } from './flush-group.js';
import type { Caller, PendingRecord } from './pending-record.js';

const NO_CHANGES: readonly number[] = [];

/**
 * The user records of one Kinesis record: all that is known of them but what its payload says. A list a
 * property and sums rather than an object a record, since a producer holds a hundred thousand of them.
 */
export class HeldRecords {
  #count = 0;
  /** When the records up to the first change are given up, on the monotonic clock, and when the last one is. */
  #firstExpiresMs = 0;
  #lastExpiresMs = 0;
  /** Pairs of an index and the time from there on; undefined as long as all have the same. */
  #expiryChanges: number[] | undefined;
  /** By index; undefined as long as nobody waits for any. */
  #callers: (Caller | undefined)[] | undefined;
  /** By index; undefined as long as none is settled apart from the others. */
  #settled: boolean[] | undefined;
  /** The earliest of its records'. All are counted there: they are settled together, as a rule. */
  #group: FlushGroup;
  #open = 0;
  #bytes = 0;
  #keyBytes = 0;

  constructor(group: FlushGroup) {
    this.#group = group;
  }

  get count(): number {
    return this.#count;
  }

  /** Records that are not settled: nobody was told yet what became of them. */
  get open(): number {
    return this.#open;
  }

  /** Data and partition keys of what is open, as counted by the buffer. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Data of what is open. */
  get dataBytes(): number {
    return this.#bytes - this.#keyBytes;
  }

  /** When the next of what is open is given up; `Infinity` if all are settled. */
  get nextExpiryMs(): number {
    if (this.#open === 0) return Infinity;
    let nextMs = Infinity;
    if (this.#settled) {
      for (const index of this.openIndexes()) nextMs = Math.min(nextMs, this.expiresMs(index));
      return nextMs;
    }
    const changes = this.#expiryChanges ?? NO_CHANGES;
    nextMs = this.#firstExpiresMs;
    for (let at = 1; at < changes.length; at += 2) nextMs = Math.min(nextMs, changes[at] as number);
    return nextMs;
  }

  /** Takes in a record that is counted in its group. */
  add(
    {
      bytes,
      expiresMs,
      group,
      caller,
    }: Pick<PendingRecord, 'bytes' | 'expiresMs' | 'group' | 'caller'>,
    keyBytes: number,
  ): void {
    if (caller) {
      this.#callers ??= [];
      this.#callers[this.#count] = caller;
    }
    if (this.#count === 0) this.#firstExpiresMs = this.#lastExpiresMs = expiresMs;
    else if (expiresMs !== this.#lastExpiresMs) {
      (this.#expiryChanges ??= []).push(this.#count, expiresMs);
      this.#lastExpiresMs = expiresMs;
    }
    this.#count += 1;
    this.#bytes += bytes;
    this.#keyBytes += keyBytes;
    if (group !== this.#group) this.#meet(group);
    this.#open += 1;
  }

  get group(): FlushGroup {
    return this.#group;
  }

  get hasCallers(): boolean {
    return this.#callers !== undefined;
  }

  caller(index: number): Caller | undefined {
    return this.#callers?.[index];
  }

  expiresMs(index: number): number {
    const changes = this.#expiryChanges ?? NO_CHANGES;
    let low = 0;
    let high = changes.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((changes[middle * 2] as number) <= index) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? this.#firstExpiresMs : (changes[low * 2 - 1] as number);
  }

  isSettled(index: number): boolean {
    return this.#open === 0 || this.#settled?.[index] === true;
  }

  /** Positions of what is open, or of those among it whose time is over at a moment. */
  openIndexes(expiredAtMs = Infinity): number[] {
    const indexes: number[] = [];
    for (let index = 0; index < this.count; index += 1) {
      if (this.expiresMs(index) <= expiredAtMs && !this.isSettled(index)) indexes.push(index);
    }
    return indexes;
  }

  /** All that is open is settled now. */
  settleAll(): void {
    this.#group.leave(this.#open);
    this.#open = 0;
    this.#bytes = 0;
    this.#keyBytes = 0;
  }

  /** One that is open is settled now, before the others. */
  settle(index: number, bytes: number, keyBytes: number): void {
    if (this.#open === 1) return this.settleAll();
    this.#settled ??= [];
    this.#settled[index] = true;
    this.#open -= 1;
    this.#bytes -= bytes;
    this.#keyBytes -= keyBytes;
    this.#group.leave(1);
  }

  /**
   * Counts what is open and a record that joins it in the earlier of their groups. With nothing open that is the
   * record's own: nobody waits for the other any more.
   */
  #meet(group: FlushGroup): void {
    if (this.#open > 0 && group.ordinal > this.#group.ordinal) {
      this.#group.enter(1);
      group.leave(1);
      return;
    }
    group.enter(this.#open);
    this.#group.leave(this.#open);
    this.#group = group;
  }
}
