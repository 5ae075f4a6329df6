import type { AggregateEncoder, HashedKey } from '@shardline/shared';

import { Entry, looksEncoded } from './entry.js';
import { HeldRecords } from './held-records.js';
import type { PayloadMemory } from './payload-memory.js';
import type { PendingRecord } from './pending-record.js';

/**
 * User records of one shard that will share a Kinesis record. A record alone stays as it is, unless
 * its bytes could be taken for an aggregate or an envelope, or it is marked with its origin.
 */
export class OpenAggregate {
  readonly openedMs: number;
  /** Empty again after {@link close}. */
  readonly encoder: AggregateEncoder;
  readonly #records: HeldRecords;
  readonly #partitionKey: string;
  readonly #partitionKeyBytes: number;
  readonly #explicitHashKey: string | undefined;
  readonly #isMarked: boolean;

  /**
   * Opens it with its first record, which always fits.
   *
   * @param key - The record's.
   * @param encoder - An empty one; it is empty again after {@link close}.
   */
  constructor(record: PendingRecord, key: HashedKey, openedMs: number, encoder: AggregateEncoder) {
    this.openedMs = openedMs;
    this.encoder = encoder;
    this.#records = new HeldRecords(record.group);
    this.#partitionKey = record.partitionKey;
    this.#partitionKeyBytes = key.bytes;
    this.#explicitHashKey = record.explicitHashKey;
    this.#isMarked = record.origin !== undefined;
    this.tryAdd(record, key, Infinity, Infinity);
  }

  /**
   * Adds a record if the Kinesis record stays within its limits.
   *
   * @param maxBytes - Kinesis record with its partition key. Unit: bytes.
   */
  tryAdd(record: PendingRecord, key: HashedKey, maxBytes: number, maxRecords: number): boolean {
    const { explicitHashKey, data, origin } = record;
    if (this.encoder.count >= maxRecords) return false;
    const maxPayloadBytes = maxBytes - this.#partitionKeyBytes;
    if (!this.encoder.addWithin(maxPayloadBytes, key, explicitHashKey, data, origin)) return false;
    this.#records.add(record, key.bytes);
    return true;
  }

  /**
   * Ends it. The encoder is empty afterwards.
   *
   * @param memory - What the payload is written to.
   */
  close(dueMs: number, memory: PayloadMemory): Entry {
    const { encoder } = this;
    const alone = encoder.count === 1 && !this.#isMarked ? encoder.copyLastData() : undefined;
    const isAggregate = alone === undefined || looksEncoded(alone);
    const raw = isAggregate ? encoder.finishUnsummed(memory.take(encoder.sizeBytes)) : alone;
    encoder.reset();
    return new Entry(
      this.#records,
      this.#partitionKey,
      this.#partitionKeyBytes,
      this.#explicitHashKey,
      isAggregate,
      raw,
      dueMs,
    );
  }
}
