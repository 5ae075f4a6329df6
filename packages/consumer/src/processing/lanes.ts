import murmurhash from 'murmurhash3js-revisited';

/** Runs one task. Resolves when it is done; never rejects. */
export type LaneTask<Item> = (items: readonly Item[]) => Promise<void>;

/**
 * Runs items in parallel, those of one key in order: the key's hash picks one of a fixed number of
 * lanes, and each lane runs one thing at a time.
 */
export class Lanes<Item> {
  readonly #lanes: Lane<Item>[];
  readonly #maxItems: number;
  readonly #run: LaneTask<Item>;
  #running = 0;
  #idleWaiters: (() => void)[] = [];
  #isStopped = false;

  /** @param maxItems - Most items that one call of `run` gets. */
  constructor(laneCount: number, maxItems: number, run: LaneTask<Item>) {
    this.#lanes = Array.from({ length: laneCount }, () => ({ queue: [], isRunning: false }));
    this.#maxItems = maxItems;
    this.#run = run;
  }

  push(key: string, item: Item): void {
    const lane = this.#lanes[this.#lanes.length === 1 ? 0 : laneOf(key, this.#lanes.length)];
    if (!lane || this.#isStopped) return;
    lane.queue.push(item);
    if (lane.isRunning) return;
    lane.isRunning = true;
    this.#running += 1;
    // Not at once: what is pushed together may run together.
    queueMicrotask(() => void this.#drain(lane));
  }

  /** Begins nothing more and forgets what waits. What runs goes on. */
  stop(): void {
    this.#isStopped = true;
    for (const lane of this.#lanes) lane.queue.length = 0;
  }

  /** Resolves when nothing runs and nothing waits. */
  idle(): Promise<void> {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  async #drain(lane: Lane<Item>): Promise<void> {
    while (lane.queue.length > 0) await this.#run(lane.queue.splice(0, this.#maxItems));
    lane.isRunning = false;
    this.#running -= 1;
    if (this.#running > 0) return;
    for (const waiter of this.#idleWaiters.splice(0)) waiter();
  }
}

interface Lane<Item> {
  readonly queue: Item[];
  isRunning: boolean;
}

/** The lane of a key, from 0 to `laneCount - 1`. */
export function laneOf(key: string, laneCount: number): number {
  return murmurhash.x86.hash32(Buffer.from(key)) % laneCount;
}
