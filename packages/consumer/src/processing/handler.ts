import type { UserRecord } from '@shardline/shared';

/** What a handler knows of the call it serves. */
export interface HandlerContext {
  readonly shardId: string;
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
}

/**
 * What an application does with records. A handler that throws is called again with the same records,
 * later and later, while records of other partition keys go on.
 */
export type RecordHandler =
  | {
      /** Handles one record. */
      processRecord(record: UserRecord, context: HandlerContext): Promise<void> | void;
      processBatch?: never;
    }
  | {
      /** Handles records that came together, in order. */
      processBatch(records: readonly UserRecord[], context: HandlerContext): Promise<void> | void;
      processRecord?: never;
    };

/** Gets records a handler failed on too often. What it throws keeps them with the handler. */
export type DeadLetter = (
  records: readonly UserRecord[],
  error: unknown,
  context: HandlerContext,
) => Promise<void> | void;
