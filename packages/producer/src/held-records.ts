import type { FlushGroup } from './flush-group.js';
import type { Caller, PendingRecord } from './pending-record.js';

/**
 * The user records of one Kinesis record: all that is known of them but what its payload says. A list a
 * property and sums rather than an object a record, since a producer holds a hundred thousand of them.
 */
export class HeldRecords {
  #count = 0;
  #firstExpiresMs = 0;
  /** When each but the first is given up, on the monotonic clock; undefined if there is no other. */
  #laterExpiresMs: number[] | undefined;
  /** By index; undefined as long as nobody waits for any. */
  #callers: (Caller | undefined)[] | undefined;
  /** By index; undefined as long as none is settled apart from the others. */
  #settled: boolean[] | undefined;
  /** The earliest of its records'. All are counted there: they are settled together, as a rule. */
  #group: FlushGroup;
  #open = 0;
  #bytes = 0;
  #keyBytes = 0;
  #nextExpiryMs = Infinity;

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
    return this.#nextExpiryMs;
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
    if (this.#count === 0) this.#firstExpiresMs = expiresMs;
    else (this.#laterExpiresMs ??= []).push(expiresMs);
    this.#count += 1;
    this.#bytes += bytes;
    this.#keyBytes += keyBytes;
    if (expiresMs < this.#nextExpiryMs) this.#nextExpiryMs = expiresMs;
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
    return index === 0 ? this.#firstExpiresMs : (this.#laterExpiresMs?.[index - 1] as number);
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
    this.#nextExpiryMs = Infinity;
  }

  /** One that is open is settled now, before the others. */
  settle(index: number, bytes: number, keyBytes: number): void {
    if (this.#open === 1) return this.settleAll();
    this.#settled ??= [];
    this.#settled[index] = true;
    this.#open -= 1;
    this.#bytes -= bytes;
    this.#keyBytes -= keyBytes;
    this.#nextExpiryMs = this.openIndexes().reduce(
      (min, other) => Math.min(min, this.expiresMs(other)),
      Infinity,
    );
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
