import { ShardlineError } from '@shardline/shared';

/** One try to store a Kinesis record; shared by the user records in it. */
export interface Attempt {
  /** Epoch milliseconds. */
  readonly startedAt: number;
  readonly durationMs: number;
  /** The service's or the system's name of the error; undefined if the record was stored. */
  readonly error: string | undefined;
}

/** Where a user record was stored. */
export interface PutReceipt {
  readonly shardId: string;
  readonly sequenceNumber: string;
  /** Position inside an aggregated Kinesis record; undefined if it is not aggregated. */
  readonly subSequenceNumber: number | undefined;
  readonly attempts: readonly Attempt[];
}

/** Why a record could not be stored, and what was tried. */
export class PutError extends ShardlineError {
  override readonly name = 'PutError';
  readonly attempts: readonly Attempt[];

  constructor(error: ShardlineError, attempts: readonly Attempt[]) {
    super(error.code, error.message, error);
    this.attempts = attempts;
  }
}

/** What became of user records that were offered and went into one Kinesis record. */
export type PutOutcome =
  | {
      readonly stored: true;
      readonly userRecords: number;
      readonly shardId: string;
      readonly sequenceNumber: string;
    }
  | { readonly stored: false; readonly userRecords: number; readonly error: PutError };

/** A record that could not be delivered, with what it takes to deliver it some other way. */
export interface UndeliverableRecord {
  readonly partitionKey: string;
  readonly explicitHashKey: string | undefined;
  readonly data: Buffer;
  readonly error: PutError;
}

/** Records that were put between two flushes; a flush waits until none of them is outstanding. */
export interface FlushGroup {
  outstanding: number;
  previous: FlushGroup | undefined;
  readonly waiters: (() => void)[];
}

/** A user record on its way. Its data is in the aggregate or the Kinesis record that holds it. */
export interface PendingRecord {
  readonly partitionKey: string;
  readonly partitionKeyBytes: number;
  /** Always the same for the same partition key, for look-ups. */
  readonly partitionKeyHash: number;
  readonly explicitHashKey: string | undefined;
  /** Data and partition key, as counted by the buffer. */
  readonly bytes: number;
  /** When it is given up, on the monotonic clock; counted from when there was room for it. */
  expiresMs: number;
  group: FlushGroup;
  /** Marks it so that readers know a copy; undefined unless the producer is idempotent. */
  origin: string | undefined;
  /** Whoever put it has been told; what still comes of it is of no consequence. */
  isSettled: boolean;
  /** Undefined for records that were offered. */
  resolve: ((receipt: PutReceipt) => void) | undefined;
  reject: ((error: Error) => void) | undefined;
}
