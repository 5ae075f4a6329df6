import {
  type AggregateEncoder,
  startsLikeAggregate,
  startsLikeEnvelope,
  storeInEnvelope,
} from '@shardline/shared';

import { Entry } from './entry.js';
import type { PendingRecord } from './pending-record.js';

export interface AggregateLimits {
  /** Kinesis record with its partition key. Unit: bytes. */
  readonly maxBytes: number;
  readonly maxRecords: number;
}

/**
 * User records of one shard that will share a Kinesis record. A record alone stays as it is, unless
 * its bytes could be taken for an aggregate or an envelope, or it is marked with its origin.
 */
export class OpenAggregate {
  readonly openedMs: number;
  readonly #records: PendingRecord[] = [];
  /** The only record's data until a second one comes. */
  #alone: Buffer | undefined;
  /** Empty again after {@link close}. */
  readonly encoder: AggregateEncoder;

  /** @param encoder - An empty one; it is empty again after {@link close}. */
  constructor(openedMs: number, encoder: AggregateEncoder) {
    this.openedMs = openedMs;
    this.encoder = encoder;
  }

  get count(): number {
    return this.#records.length;
  }

  /** Adds the record if the Kinesis record stays within its limits. The first one always fits. */
  tryAdd(record: PendingRecord, data: Uint8Array, limits: AggregateLimits): boolean {
    const first = this.#records[0];
    if (first === undefined) {
      this.#alone = Buffer.from(data);
      this.#records.push(record);
      return true;
    }
    if (this.#records.length >= limits.maxRecords) return false;
    if (this.#alone !== undefined && this.encoder.count === 0) {
      // What cannot be in company is not encoded.
      if (this.#alone.length + data.length + first.partitionKeyBytes > limits.maxBytes)
        return false;
      this.#encode(first, this.#alone, Infinity);
    }
    if (!this.#encode(record, data, limits.maxBytes - first.partitionKeyBytes)) return false;
    this.#alone = undefined;
    this.#records.push(record);
    return true;
  }

  /** Ends it. The encoder is empty afterwards. */
  close(dueMs: number): Entry {
    const alone = this.#alone;
    const isMarked = this.#records[0]?.origin !== undefined;
    if (alone && !isMarked && !looksEncoded(alone)) {
      this.encoder.reset();
      return new Entry(this.#records, false, alone, dueMs);
    }
    if (alone && this.encoder.count === 0) {
      this.#encode(this.#records[0] as PendingRecord, alone, Infinity);
    }
    const raw = this.encoder.finishUnsummed();
    this.encoder.reset();
    return new Entry(this.#records, true, raw, dueMs);
  }

  #encode(record: PendingRecord, data: Uint8Array, maxBytes: number): boolean {
    return this.encoder.addWithin(
      maxBytes,
      record.partitionKey,
      record.partitionKeyBytes,
      record.partitionKeyHash,
      record.explicitHashKey,
      data,
      record.origin,
    );
  }
}

/** One record as a Kinesis record of its own, for streams whose readers know no aggregates. */
export function unaggregatedEntry(record: PendingRecord, data: Uint8Array, dueMs: number): Entry {
  const payload = looksEncoded(data) ? storeInEnvelope(data, 'data') : Buffer.from(data);
  return new Entry([record], false, payload, dueMs);
}

/** Readers would take something off that the user put there. */
function looksEncoded(data: Uint8Array): boolean {
  return startsLikeAggregate(data) || startsLikeEnvelope(data);
}
