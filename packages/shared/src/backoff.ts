import type { Random } from './random.js';

export interface BackoffRule {
  /** Upper bound of the first delay. Unit: milliseconds. */
  readonly baseMs: number;
  /** Upper bound of every delay. Unit: milliseconds. */
  readonly capMs: number;
}

/**
 * A delay drawn evenly from 0 to `min(capMs, baseMs * 2^attempt)`, so that clients that failed
 * together do not come back together.
 *
 * @param attempt - 0 for the delay after the first failure.
 * @see https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function fullJitterMs(rule: BackoffRule, attempt: number, random: Random): number {
  return random() * Math.min(rule.capMs, rule.baseMs * 2 ** Math.min(attempt, 52));
}
