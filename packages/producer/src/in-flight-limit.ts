const FIRST = 4;
/** Failures of one moment count once. */
const PAUSE_MS = 100;

/**
 * How many requests may be in flight: one more each time as many as allowed were answered, half as many
 * when one fails, so that a service in trouble is not pressed harder.
 */
export class InFlightLimit {
  readonly #max: number;
  #value: number;
  #failedMs = -Infinity;

  constructor(max: number) {
    this.#max = max;
    this.#value = Math.min(FIRST, max);
  }

  get value(): number {
    return Math.floor(this.#value);
  }

  /** @param inFlight - Requests in flight when the answer came, this one included. */
  onAnswered(inFlight: number): void {
    // A limit that was not reached says nothing about a higher one.
    if (inFlight >= this.value) this.#value = Math.min(this.#value + 1 / this.value, this.#max);
  }

  onFailed(nowMs: number): void {
    if (nowMs - this.#failedMs < PAUSE_MS) return;
    this.#failedMs = nowMs;
    this.#value = Math.max(this.#value / 2, 1);
  }
}
