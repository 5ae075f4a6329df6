import { addAbortListener } from 'node:events';

import { ShardlineError } from './errors.js';

interface Waiter {
  readonly bytes: number;
  readonly admit: () => void;
}

/**
 * Admits work while its bytes fit, first come first served. A waiter behind a large one waits even if
 * it would fit, so that the large one is not passed for ever.
 */
export class ByteBudget {
  readonly capacityBytes: number;
  /** Only what was admitted: counting waiters too can stall for good. */
  #usedBytes = 0;
  readonly #waiters = new Set<Waiter>();

  /** @param capacityBytes - Unit: bytes. Range: 1 and up. */
  constructor(capacityBytes: number) {
    if (!Number.isSafeInteger(capacityBytes) || capacityBytes < 1) {
      throw new ShardlineError(
        'INVALID_OPTION',
        `capacityBytes must be an integer of at least 1 byte, got ${capacityBytes}`,
        { value: capacityBytes, limit: 1, unit: 'bytes' },
      );
    }
    this.capacityBytes = capacityBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  /** Takes the bytes now, or returns false and takes nothing. */
  tryAcquire(bytes: number): boolean {
    if (this.#waiters.size > 0 || this.#usedBytes + bytes > this.capacityBytes) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /**
   * Waits until the bytes fit.
   *
   * @throws ShardlineError `RECORD_TOO_LARGE` at once if they never can; `signal.reason` on abort.
   */
  acquire(bytes: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => this.request(bytes, resolve, reject, signal));
  }

  /**
   * {@link acquire} that calls back in the moment the bytes are taken, so that nobody can get in
   * between the taking and what it was for.
   */
  request(
    bytes: number,
    onAdmitted: () => void,
    onRefused: (error: Error) => void,
    signal?: AbortSignal,
  ): void {
    if (signal?.aborted) return onRefused(signal.reason as Error);
    if (bytes > this.capacityBytes) {
      return onRefused(
        new ShardlineError(
          'RECORD_TOO_LARGE',
          `${bytes} bytes can never fit a buffer of ${this.capacityBytes} bytes`,
          { value: bytes, limit: this.capacityBytes, unit: 'bytes' },
        ),
      );
    }
    if (this.tryAcquire(bytes)) return onAdmitted();
    const waiter: Waiter = {
      bytes,
      admit: () => {
        listener?.[Symbol.dispose]();
        onAdmitted();
      },
    };
    this.#waiters.add(waiter);
    const listener =
      signal &&
      addAbortListener(signal, () => {
        this.#waiters.delete(waiter);
        onRefused(signal.reason as Error);
        this.#admitWaiters();
      });
  }

  /** Gives bytes back and admits who now fits. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#admitWaiters();
  }

  #admitWaiters(): void {
    for (const waiter of this.#waiters) {
      if (this.#usedBytes + waiter.bytes > this.capacityBytes) return;
      this.#waiters.delete(waiter);
      // Counted here, not when the waiter resumes: a later microtask could let two in on one slot.
      this.#usedBytes += waiter.bytes;
      waiter.admit();
    }
  }
}
