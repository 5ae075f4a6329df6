import {
  awsErrorName,
  type BackoffRule,
  classifyAwsError,
  type Clock,
  fromAwsError,
  fullJitterMs,
  type Random,
  ShardlineError,
} from '@shardline/shared';

/** A reader that got nothing for so long lets another worker try. */
const READ_STALL_MS = 300_000;

/** What to do after a read failed. */
export interface ReadFailure {
  readonly name: string;
  readonly delayMs: number;
  /** The iterator is of no use any more; where it stood is known. */
  readonly needsNewIterator: boolean;
}

/** Counts failed reads of one shard in a row: how long to wait, and when to give up. */
export class ReadFailures {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #backoff: BackoffRule;
  #count = 0;
  #sinceMs = 0;

  constructor(clock: Clock, random: Random, backoff: BackoffRule) {
    this.#clock = clock;
    this.#random = random;
    this.#backoff = backoff;
  }

  get count(): number {
    return this.#count;
  }

  reset(): void {
    this.#count = 0;
  }

  /**
   * Takes note of a failure.
   *
   * @throws ShardlineError `STREAM_NOT_FOUND` if the shard is gone; `SERVICE_UNAVAILABLE` if nothing
   * could be read for `READ_STALL_MS`.
   */
  add(error: unknown): ReadFailure {
    const kind = classifyAwsError(error);
    const nowMs = this.#clock.monotonicMs();
    if (this.#count === 0) this.#sinceMs = nowMs;
    if (kind === 'notFound') throw fromAwsError(error, 'reading the shard');
    if (nowMs - this.#sinceMs > READ_STALL_MS) {
      throw new ShardlineError(
        'SERVICE_UNAVAILABLE',
        `the shard could not be read for ${READ_STALL_MS} ms, last ${awsErrorName(error)}`,
        { retryable: true, value: awsErrorName(error), limit: READ_STALL_MS, unit: 'ms' },
      );
    }
    const name = awsErrorName(error);
    const delayMs = fullJitterMs(this.#backoff, this.#count, this.#random);
    this.#count += 1;
    // An iterator lives five minutes.
    const needsNewIterator = kind === 'poison' || name === 'ExpiredIteratorException';
    return { name, delayMs, needsNewIterator };
  }
}

/** The error for an end that names no children: the service has not made up its mind. */
export function endWithoutChildren(): Error {
  return Object.assign(new Error('shard end without children'), { name: 'InvalidShardEnd' });
}
