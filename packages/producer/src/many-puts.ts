import type { Caller, PutReceipt } from './pending-record.js';

export type PutResult = PromiseSettledResult<PutReceipt>;

/** Collects what becomes of many records, in their order, for a caller who waits for all of them at once. */
export class ManyPuts {
  readonly #results: (PutResult | undefined)[] = [];
  #open = 0;
  #onSettled: ((results: PutResult[]) => void) | undefined;

  /** Who waits for the next record. */
  next(): Caller {
    this.#open += 1;
    return new Place(this, this.#results.push(undefined) - 1);
  }

  /** There are no more records: resolves when all are settled. */
  settled(): Promise<PutResult[]> {
    return new Promise((resolve) => {
      this.#onSettled = resolve;
      this.#conclude();
    });
  }

  settle(place: number, result: PutResult): void {
    this.#results[place] = result;
    this.#open -= 1;
    this.#conclude();
  }

  #conclude(): void {
    if (this.#open === 0) this.#onSettled?.(this.#results as PutResult[]);
  }
}

class Place implements Caller {
  readonly #all: ManyPuts;
  readonly #place: number;

  constructor(all: ManyPuts, place: number) {
    this.#all = all;
    this.#place = place;
  }

  resolve(value: PutReceipt): void {
    this.#all.settle(this.#place, { status: 'fulfilled', value });
  }

  reject(reason: Error): void {
    this.#all.settle(this.#place, { status: 'rejected', reason });
  }
}
