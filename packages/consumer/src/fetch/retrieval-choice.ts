import type { Retrieval } from './fetcher.js';

/** What speaks for one way to read a shard or the other. */
export interface RetrievalMeasures {
  readonly current: Retrieval;
  /** How long the shard has been read in that way. Unit: milliseconds. */
  readonly heldMs: number;
  /** Mean of the last minute or so. */
  readonly bytesPerSecond: number;
  /** Polling was refused for its rate in the last minute. */
  readonly isThrottled: boolean;
  /** The application has a fan-out consumer, or may have one. */
  readonly hasConsumer: boolean;
  /** From where on fan-out is worth its price. */
  readonly fanOutBytesPerSecond: number;
}

/** A way is kept for so long, whatever the traffic: changing costs a moment. */
const LEAST_HELD_MS = 60_000;
/** Fan-out is left when the traffic falls below this share of what it began at. */
const LEAVE_RATIO = 0.25;

/**
 * Chooses how a shard is read: fan-out while the traffic, or a throttled poll, justifies it and a
 * consumer slot is to be had; polling otherwise.
 */
export function chooseRetrieval(measures: RetrievalMeasures): Retrieval {
  const { current, heldMs, bytesPerSecond, isThrottled, hasConsumer, fanOutBytesPerSecond } =
    measures;
  if (!hasConsumer) return 'polling';
  if (current === 'polling') {
    // Being refused is a reason at once; a burst may be over in a moment.
    const isWorthIt =
      isThrottled || (heldMs >= LEAST_HELD_MS && bytesPerSecond >= fanOutBytesPerSecond);
    return isWorthIt ? 'fanOut' : 'polling';
  }
  const isIdle = heldMs >= LEAST_HELD_MS && bytesPerSecond < fanOutBytesPerSecond * LEAVE_RATIO;
  return isIdle ? 'polling' : 'fanOut';
}
