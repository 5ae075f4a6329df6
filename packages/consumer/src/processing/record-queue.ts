import type { HandlerContext, RecordHandler } from './handler.js';

/** A record of a `for await` loop, with what a handler would know of it. */
export interface Delivery<Item> {
  readonly item: Item;
  readonly context: HandlerContext;
}

interface Waiting<Item> extends Delivery<Item> {
  readonly done: () => void;
  readonly failed: (error: Error) => void;
}

/**
 * A handler whose records are read by `for await`: a record counts as handled when the loop asks for the
 * next one. What the loop is left with goes back, and is given again.
 */
export class RecordQueue<Item> {
  readonly handler: RecordHandler<Item>;
  readonly #waiting: Waiting<Item>[] = [];
  #current: Waiting<Item> | undefined;
  #reader: (() => void) | undefined;
  #isEnded = false;
  #onSettled: () => void = () => {};

  constructor() {
    this.handler = {
      processRecord: (item, context) =>
        new Promise<void>((resolve, reject) => this.#offer(item, context, resolve, reject)),
    };
  }

  /** No record comes any more. Resolves when the loop is not busy with one either. */
  end(): Promise<void> {
    this.#isEnded = true;
    this.#reader?.();
    if (!this.#current) return Promise.resolve();
    return new Promise((resolve) => (this.#onSettled = resolve));
  }

  /** The next record, once there is one; undefined when none comes any more. */
  async next(): Promise<Delivery<Item> | undefined> {
    this.#current?.done();
    this.#settled();
    while (this.#waiting.length === 0 || this.#isEnded) {
      if (this.#isEnded) return undefined;
      await new Promise<void>((resolve) => (this.#reader = resolve));
      this.#reader = undefined;
    }
    this.#current = this.#waiting.shift();
    return this.#current;
  }

  /** The loop was left: what it had begun is not known to be handled. */
  leave(): void {
    this.#current?.failed(new Error('the loop was left'));
    this.#settled();
    this.#isEnded = true;
  }

  #settled(): void {
    this.#current = undefined;
    this.#onSettled();
  }

  #offer(
    item: Item,
    context: HandlerContext,
    resolve: () => void,
    reject: (error: Error) => void,
  ): void {
    const { signal } = context;
    const waiting: Waiting<Item> = {
      item,
      context,
      done: () => {
        signal.removeEventListener('abort', withdraw);
        resolve();
      },
      failed: (error) => {
        signal.removeEventListener('abort', withdraw);
        reject(error);
      },
    };
    const withdraw = (): void => {
      const at = this.#waiting.indexOf(waiting);
      if (at >= 0) this.#waiting.splice(at, 1);
      waiting.failed(new Error('no loop takes it any more'));
    };
    signal.addEventListener('abort', withdraw, { once: true });
    if (this.#isEnded || signal.aborted) {
      withdraw();
      return;
    }
    this.#waiting.push(waiting);
    this.#reader?.();
  }
}
