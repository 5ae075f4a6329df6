import type { HashRange, KinesisRecord, Position } from '@shardline/shared';

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
  /** Present with the last records of a shard that has ended. */
  readonly childShards: readonly ChildShard[] | undefined;
}

/** Where to begin to read. */
export interface StartingPoint {
  readonly position: Position;
  /** For the position AT_TIMESTAMP. */
  readonly timestamp: Date | undefined;
}

/** Reads one shard, by whatever way. */
export interface Fetcher {
  /**
   * Gives the records from a position on, the record at it included, until the shard ends or the
   * signal aborts; troubles on the way are waited out. Reads no further than it is asked for.
   *
   * @param onTrouble - Told when something stands in the way, and with undefined when it is over.
   */
  fetch(
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
    onTrouble: (what: string | undefined) => void,
  ): AsyncIterable<FetchedBatch>;
}
