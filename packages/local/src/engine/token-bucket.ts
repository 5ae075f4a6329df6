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
    return this.waitMs(cost, nowMs) === 0;
  }

  /** How long until `cost` is there. Unit: milliseconds. */
  waitMs(cost: number, nowMs: number): number {
    this.#refill(nowMs);
    return Math.max(((cost - this.#tokens) / this.#perSecond) * 1000, 0);
  }

  take(cost: number): void {
    // More than a second's worth uses up the burst too: it is paid for in full.
    const isLarge = cost > this.#perSecond;
    this.#tokens = (isLarge ? Math.min(this.#tokens, 0) : this.#tokens) - cost;
  }

  #refill(nowMs: number): void {
    const elapsedMs = nowMs - (this.#atMs ?? nowMs);
    const grown = this.#tokens + (elapsedMs / 1000) * this.#perSecond;
    this.#tokens = Math.min(this.#perSecond, grown);
    this.#atMs = nowMs;
  }
}

/** A bucket for a rate, or none where there is no limit. */
export function bucketFor(perSecond: number | null | undefined): TokenBucket | undefined {
  return perSecond === null || perSecond === undefined ? undefined : new TokenBucket(perSecond);
}
