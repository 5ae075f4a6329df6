import { ShardlineError } from '@shardline/shared';

import type { FlushGroup } from './flush-group.js';

/** One try to store a Kinesis record; shared by the user records in it. */
export interface Attempt {
  /** Epoch milliseconds. */
  readonly startedAt: number;
  readonly durationMs: number;
  /** The service's or the system's name of the error; undefined if the record was stored. */
  readonly error: string | undefined;
}

/**
 * Where a user record was stored.
 *
 * A class, since V8 learns of a literal that what it makes lives long, if it did so for a while, and makes the next
 * in the old generation: a put of a few thousand under way costs a fifth more from there on.
 */
export class PutReceipt {
  readonly shardId: string;
  readonly sequenceNumber: string;
  /** Position inside an aggregated Kinesis record; undefined if it is not aggregated. */
  readonly subSequenceNumber: number | undefined;
  readonly attempts: readonly Attempt[];

  constructor(
    shardId: string,
    sequenceNumber: string,
    subSequenceNumber: number | undefined,
    attempts: readonly Attempt[],
  ) {
    this.shardId = shardId;
    this.sequenceNumber = sequenceNumber;
    this.subSequenceNumber = subSequenceNumber;
    this.attempts = attempts;
  }
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

/** Who waits for a record that was put; nobody waits for one that was offered. */
export interface Caller {
  resolve(receipt: PutReceipt): void;
  reject(error: Error): void;
}

/** Who waits for a promise of its own. A class for the reason that {@link PutReceipt} is one. */
export class Waiting implements Caller {
  readonly resolve: Caller['resolve'];
  readonly reject: Caller['reject'];

  constructor(resolve: Caller['resolve'], reject: Caller['reject']) {
    this.resolve = resolve;
    this.reject = reject;
  }
}

/** A user record that is in no Kinesis record yet. */
export interface PendingRecord {
  partitionKey: string;
  explicitHashKey: string | undefined;
  data: Uint8Array;
  /** Data and partition key, as counted by the buffer. */
  bytes: number;
  /** When it is given up, on the monotonic clock; counted from when there was room for it. */
  expiresMs: number;
  group: FlushGroup;
  /** Marks it so that readers know a copy; undefined unless the producer is idempotent. */
  origin: string | undefined;
  caller: Caller | undefined;
}
