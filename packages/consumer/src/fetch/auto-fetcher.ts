import { type Clock, classifyErrorName, isShardlineError } from '@shardline/shared';

import {
  bytesOf,
  type FetchedBatch,
  type Fetcher,
  type Retrieval,
  type StartingPoint,
  type TroubleListener,
} from './fetcher.js';
import { chooseRetrieval } from './retrieval-choice.js';

/** A consumer slot that was not to be had is asked for again after this. */
const SLOT_RETRY_MS = 600_000;
/** How quickly the measured rate follows the traffic. */
const RATE_MEMORY_MS = 60_000;

export interface AutoFetcherOptions {
  readonly polling: Fetcher;
  readonly fanOut: Fetcher;
  /** Resolves when the fan-out consumer may be used; rejects if there is none to be had. */
  readonly register: () => Promise<unknown>;
  readonly fanOutBytesPerSecond: number;
  readonly clock: Clock;
}

/**
 * Reads a shard by polling while that is enough, and by fan-out while the traffic justifies it and a
 * consumer slot is to be had. Changes over between two batches, without a gap and without a repeat.
 */
export class AutoFetcher implements Fetcher {
  readonly #options: AutoFetcherOptions;
  /** When a slot may be asked for again, on the monotonic clock. */
  #retrySlotMs = -Infinity;

  constructor(options: AutoFetcherOptions) {
    this.#options = options;
  }

  async *fetch(
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
    onTrouble: TroubleListener,
  ): AsyncGenerator<FetchedBatch> {
    const { clock, register, fanOutBytesPerSecond } = this.#options;
    const rate = new Rate(clock.monotonicMs());
    let throttledMs = -Infinity;
    let current: Retrieval = 'polling';
    let resume = from;
    while (!signal.aborted) {
      const sinceMs = clock.monotonicMs();
      let next: Retrieval = current;
      const note: TroubleListener = (what) => {
        if (what !== undefined && classifyErrorName(what) === 'throttle')
          throttledMs = clock.monotonicMs();
        onTrouble(what);
      };
      try {
        for await (const batch of this.#options[current].fetch(shardId, resume, signal, note)) {
          yield batch;
          if (batch.childShards) return;
          resume = batch.resume;
          const nowMs = clock.monotonicMs();
          rate.add(nowMs, bytesOf(batch));
          next = chooseRetrieval({
            current,
            heldMs: nowMs - sinceMs,
            bytesPerSecond: rate.bytesPerSecond,
            isThrottled: current === 'polling' && nowMs - throttledMs < RATE_MEMORY_MS,
            hasConsumer: nowMs >= this.#retrySlotMs,
            fanOutBytesPerSecond,
          });
          if (next !== current) break;
        }
      } catch (error) {
        // A consumer that was removed takes fan-out with it, not the shard.
        if (current === 'polling' || !isShardlineError(error)) throw error;
        this.#retrySlotMs = clock.monotonicMs() + SLOT_RETRY_MS;
        next = 'polling';
      }
      if (next === 'fanOut' && current === 'polling') {
        try {
          await register();
        } catch {
          this.#retrySlotMs = clock.monotonicMs() + SLOT_RETRY_MS;
          next = 'polling';
        }
      }
      current = next;
    }
  }
}

/** Bytes a second, the last minute counting most. */
class Rate {
  bytesPerSecond = 0;
  #lastMs: number;

  constructor(nowMs: number) {
    this.#lastMs = nowMs;
  }

  add(nowMs: number, bytes: number): void {
    const elapsedMs = Math.max(nowMs - this.#lastMs, 1);
    const keep = Math.exp(-elapsedMs / RATE_MEMORY_MS);
    this.#lastMs = nowMs;
    this.bytesPerSecond = this.bytesPerSecond * keep + ((bytes * 1000) / elapsedMs) * (1 - keep);
  }
}
