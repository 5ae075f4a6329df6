import {
  CHECKSUM_LANES,
  decodeRecords,
  startsLikeAggregate,
  startsLikeEnvelope,
  sumAggregates,
} from '@shardline/shared';

import type { HeldRecords } from './held-records.js';
import type { Attempt, PendingRecord } from './pending-record.js';

const NONE: readonly Attempt[] = [];

/** Readers would take something off that the user put there. */
export function looksEncoded(data: Uint8Array): boolean {
  return startsLikeAggregate(data) || startsLikeEnvelope(data);
}

/** A Kinesis record on its way: one entry of PutRecords, and the user records in it. */
export class Entry {
  readonly records: HeldRecords;
  readonly isAggregate: boolean;
  readonly partitionKey: string;
  /** Without one the service hashes the key, which is the first record's: the predicted shard. */
  readonly explicitHashKey: string | undefined;
  readonly partitionKeyBytes: number;
  /** When it must leave at the latest, on the monotonic clock. */
  readonly dueMs: number;
  /** When the first of its records is given up, on the monotonic clock. */
  readonly expiresMs: number;
  attempts: readonly Attempt[] = NONE;
  /** False while it is being compressed. */
  isSealed = true;
  /** Its records went to other entries; whoever still holds it lets it go. */
  isAbandoned = false;
  payload: Buffer;
  #isSummed: boolean;

  /**
   * Fills in the checksums that aggregates lack, of all at once.
   *
   * @param later - Takes these too, if that costs next to nothing.
   */
  static sum(entries: readonly Entry[], later: Iterable<Entry> = []): void {
    const open = entries.filter((entry) => !entry.#isSummed);
    if (open.length === 0) return;
    for (const entry of later) {
      if (open.length >= CHECKSUM_LANES) break;
      if (!entry.#isSummed) open.push(entry);
    }
    sumAggregates(open.map(({ payload }) => payload));
    for (const entry of open) entry.#isSummed = true;
  }

  /** @param raw - Of an aggregate, without its checksum: see {@link sum}. */
  constructor(
    records: HeldRecords,
    partitionKey: string,
    partitionKeyBytes: number,
    explicitHashKey: string | undefined,
    isAggregate: boolean,
    raw: Buffer,
    dueMs: number,
  ) {
    this.records = records;
    this.partitionKey = partitionKey;
    this.partitionKeyBytes = partitionKeyBytes;
    this.explicitHashKey = explicitHashKey;
    this.isAggregate = isAggregate;
    this.#isSummed = !isAggregate;
    this.payload = raw;
    this.dueMs = dueMs;
    this.expiresMs = records.nextExpiryMs;
  }

  /** What the service counts. */
  get bytes(): number {
    return this.payload.length + this.partitionKeyBytes;
  }

  /** Its user records, settled or not, as its payload has them: rarely needed, so they are not kept. */
  userRecords(): readonly {
    readonly partitionKey: string;
    readonly explicitHashKey: string | undefined;
    readonly data: Buffer;
    readonly origin: string | undefined;
  }[] {
    Entry.sum([this]);
    const { payload, partitionKey, explicitHashKey, isAggregate } = this;
    return decodeRecords([{ Data: payload }], { onDamage: 'error' }).map(
      ({ data, origin, ...inside }) =>
        isAggregate
          ? {
              partitionKey: inside.partitionKey ?? partitionKey,
              explicitHashKey: inside.explicitHashKey,
              data,
              origin,
            }
          : { partitionKey, explicitHashKey, data, origin },
    );
  }

  /**
   * Those of its user records that are open, to go into other Kinesis records.
   *
   * @param keep - Which of them.
   */
  pending(keep: (index: number) => boolean = () => true): PendingRecord[] {
    const { records } = this;
    return this.userRecords().flatMap((record, index) =>
      records.isSettled(index) || !keep(index)
        ? []
        : {
            ...record,
            bytes: record.data.length + Buffer.byteLength(record.partitionKey),
            expiresMs: records.expiresMs(index),
            group: records.group,
            caller: records.caller(index),
          },
    );
  }
}
