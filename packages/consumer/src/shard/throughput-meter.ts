import type { Clock } from '@shardline/shared';

/** As long as the KCL's, three renewals at its default failover time. */
const WINDOW_MS = 10_000;
const WEIGHT = 0.5;

/** Measures how much of a shard is read: a moving average over windows of ten seconds. */
export class ThroughputMeter {
  readonly #clock: Clock;
  #windowStartMs: number;
  #windowBytes = 0;
  #kbps: number | undefined;

  /** @param kbps - What was measured before us, in KiB a second. */
  constructor(clock: Clock, kbps: number | undefined) {
    this.#clock = clock;
    this.#windowStartMs = clock.monotonicMs();
    this.#kbps = kbps;
  }

  /** Counts what was read. @returns The average in KiB a second; undefined before the first window is over. */
  add(bytes: number): number | undefined {
    this.#windowBytes += bytes;
    const nowMs = this.#clock.monotonicMs();
    const elapsedMs = nowMs - this.#windowStartMs;
    if (elapsedMs < WINDOW_MS) return this.#kbps;
    const kbps = this.#windowBytes / 1.024 / elapsedMs;
    this.#kbps = this.#kbps === undefined ? kbps : kbps * WEIGHT + this.#kbps * (1 - WEIGHT);
    this.#windowStartMs = nowMs;
    this.#windowBytes = 0;
    return this.#kbps;
  }
}
