import { publishDiagnostics } from '@shardline/shared';

import type { Admission } from './admission.js';
import type { Entry } from './entry.js';
import type { ResolvedProducerOptions } from './options.js';
import type { PutError } from './pending-record.js';
import {
  type Attempt,
  type Caller,
  type PendingRecord,
  PutReceipt,
  type UndeliverableRecord,
} from './pending-record.js';

export type SettlementOptions = Pick<
  ResolvedProducerOptions<never>,
  'clock' | 'stream' | 'recordTtlMs' | 'onOutcome' | 'onUndeliverable'
>;

/** Tells whoever put records what became of them, and gives back their room in the buffer. */
export class Settlement {
  /** User records so far. */
  delivered = 0;
  failed = 0;
  /** Data of those that were delivered. */
  userBytes = 0;
  readonly #options: SettlementOptions;
  readonly #admission: Admission;

  constructor(options: SettlementOptions, admission: Admission) {
    this.#options = options;
    this.#admission = admission;
  }

  entryDelivered(entry: Entry, shardId: string, sequenceNumber: string): void {
    const { isAggregate, attempts, records } = entry;
    const { open, bytes, dataBytes, nextExpiryMs } = records;
    let offered = open;
    if (records.hasCallers) {
      for (const index of records.openIndexes()) {
        const caller = records.caller(index);
        if (!caller) continue;
        offered -= 1;
        const subSequenceNumber = isAggregate ? index : undefined;
        caller.resolve(new PutReceipt(shardId, sequenceNumber, subSequenceNumber, attempts));
      }
    }
    records.settleAll();
    this.delivered += open;
    this.userBytes += dataBytes;
    this.#admission.leave(open, bytes);
    this.#publish(open, attempts, nextExpiryMs, shardId, undefined);
    if (offered > 0) {
      this.#options.onOutcome?.({ stored: true, userRecords: offered, shardId, sequenceNumber });
    }
  }

  /** @param indexes - Those that failed; the entry's other records go on. */
  entryFailed(entry: Entry, indexes: readonly number[], error: PutError): void {
    const { records } = entry;
    const { onUndeliverable } = this.#options;
    const { nextExpiryMs } = records;
    const isWhole = indexes.length === records.open;
    // Taken out of the payload only if anybody wants to know.
    const userRecords = onUndeliverable || !isWhole ? entry.userRecords() : [];
    const failed = indexes.flatMap((index) => userRecords[index] ?? []);
    onUndeliverable?.(failed.map((record) => undeliverable(record, error)));
    const callers = indexes.map((index) => records.caller(index));
    let { bytes } = records;
    if (isWhole) records.settleAll();
    else {
      for (const [position, { partitionKey, data }] of failed.entries()) {
        const keyBytes = Buffer.byteLength(partitionKey);
        records.settle(indexes[position] as number, data.length + keyBytes, keyBytes);
      }
      bytes -= records.bytes;
    }
    this.#fail(callers, error, bytes, nextExpiryMs);
  }

  /** Gives up records that are in no Kinesis record yet. */
  recordsFailed(records: readonly PendingRecord[], error: PutError): void {
    if (records.length === 0) return;
    this.#options.onUndeliverable?.(records.map((record) => undeliverable(record, error)));
    const firstExpiresMs = records.reduce(
      (min, { expiresMs }) => Math.min(min, expiresMs),
      Infinity,
    );
    let bytes = 0;
    for (const record of records) {
      record.group.leave(1);
      bytes += record.bytes;
    }
    const callers = records.map(({ caller }) => caller);
    this.#fail(callers, error, bytes, firstExpiresMs);
  }

  #fail(
    callers: readonly (Caller | undefined)[],
    error: PutError,
    bytes: number,
    firstExpiresMs: number,
  ): void {
    let offered = 0;
    for (const caller of callers) {
      if (caller) caller.reject(error);
      else offered += 1;
    }
    this.failed += callers.length;
    this.#admission.leave(callers.length, bytes);
    this.#publish(callers.length, error.attempts, firstExpiresMs, undefined, error.code);
    if (offered > 0) this.#options.onOutcome?.({ stored: false, userRecords: offered, error });
  }

  #publish(
    userRecords: number,
    attempts: readonly Attempt[],
    firstExpiresMs: number,
    shardId: string | undefined,
    error: string | undefined,
  ): void {
    publishDiagnostics('shardline:producer:settled', () => {
      const { clock, recordTtlMs, stream } = this.#options;
      return {
        streamName: stream.name,
        userRecords,
        attempts: attempts.length,
        ageMs: clock.monotonicMs() - (firstExpiresMs - recordTtlMs),
        shardId,
        error,
      };
    });
  }
}

function undeliverable(
  {
    partitionKey,
    explicitHashKey,
    data,
  }: {
    readonly partitionKey: string;
    readonly explicitHashKey: string | undefined;
    readonly data: Uint8Array;
  },
  error: PutError,
): UndeliverableRecord {
  return { partitionKey, explicitHashKey, data: Buffer.from(data), error };
}
