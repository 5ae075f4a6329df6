/** A rate with a second's worth of burst; may go into debt when a cost is known only afterwards. */
export class TokenBucket {
  readonly #perSecond: number;
  #tokens: number;
  #atMs: number;

  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#tokens = perSecond;
    this.#atMs = nowMs;
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
    if (nowMs <= this.#atMs) return;
    const grown = this.#tokens + ((nowMs - this.#atMs) / 1000) * this.#perSecond;
    this.#tokens = Math.min(this.#perSecond, grown);
    this.#atMs = nowMs;
  }
}
