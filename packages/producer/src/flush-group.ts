/** Records that were put between two flushes; a flush waits until none of them is outstanding. */
export class FlushGroup {
  /** Later groups have greater ones. */
  readonly ordinal: number;
  #previous: FlushGroup | undefined;
  #outstanding = 0;
  #waiters: (() => void)[] = [];

  constructor(previous?: FlushGroup) {
    this.#previous = previous;
    this.ordinal = previous ? previous.ordinal + 1 : 0;
  }

  enter(records: number): void {
    this.#outstanding += records;
  }

  leave(records: number): void {
    this.#outstanding -= records;
    if (this.#outstanding > 0 || this.#waiters.length === 0) return;
    for (const waiter of this.#waiters.splice(0)) waiter();
  }

  /** Resolves when no record of the groups before this one is outstanding. */
  async previousSettled(): Promise<void> {
    for (let group = this.#previous; group; group = group.#previous) await group.#settled();
    // Nobody needs to ask the settled groups again.
    this.#previous = undefined;
  }

  #settled(): Promise<void> | undefined {
    if (this.#outstanding === 0) return undefined;
    return new Promise((resolve) => this.#waiters.push(resolve));
  }
}
