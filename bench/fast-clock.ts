import type { Clock } from '@shardline/shared';

/** Time that runs several times as fast, so that the pace of a shard does not hold up a bench. */
export function fastClock(speed: number): Clock {
  return {
    now: () => Date.now(),
    monotonicMs: () => performance.now() * speed,
    schedule(delayMs, callback) {
      const handle = setTimeout(callback, delayMs / speed);
      return { cancel: () => clearTimeout(handle) };
    },
  };
}

/** Options of a producer whose shards' pace is out of the way; other times are much as by default. */
export function unpaced(speed: number): {
  readonly clock: Clock;
  readonly lingerMs: number;
  readonly requestTimeoutMs: number;
  readonly recordTtlMs: number;
} {
  return {
    clock: fastClock(speed),
    lingerMs: 50 * speed,
    requestTimeoutMs: 10_000 * speed,
    recordTtlMs: 30_000 * speed,
  };
}
