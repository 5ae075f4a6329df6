import type { Clock } from '@shardline/shared';

/** Calls one shard takes, shared by all who poll it. @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html */
const CALLS_PER_SECOND = 5;
/** A tenth more than the service asks, for the jitter of the way there. */
const SHORTEST_PAUSE_MS = (1000 / CALLS_PER_SECOND) * 1.1;
/** The service's rate for polling, which it enforces by refusing the calls that follow. */
const READ_BYTES_PER_SECOND = 2 * 2 ** 20;
/** What a read should bring. More would only make the next one wait, and lie in memory meanwhile. */
const PAGE_BYTES = READ_BYTES_PER_SECOND / 2;
/** @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html */
const MAX_PAGE_RECORDS = 10_000;
/** Until it is known how large they are: if they are aggregates, a megabyte. */
export const FIRST_PAGE_RECORDS = 20;
/** Each empty read at the tip makes the next pause so much longer. */
const IDLE_GROWTH = 1.25;

export interface IdlePauses {
  readonly idlePauseMs: number;
  readonly maxIdlePauseMs: number;
}

/**
 * How long to wait at least after a read before the next one: not at all while there is something to
 * catch up on, longer and longer at the tip of a shard that is silent.
 *
 * @param emptyReads - How many in a row gave nothing, this one included.
 */
export function pauseAfterRead(
  millisBehindLatest: number,
  emptyReads: number,
  { idlePauseMs, maxIdlePauseMs }: IdlePauses,
): number {
  if (millisBehindLatest > 0) return 0;
  const grown = idlePauseMs * IDLE_GROWTH ** Math.min(Math.max(emptyReads - 1, 0), 50);
  return Math.min(grown, Math.max(idlePauseMs, maxIdlePauseMs));
}

/**
 * How many records the next read should ask for.
 *
 * @param records - What the last read brought, one at least.
 */
export function nextPageRecords(records: number, bytes: number): number {
  return Math.min(Math.max(Math.floor((PAGE_BYTES / bytes) * records), 1), MAX_PAGE_RECORDS);
}

/** The calls and bytes of one shard, shared by all readers of this process. */
export class ReadPace {
  #nextMs = 0;

  /**
   * Books the next call.
   *
   * @param shareRatio - How much of the shard's rate this reader may use. 0 to 1.
   * @returns When it may be made, on the monotonic clock.
   */
  book(nowMs: number, shareRatio: number): number {
    const atMs = Math.max(nowMs, this.#nextMs);
    this.#nextMs = atMs + SHORTEST_PAUSE_MS / shareRatio;
    return atMs;
  }

  /** Takes note of what a call brought: the next one waits until the shard's rate allows it. */
  charge(calledMs: number, bytes: number, shareRatio: number): void {
    const owedMs = ((bytes / READ_BYTES_PER_SECOND) * 1000) / shareRatio;
    this.#nextMs = Math.max(this.#nextMs, calledMs + owedMs);
  }
}

interface SharedPace {
  readonly pace: ReadPace;
  readers: number;
}

/** By clock, so that tests with a clock of their own share nothing. */
const paces = new WeakMap<Clock, Map<string, SharedPace>>();

/**
 * The pace of one shard: the same for all readers of it in this process, whatever consumer they belong
 * to. Give it back by {@link releasePace}.
 *
 * @param shard - Names the stream and the shard.
 */
export function sharedPace(clock: Clock, shard: string): ReadPace {
  let shards = paces.get(clock);
  if (!shards) paces.set(clock, (shards = new Map()));
  let shared = shards.get(shard);
  if (!shared) shards.set(shard, (shared = { pace: new ReadPace(), readers: 0 }));
  shared.readers += 1;
  return shared.pace;
}

export function releasePace(clock: Clock, shard: string): void {
  const shards = paces.get(clock);
  const shared = shards?.get(shard);
  if (!shards || !shared) return;
  shared.readers -= 1;
  if (shared.readers === 0) shards.delete(shard);
}
