import type { Clock, UserRecord } from '@shardline/shared';

import { type FetchedBatch, reachedAt } from '../fetch/fetcher.js';

/**
 * Where a bounded read ends.
 *
 * - `'now'`: at everything that was in the stream when the consumer started.
 * - `timestamp`: before the first record that arrived then or later, by the service's clock.
 * - `records`: after so many records that this worker gave to its handler.
 */
export type ReadUntil = 'now' | { readonly timestamp: Date } | { readonly records: number };

/** Knows when a bounded read is over. One for all shards of a worker. */
export class ReadBound {
  readonly #clock: Clock;
  readonly #timestampMs: number | undefined;
  readonly #startedMs: number | undefined;
  #recordsLeft = Infinity;

  constructor(until: ReadUntil, clock: Clock) {
    this.#clock = clock;
    if (until === 'now') this.#startedMs = clock.monotonicMs();
    else if ('timestamp' in until) this.#timestampMs = until.timestamp.getTime();
    else this.#recordsLeft = until.records;
  }

  /** True if no shard has anything more to read. */
  get isExhausted(): boolean {
    return this.#recordsLeft === 0;
  }

  /** False if the bound lies before this record; otherwise it is counted. */
  admits({ arrivedAt = 0 }: UserRecord): boolean {
    if (this.#timestampMs !== undefined && arrivedAt >= this.#timestampMs) return false;
    if (this.#recordsLeft === 0) return false;
    this.#recordsLeft -= 1;
    return true;
  }

  /** True if nothing inside the bound can follow a batch. */
  isReachedAt(batch: Pick<FetchedBatch, 'millisBehindLatest' | 'askedMs'>): boolean {
    const { millisBehindLatest, askedMs } = batch;
    if (this.#recordsLeft === 0) return true;
    // The lag is the service's: a reader less far behind than the read is old has passed its beginning.
    if (this.#startedMs !== undefined) {
      return millisBehindLatest === 0 || millisBehindLatest < askedMs - this.#startedMs;
    }
    if (this.#timestampMs === undefined) return false;
    return millisBehindLatest === 0 && reachedAt(batch, this.#clock) >= this.#timestampMs;
  }
}
