import type { Position, UserRecord } from '@shardline/shared';

import type { WindowCall } from './tumbling-window.js';

/** A checkpoint whose first half is stored. */
export interface PreparedCheckpoint {
  readonly position: Position;
  /** Makes the prepared position the checkpoint. @throws ShardlineError `LEASE_LOST`, or what the store threw. */
  commit(): Promise<void>;
}

/** What a handler knows of the call it serves. */
export interface HandlerContext {
  readonly streamName: string;
  readonly shardId: string;
  /** Of the last record of the call. */
  readonly position: Position;
  /** The records behind the items of the call, in order; the same as the items without `deserialize`. */
  readonly records: readonly UserRecord[];
  /**
   * Aborts when the shard is not ours any more: what is done after that may be done twice. Ask the
   * context for it each time: after the process was stopped it knows before any timer does.
   */
  readonly signal: AbortSignal;
  /** Grows with every owner of the shard: a store can refuse the writes of a former one. */
  readonly fencingToken: number;
  /** 1 for the first call with these records. */
  readonly attempt: number;
  /** How far the shard's tip was ahead when the records were read. Unit: milliseconds. */
  readonly millisBehindLatest: number;
  /**
   * Says that the records of this call, and all before them whose handlers have finished, are done, and
   * stores how far that is. With `checkpointing: 'manual'` nothing else does, but the shard's end.
   *
   * @returns What was stored: less far than this call if records before it are still being handled.
   * @throws ShardlineError `LEASE_LOST`, or what the store threw.
   */
  readonly checkpoint: () => Promise<Position | undefined>;
  /**
   * Stores the first half of a checkpoint, with bytes of the application's own: a next owner gets both
   * in `shardStarted` and decides. Any checkpoint that follows discards it.
   *
   * @throws ShardlineError `LEASE_LOST`, or what the store threw.
   */
  readonly prepareCheckpoint: (state?: Uint8Array) => Promise<PreparedCheckpoint | undefined>;
}

/** A shard that this worker begins to read. */
export interface StartedShard {
  readonly streamName: string;
  readonly shardId: string;
  /** Up to where all records are handled; a place to begin if none are. */
  readonly position: Position;
  /** What a former owner prepared and did not make its checkpoint. */
  readonly pendingCheckpoint:
    | { readonly position: Position; readonly state: Uint8Array | undefined }
    | undefined;
  readonly fencingToken: number;
  readonly signal: AbortSignal;
}

/** Says that a part of a batch was not handled. */
export interface PartialBatch {
  /** Index of the first item that is to be given again; those before it are done. */
  readonly retryFrom: number;
}

/** Told about shards that come and go. What these throw is tried again until it succeeds. */
export interface ShardHooks {
  /** Before the first record of a shard that this worker took over. */
  shardStarted?(shard: StartedShard): Promise<void> | void;
  /** After the last record of a shard that has ended, before its end is stored. */
  shardEnded?(shard: Omit<StartedShard, 'pendingCheckpoint'>): Promise<void> | void;
}

/**
 * What an application does with records. A handler that throws is called again with the same records,
 * later and later, while records of other partition keys go on.
 *
 * `Item` is what `deserialize` makes of a record; without it the record itself.
 */
export type RecordHandler<Item = UserRecord> = ShardHooks &
  (
    | {
        /** Handles one record. */
        processRecord(item: Item, context: HandlerContext): Promise<void> | void;
        processBatch?: never;
        processWindow?: never;
      }
    | {
        /** Handles records that came together, in order. */
        processBatch(
          items: readonly Item[],
          context: HandlerContext,
        ): Promise<PartialBatch | void> | PartialBatch | void;
        processRecord?: never;
        processWindow?: never;
      }
    | {
        /**
         * Handles records of one tumbling window of one shard, and returns what to remember of the
         * window, or a promise of it: anything JSON can hold. What the last call of a window returns is not kept.
         */
        processWindow(items: readonly Item[], window: WindowCall, context: HandlerContext): unknown;
        processRecord?: never;
        processBatch?: never;
      }
  );

/** Gets records a handler failed on too often. What it throws keeps them with the handler. */
export type DeadLetter = (
  records: readonly UserRecord[],
  error: unknown,
  context: HandlerContext,
) => Promise<void> | void;
