import type { Clock, Timer } from '@shardline/shared';
import murmurhash from 'murmurhash3js-revisited';

import type { HandlerLimit } from './handler-limit.js';

/** Runs one task. Resolves when it is done; never rejects. */
export type LaneTask<Item> = (items: readonly Item[]) => Promise<unknown>;

export interface LaneOptions {
  readonly laneCount: number;
  /** Most items that one run gets. */
  readonly maxItems: number;
  /** Most bytes that one run gets; a larger item runs alone. */
  readonly maxBytes: number;
  /** How long a lane waits for a fuller run. Unit: milliseconds. */
  readonly windowMs: number;
  readonly limit: HandlerLimit;
  readonly clock: Clock;
}

interface Lane<Item> {
  readonly queue: Item[];
  /** Where in the queue what waits begins. */
  head: number;
  queuedBytes: number;
  isRunning: boolean;
  /** Ends a wait for more items or for the end of a pause. */
  wake: (() => void) | undefined;
}

/**
 * Runs items in parallel, those of one key in order: the key's hash picks one of a fixed number of
 * lanes, and each lane runs one thing at a time.
 */
export class Lanes<Item> {
  readonly #lanes: Lane<Item>[];
  readonly #options: LaneOptions;
  readonly #bytesOf: (item: Item) => number;
  readonly #run: LaneTask<Item>;
  #running = 0;
  #idleWaiters: (() => void)[] = [];
  #isStopped = false;
  #isPaused = false;
  #isFlushing = false;

  constructor(options: LaneOptions, bytesOf: (item: Item) => number, run: LaneTask<Item>) {
    this.#options = options;
    this.#bytesOf = bytesOf;
    this.#run = run;
    this.#lanes = Array.from({ length: options.laneCount }, () => ({
      queue: [],
      head: 0,
      queuedBytes: 0,
      isRunning: false,
      wake: undefined,
    }));
  }

  push(key: string, item: Item): void {
    const lane = this.#lanes[this.#lanes.length === 1 ? 0 : laneOf(key, this.#lanes.length)];
    if (!lane || this.#isStopped) return;
    lane.queue.push(item);
    lane.queuedBytes += this.#bytesOf(item);
    if (lane.isRunning) {
      if (lane.wake && this.#isFull(lane)) lane.wake();
      return;
    }
    lane.isRunning = true;
    this.#running += 1;
    // Not at once: what is pushed together may run together.
    queueMicrotask(() => void this.#drain(lane));
  }

  /** Begins nothing until {@link resume}. What runs goes on. */
  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#wakeAll();
  }

  /** From now on no lane waits for a fuller run. */
  flush(): void {
    this.#isFlushing = true;
    this.#wakeAll();
  }

  /** Lanes wait for fuller runs again. */
  fill(): void {
    this.#isFlushing = false;
  }

  /** Begins nothing more and forgets what waits. What runs goes on. */
  stop(): void {
    this.#isStopped = true;
    for (const lane of this.#lanes) {
      lane.queue.length = 0;
      lane.head = 0;
      lane.queuedBytes = 0;
    }
    this.#wakeAll();
  }

  /** Resolves when nothing runs and nothing waits. */
  idle(): Promise<void> {
    if (this.#running === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  async #drain(lane: Lane<Item>): Promise<void> {
    const { limit, windowMs } = this.#options;
    while (lane.queue.length > lane.head) {
      if (this.#isPaused) await this.#asleep(lane, undefined);
      else if (windowMs > 0 && !this.#isFlushing && !this.#isFull(lane))
        await this.#asleep(lane, windowMs);
      if (this.#isPaused && !this.#isStopped) continue;
      const turn = limit.acquire();
      if (turn) await turn;
      if (this.#isPaused && !this.#isStopped) {
        limit.release();
        continue;
      }
      const items = this.#take(lane);
      if (items.length > 0) await this.#run(items);
      limit.release();
    }
    lane.isRunning = false;
    this.#running -= 1;
    if (this.#running > 0) return;
    for (const waiter of this.#idleWaiters.splice(0)) waiter();
  }

  /** Waits until the lane is woken, or for this long. */
  async #asleep(lane: Lane<Item>, forMs: number | undefined): Promise<void> {
    let timer: Timer | undefined;
    await new Promise<void>((resolve) => {
      lane.wake = resolve;
      if (forMs !== undefined) timer = this.#options.clock.schedule(forMs, resolve);
    });
    lane.wake = undefined;
    timer?.cancel();
  }

  #wakeAll(): void {
    for (const { wake } of this.#lanes) wake?.();
  }

  #isFull({ queue, head, queuedBytes }: Lane<Item>): boolean {
    return queue.length - head >= this.#options.maxItems || queuedBytes >= this.#options.maxBytes;
  }

  #take(lane: Lane<Item>): Item[] {
    const { maxItems, maxBytes } = this.#options;
    const { queue, head } = lane;
    let end = head;
    let bytes = 0;
    for (; end < queue.length && end - head < maxItems; end += 1) {
      const own = this.#bytesOf(queue[end] as Item);
      if (end > head && bytes + own > maxBytes) break;
      bytes += own;
    }
    lane.queuedBytes -= bytes;
    const items = queue.slice(head, end);
    lane.head = end;
    // Amortised: moves no more than was taken.
    if (end * 2 >= queue.length) {
      queue.splice(0, end);
      lane.head = 0;
    }
    return items;
  }
}

const utf8 = new TextEncoder();
/** What a partition key has at most: 256 characters of four bytes. */
const keyBytes = new Uint8Array(1_024);
/** The first bytes of it, by their number: a view a key would cost as much as its hash. */
const keyViews: Uint8Array[] = [];

/** The lane of a key, from 0 to `laneCount - 1`. */
export function laneOf(key: string, laneCount: number): number {
  const { read, written } = utf8.encodeInto(key, keyBytes);
  const bytes =
    read === key.length ? (keyViews[written] ??= keyBytes.subarray(0, written)) : utf8.encode(key);
  return murmurhash.x86.hash32(bytes) % laneCount;
}
