import { decodeRecords, sumAggregates } from '@shardline/shared';

import type { Attempt, PendingRecord } from './pending-record.js';

/** A Kinesis record on its way: one entry of PutRecords, and the user records in it. */
export class Entry {
  readonly records: readonly PendingRecord[];
  readonly isAggregate: boolean;
  readonly partitionKey: string;
  readonly explicitHashKey: string | undefined;
  readonly partitionKeyBytes: number;
  /** When it must leave at the latest, on the monotonic clock. */
  readonly dueMs: number;
  /** When the first of its records is given up, on the monotonic clock. */
  readonly expiresMs: number;
  attempts: readonly Attempt[] = [];
  /** False while it is being compressed. */
  isSealed = true;
  /** Its records went to other entries; whoever still holds it lets it go. */
  isAbandoned = false;
  payload: Buffer;
  #isSummed: boolean;

  /** Fills in the checksums that aggregates lack, of all at once. */
  static sum(entries: readonly Entry[]): void {
    const open = entries.filter((entry) => !entry.#isSummed);
    sumAggregates(open.map(({ payload }) => payload));
    for (const entry of open) entry.#isSummed = true;
  }

  /** @param raw - Of an aggregate, without its checksum: see {@link sum}. */
  constructor(records: readonly PendingRecord[], isAggregate: boolean, raw: Buffer, dueMs: number) {
    const first = records[0] as PendingRecord;
    this.records = records;
    this.isAggregate = isAggregate;
    this.#isSummed = !isAggregate;
    this.payload = raw;
    this.partitionKey = first.partitionKey;
    this.partitionKeyBytes = first.partitionKeyBytes;
    // Without one the service hashes the key, which is the first record's: the predicted shard.
    this.explicitHashKey = first.explicitHashKey;
    this.dueMs = dueMs;
    let expiresMs = Infinity;
    for (const record of records) if (record.expiresMs < expiresMs) expiresMs = record.expiresMs;
    this.expiresMs = expiresMs;
  }

  /** What the service counts. */
  get bytes(): number {
    return this.payload.length + this.partitionKeyBytes;
  }

  /** When the next of its records is given up; `Infinity` if all are settled. */
  get nextExpiryMs(): number {
    return this.records.reduce(
      (min, { expiresMs, isSettled }) => (isSettled ? min : Math.min(min, expiresMs)),
      Infinity,
    );
  }

  /** The data of each user record, out of the payload. */
  userData(): readonly Buffer[] {
    Entry.sum([this]);
    return decodeRecords([{ Data: this.payload }], { onDamage: 'error' }).map(({ data }) => data);
  }
}
