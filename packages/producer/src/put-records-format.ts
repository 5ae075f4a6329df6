import type { PutRecordsEntry } from './put-records-client.js';
import type { EntryOutcome } from './verdict.js';

/** A way to write the bodies of PutRecords. */
export interface PutRecordsFormat {
  /** Undefined if it is the SDK's own. */
  readonly contentType: string | undefined;
  /** Bytes that a body has at most. */
  largestBytes(entries: readonly PutRecordsEntry[]): number;
  /** @returns How many bytes it has. */
  write(body: Buffer, entries: readonly PutRecordsEntry[]): number;
}

/** What the answer to PutRecords says of an entry. */
export interface PutRecordsResult {
  readonly SequenceNumber?: string | undefined;
  readonly ShardId?: string | undefined;
  readonly ErrorCode?: string | undefined;
}

/** What is null, as some write what is not there, is not there. */
export function outcomeOf({ SequenceNumber, ShardId, ErrorCode }: PutRecordsResult): EntryOutcome {
  return SequenceNumber && ShardId
    ? { shardId: ShardId, sequenceNumber: SequenceNumber }
    : { errorCode: ErrorCode ?? 'MissingResult' };
}
