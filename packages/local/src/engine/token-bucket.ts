/** A rate with a second's worth of burst; may go into debt when a cost is known only afterwards. */
export class TokenBucket {
  readonly #perSecond: number;
  #tokens: number;
  #atMs: number | undefined;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
  }

  /** True if `cost` is there now. */
  has(cost: number, nowMs: number): boolean {
    this.#refill(nowMs);
    return this.#tokens >= cost;
  }

  take(cost: number): void {
    this.#tokens -= cost;
  }

  #refill(nowMs: number): void {
    const elapsedMs = nowMs - (this.#atMs ?? nowMs);
    const grown = this.#tokens + (elapsedMs / 1000) * this.#perSecond;
    this.#tokens = Math.min(this.#perSecond, grown);
    this.#atMs = nowMs;
  }
}
