/** What a shard takes. @see https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html */
const SHARD_RECORDS_PER_SECOND = 1_000;
const SHARD_BYTES_PER_SECOND = 2 ** 20;

/** Most that may go at once after a pause, as a share of a second's quota: a cold start does not burst. */
const BURST_SECONDS = 0.1;
/**
 * Once nothing is left, so much is saved up before anything goes again: under load a shard is written
 * fifty times a second, not once a record.
 */
const SAVE_SECONDS = 0.02;
const LOWEST_RATIO = 0.01;
/** Regained each second without throttling. */
const RECOVERY_PER_SECOND = 0.1;
const BACK_OFF_RATIO = 0.5;
/** Refusals of one moment count once. */
const BACK_OFF_PAUSE_MS = 100;

/**
 * How fast one shard is written: the service's quota times a ratio that is halved when the service
 * throttles and grows back slowly, so that producers which know nothing of each other share a shard.
 * Knows nothing of clocks: every call says what time it is.
 */
export class Pace {
  #records = SHARD_RECORDS_PER_SECOND * BURST_SECONDS;
  #bytes = SHARD_BYTES_PER_SECOND * BURST_SECONDS;
  #ratio = 1;
  #atMs: number;
  #throttledMs = -Infinity;
  #isSaving = false;

  constructor(nowMs: number) {
    this.#atMs = nowMs;
  }

  /** Share of the shard's quota used at present. 0.01 to 1. */
  ratioAt(nowMs: number): number {
    this.#refill(nowMs);
    return this.#ratio;
  }

  /** How long until something may be sent; 0 if it may be now. Unit: milliseconds. */
  waitMs(nowMs: number): number {
    this.#refill(nowMs);
    if (this.#records <= 0 || this.#bytes <= 0) this.#isSaving = true;
    if (!this.#isSaving) return 0;
    const records = SAVE_SECONDS - this.#records / (SHARD_RECORDS_PER_SECOND * this.#ratio);
    const bytes = SAVE_SECONDS - this.#bytes / (SHARD_BYTES_PER_SECOND * this.#ratio);
    // Less than a nanosecond is rounding.
    if (records < 1e-9 && bytes < 1e-9) this.#isSaving = false;
    return this.#isSaving ? Math.max(records, bytes) * 1000 : 0;
  }

  /** Counts what is sent. May go into debt, which later sends wait off. */
  spend(bytes: number): void {
    this.#records -= 1;
    this.#bytes -= bytes;
  }

  onThrottled(nowMs: number): void {
    this.#refill(nowMs);
    if (nowMs - this.#throttledMs < BACK_OFF_PAUSE_MS) return;
    this.#throttledMs = nowMs;
    this.#ratio = Math.max(this.#ratio * BACK_OFF_RATIO, LOWEST_RATIO);
  }

  #refill(nowMs: number): void {
    const seconds = (nowMs - this.#atMs) / 1000;
    if (seconds <= 0) return;
    this.#atMs = nowMs;
    this.#ratio = Math.min(1, this.#ratio + seconds * RECOVERY_PER_SECOND);
    const records = SHARD_RECORDS_PER_SECOND * this.#ratio;
    const bytes = SHARD_BYTES_PER_SECOND * this.#ratio;
    this.#records = Math.min(this.#records + seconds * records, records * BURST_SECONDS);
    this.#bytes = Math.min(this.#bytes + seconds * bytes, bytes * BURST_SECONDS);
  }
}
