import { setMaxListeners } from 'node:events';

import { ByteBudget } from '@shardline/shared';

/** Room for records, by number and by bytes, first come first served. */
export class Admission {
  /** One unit a record. */
  readonly #slots: ByteBudget;
  /** Perhaps shared with other producers. */
  readonly #budget: ByteBudget;
  readonly #closing: AbortSignal;

  /** @param closing - Refuses all who wait, and all who come later. */
  constructor(maxRecords: number, budget: ByteBudget, closing: AbortSignal) {
    this.#slots = new ByteBudget(maxRecords);
    this.#budget = budget;
    this.#closing = closing;
    // As many as puts that wait for room.
    setMaxListeners(0, closing);
  }

  get capacityRecords(): number {
    return this.#slots.capacityBytes;
  }

  get capacityBytes(): number {
    return this.#budget.capacityBytes;
  }

  get usedBytes(): number {
    return this.#budget.usedBytes;
  }

  /** Takes room for a record now, or returns false and takes nothing. */
  tryEnter(bytes: number): boolean {
    if (!this.#slots.tryAcquire(1)) return false;
    if (this.#budget.tryAcquire(bytes)) return true;
    this.#slots.release(1);
    return false;
  }

  /**
   * Calls back in the moment there is room: a record that is put later must not pass one that waits.
   *
   * @param records - How many there must be room for.
   */
  enter(
    records: number,
    bytes: number,
    onAdmitted: () => void,
    onRefused: (error: Error) => void,
    signal?: AbortSignal,
  ): void {
    const stop = signal ? AbortSignal.any([signal, this.#closing]) : this.#closing;
    const releaseSlot = (error: Error): void => {
      this.#slots.release(records);
      onRefused(error);
    };
    this.#slots.request(
      records,
      () => this.#budget.request(bytes, onAdmitted, releaseSlot, stop),
      onRefused,
      stop,
    );
  }

  /** Gives room back and lets in who now fits. */
  leave(records: number, bytes: number): void {
    this.#slots.release(records);
    this.#budget.release(bytes);
  }
}
