import { integerOption } from '@shardline/shared';

/** How many handlers of a process run at a time, first come first served. */
export class HandlerLimit {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /**
   * @param maxHandlers - Range: 1 and up.
   * @throws ShardlineError `INVALID_OPTION`.
   */
  constructor(maxHandlers: number) {
    const rule = { min: 1, max: Infinity, fallback: 1, unit: 'handlers' };
    this.#free = integerOption('maxHandlers', maxHandlers, rule);
  }

  /** Undefined if a handler may run now; otherwise a promise that resolves when it may. */
  acquire(): Promise<void> | undefined {
    if (this.#free > 0) {
      this.#free -= 1;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  release(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}
