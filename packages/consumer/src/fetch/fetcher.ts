import type { Clock, HashRange, KinesisRecord, Position } from '@shardline/shared';

/** A shard that took over hash keys of one that has ended. */
export interface ChildShard {
  readonly shardId: string;
  readonly parentShardIds: readonly string[];
  readonly range: HashRange;
}

/** Records of one shard, in order. */
export interface FetchedBatch {
  readonly records: readonly KinesisRecord[];
  readonly millisBehindLatest: number;
  /** The lag was true at this moment or later, on the monotonic clock: a batch may wait before it is looked at. */
  readonly askedMs: number;
  /** Present with the last records of a shard that has ended. */
  readonly childShards: readonly ChildShard[] | undefined;
  /** Where a reader goes on after this batch. */
  readonly resume: StartingPoint;
}

/** Where to begin to read. */
export interface StartingPoint {
  readonly position: Position;
  /** For the position AT_TIMESTAMP, epoch milliseconds. */
  readonly timestampMs: number | undefined;
  /** True if the record at the position was given before. */
  readonly isAfter: boolean;
}

/** How a shard is read. */
export type Retrieval = 'polling' | 'fanOut';

/** Told when something stands in the way of reading, and with undefined when it is over. */
export type TroubleListener = (what: string | undefined) => void;

/** Reads one shard, by whatever way. */
export interface Fetcher {
  /**
   * Gives the records from a position on until the shard ends or the signal aborts; troubles on the way
   * are waited out. Reads no further than it is asked for.
   *
   * @throws ShardlineError `SERVICE_UNAVAILABLE` if nothing could be read for five minutes;
   * `STREAM_NOT_FOUND` if the shard is gone.
   */
  fetch(
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
    onTrouble: TroubleListener,
  ): AsyncIterable<FetchedBatch>;
}

/** Bytes of data in a batch. */
export function bytesOf(batch: Pick<FetchedBatch, 'records'>): number {
  let bytes = 0;
  for (const { Data } of batch.records) bytes += Data?.length ?? 0;
  return bytes;
}

/** What follows a batch arrived at this time or later. Epoch milliseconds, by this machine's clock. */
export function reachedAt(
  { askedMs, millisBehindLatest }: Pick<FetchedBatch, 'askedMs' | 'millisBehindLatest'>,
  clock: Clock,
): number {
  return clock.now() - (clock.monotonicMs() - askedMs) - millisBehindLatest;
}

/** A point behind a record that was given. */
export function afterRecord(sequenceNumber: string): StartingPoint {
  return {
    position: { sequenceNumber, subSequenceNumber: 0 },
    timestampMs: undefined,
    isAfter: true,
  };
}

/** A point at a time, by the service's clock. */
export function atTimestamp(timestampMs: number): StartingPoint {
  return {
    position: { sequenceNumber: 'AT_TIMESTAMP', subSequenceNumber: 0 },
    timestampMs,
    isAfter: false,
  };
}
