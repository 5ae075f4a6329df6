import { randomUUID } from 'node:crypto';
import { Writable } from 'node:stream';

import { ByteBudget, canonicalHashKey, HashedKey, ShardlineError, sleep } from '@shardline/shared';

import { Admission } from './admission.js';
import { Dispatcher } from './dispatcher.js';
import { FlushGroup } from './flush-group.js';
import { type HotKey, HotKeys } from './hot-keys.js';
import { ManyPuts } from './many-puts.js';
import {
  type ProducerOptions,
  type PutRecord,
  type ResolvedProducerOptions,
  resolveProducerOptions,
} from './options.js';
import { type Caller, type PendingRecord, type PutReceipt, Waiting } from './pending-record.js';
import { type KinesisWritePort, SdkKinesisWritePort } from './put-records-client.js';
import { RecentTime } from './recent-time.js';
import { bytesOfData, checkPartitionKey, checkSize } from './record-checks.js';
import { Router } from './router.js';
import { Settlement } from './settlement.js';
import { ShardListing } from './shard-listing.js';

/** What a producer did since it was made, and what it holds. */
export interface ProducerStats {
  readonly userRecordsReceived: number;
  readonly userRecordsDelivered: number;
  readonly userRecordsFailed: number;
  /** Stored, each counted once a copy. */
  readonly kinesisRecords: number;
  /** Payload and partition keys of the Kinesis records that were stored. */
  readonly kinesisBytes: number;
  /** Data of the user records that were stored. */
  readonly userBytes: number;
  readonly requests: number;
  /** Requests that failed as a whole. */
  readonly failedRequests: number;
  /** Entries of requests that were sent again, for whatever reason. */
  readonly retriedEntries: number;
  readonly throttledEntries: number;
  /** User records given up because their time was over. */
  readonly expiredRecords: number;
  /** How often the service or the way to it answered with each error. */
  readonly errorsByCode: Readonly<Record<string, number>>;
  /** Kinesis records stored on a shard that does not own all their user records, and sent again. */
  readonly resentEntries: number;
  /** Bytes before and after compression of what was compressed. */
  readonly compression: { readonly rawBytes: number; readonly sealedBytes: number };
  readonly bufferedRecords: number;
  readonly bufferedBytes: number;
  readonly requestsInFlight: number;
  readonly openShards: number;
  /** How long the oldest record that has not been sent has waited. Unit: milliseconds. */
  readonly oldestWaitingMs: number;
  /** Share of its quota at which each throttled shard is written at present, the slowest first, at most ten. */
  readonly slowestShards: readonly { readonly shardId: string; readonly ratio: number }[];
  /** The most frequent hash keys, if `trackHotKeys` is on. */
  readonly hotKeys: readonly HotKey[];
}

const HOT_KEY_COUNTERS = 100;
const TOP = 10;
/** Any stream's, its partition key included. @see https://docs.aws.amazon.com/streams/latest/dev/large-records.html */
const LARGEST_RECORD_BYTES = 10 * 2 ** 20;
/** Room that ends a drain(): as much as this, or this part of what the buffer holds. */
const DRAIN_RECORDS = 1_000;
const DRAIN_BYTES = 2 ** 18;
const DRAIN_SHARE = 8;

/**
 * Puts records into a Kinesis stream: several to a Kinesis record, many to a request, each shard at
 * its pace, and each again until it is stored or its time is up.
 *
 * @example
 * ```ts
 * const producer = new Producer({ streamName: 'orders' });
 * const { shardId, sequenceNumber } = await producer.put({ partitionKey: 'customer-7', data: 'hello' });
 * await producer.close();
 * ```
 */
export class Producer<Data = string | Uint8Array> {
  readonly #options: ResolvedProducerOptions<Data>;
  readonly #port: KinesisWritePort;
  readonly #admission: Admission;
  readonly #settlement: Settlement;
  readonly #router: Router;
  readonly #listing: ShardListing;
  readonly #dispatcher: Dispatcher;
  /** Aborts what waits for room when close() begins, and what waits for the service when it ends. */
  readonly #closing = new AbortController();
  readonly #stopping = new AbortController();
  /** The record that was prepared last, and its key: used again for the next one. */
  readonly #key = new HashedKey();
  readonly #prepared: PendingRecord;
  readonly #time: RecentTime;
  #group = new FlushGroup();
  #flushes = 0;
  /** Size of the record that offer() refused last. */
  #refusedBytes = 0;
  #received = 0;
  #closed: Promise<void> | undefined;
  readonly #hotKeys: HotKeys | undefined;
  /** Tells this producer's records from those of others. */
  readonly #producerId = randomUUID().replaceAll('-', '').slice(0, 12);
  #nextOrigin = 0;
  readonly #onSigterm = (): void => {
    void this.close().then(() => process.kill(process.pid, 'SIGTERM'));
  };

  /**
   * Checks the options and opens nothing: the stream is looked up by the first record.
   *
   * @param port - For tests: what to use in place of the SDK.
   * @throws ShardlineError `INVALID_OPTION`, `CODEC_UNAVAILABLE`.
   */
  constructor(options: ProducerOptions<Data>, port?: KinesisWritePort) {
    const resolved = resolveProducerOptions(options);
    this.#options = resolved;
    const { clock, random, stream, isStrict, requestTimeoutMs, maxRequestsInFlight } = resolved;
    const { waitsWhenRefused } = resolved;
    this.#port =
      port ??
      new SdkKinesisWritePort(stream, options, {
        clock,
        random,
        requestTimeoutMs,
        wire: resolved.wire,
      });
    this.#admission = new Admission(
      resolved.maxBufferRecords,
      options.budget ?? new ByteBudget(resolved.maxBufferBytes),
      this.#closing.signal,
    );
    this.#settlement = new Settlement(resolved, this.#admission);
    this.#router = new Router(resolved, () => this.#dispatcher.wake());
    this.#listing = new ShardListing(
      resolved,
      this.#port,
      this.#router,
      this.#settlement,
      this.#stopping.signal,
      () => this.#dispatcher.wake(),
    );
    this.#dispatcher = new Dispatcher(
      {
        streamName: stream.name,
        isStrict,
        requestTimeoutMs,
        maxRequestsInFlight,
        waitsWhenRefused,
        clock,
        random,
      },
      this.#router,
      this.#port,
      {
        delivered: (entry, shardId, sequenceNumber) =>
          this.#settlement.entryDelivered(entry, shardId, sequenceNumber),
        failed: (entry, indexes, error) => this.#settlement.entryFailed(entry, indexes, error),
        refreshShards: () => this.#listing.refresh('mispredicted'),
      },
    );
    this.#time = new RecentTime(clock);
    this.#prepared = {
      partitionKey: '',
      explicitHashKey: undefined,
      data: Buffer.alloc(0),
      bytes: 0,
      expiresMs: 0,
      group: this.#group,
      origin: undefined,
      caller: undefined,
    };
    this.#hotKeys = resolved.trackHotKeys ? new HotKeys(HOT_KEY_COUNTERS) : undefined;
    if (resolved.closeOnSigterm) process.once('SIGTERM', this.#onSigterm);
  }

  /**
   * Stores one record. Waits for room in the buffer, then for the service.
   *
   * @throws PutError `RECORD_EXPIRED`, `STREAM_NOT_FOUND`, `ACCESS_DENIED`, `SERVICE_REJECTED`,
   * `CLOSED`, with its attempts; ShardlineError `INVALID_RECORD`, `RECORD_TOO_LARGE` before any.
   * `signal.reason` if the signal aborts while the record waits for room; later it changes nothing.
   */
  put(record: PutRecord<Data>, options?: { readonly signal?: AbortSignal }): Promise<PutReceipt> {
    return new Promise((resolve, reject) => {
      void this.#put(record, new Waiting(resolve, reject), options?.signal);
    });
  }

  /**
   * Takes a record without a promise for it, if there is room; the `onOutcome` option, which must be
   * given, tells what became of it.
   *
   * @returns False if there was no room and the record was not taken: wait for {@link drain}.
   * @throws ShardlineError `INVALID_OPTION` without `onOutcome`; as {@link put} before any attempt.
   */
  offer(record: PutRecord<Data>): boolean {
    if (!this.#options.onOutcome) {
      throw new ShardlineError(
        'INVALID_OPTION',
        '`offer` needs the `onOutcome` option: without it a failure would go unseen',
        { value: 'onOutcome' },
      );
    }
    const pending = this.#prepare(record, undefined);
    if (!this.#admission.tryEnter(pending.bytes)) {
      this.#refusedBytes = pending.bytes;
      return false;
    }
    this.#add(pending);
    return true;
  }

  /**
   * Resolves when there is room for the record that {@link offer} refused last, and for some more, so
   * that not every record is refused once; or on close().
   */
  drain(): Promise<void> {
    const { capacityRecords, capacityBytes } = this.#admission;
    const records = Math.min(DRAIN_RECORDS, Math.ceil(capacityRecords / DRAIN_SHARE));
    const someBytes = Math.min(DRAIN_BYTES, Math.ceil(capacityBytes / DRAIN_SHARE));
    const bytes = Math.max(this.#refusedBytes, someBytes);
    return new Promise((resolve) => {
      const giveBack = (): void => {
        resolve();
        this.#admission.leave(records, bytes);
      };
      this.#admission.enter(records, bytes, giveBack, () => resolve());
    });
  }

  /**
   * Stores records; one result a record, in order, each as {@link put} would settle. Costs less than a `put` each.
   *
   * @param records - The next one is asked for when there is room for the one before.
   * @throws What asking for them throws; those before it go on, and only `onUndeliverable` tells of one that fails.
   */
  async putMany(
    records: Iterable<PutRecord<Data>>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<PromiseSettledResult<PutReceipt>[]> {
    const all = new ManyPuts();
    for (const record of records) {
      const isIn = this.#put(record, all.next(), options?.signal);
      if (isIn) await isIn;
    }
    return all.settled();
  }

  /** A stream of records to write to, for `pipeline`; it ends when all that was written is stored. */
  writable(): Writable {
    let failure: Error | undefined;
    return new Writable({
      objectMode: true,
      write: (record: PutRecord<Data>, _encoding, done) => {
        const caller = { resolve: () => {}, reject: (error: Error) => (failure ??= error) };
        const isIn = this.#put(record, caller, undefined);
        void callBack(isIn ?? Promise.resolve(), () => failure, done);
      },
      final: (done) => {
        void callBack(this.flush(), () => failure, done);
      },
    });
  }

  /** Resolves when every record that was put before is stored or given up. */
  async flush(): Promise<void> {
    this.#group = new FlushGroup(this.#group);
    this.#flushes += 1;
    this.#dispatcher.isFlushing = true;
    await this.#group.previousSettled();
    this.#flushes -= 1;
    if (this.#flushes === 0) this.#dispatcher.isFlushing = false;
  }

  /**
   * Refuses new records and stores those it has. What is not stored when the time is up is rejected
   * with `CLOSED`. May be called twice.
   *
   * @param options - `timeoutMs`: unit: milliseconds; range: 0 and up. Default: `recordTtlMs`.
   */
  close(options: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#closed ??= this.#close(options.timeoutMs ?? this.#options.recordTtlMs);
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  stats(): ProducerStats {
    const nowMs = this.#options.clock.monotonicMs();
    const { delivered, failed, userBytes } = this.#settlement;
    return {
      userRecordsReceived: this.#received,
      userRecordsDelivered: delivered,
      userRecordsFailed: failed,
      userBytes,
      ...this.#dispatcher.stats,
      compression: { ...this.#router.compression },
      bufferedRecords: this.#received - delivered - failed,
      bufferedBytes: this.#admission.usedBytes,
      requestsInFlight: this.#dispatcher.requestsInFlight,
      openShards: this.#router.map?.shardIds.length ?? 0,
      errorsByCode: Object.fromEntries(this.#dispatcher.errorsByCode),
      oldestWaitingMs: this.#router.oldestWaitingMs(nowMs),
      slowestShards: this.#router.slowestShards(nowMs, TOP),
      hotKeys: this.#hotKeys?.top(TOP) ?? [],
    };
  }

  async #close(timeoutMs: number): Promise<void> {
    const error = new ShardlineError('CLOSED', 'the producer was closed');
    this.#closing.abort(error);
    process.off('SIGTERM', this.#onSigterm);
    const timedOut = new AbortController();
    await Promise.race([
      this.flush(),
      sleep(this.#options.clock, timeoutMs, timedOut.signal).catch(() => {}),
    ]);
    timedOut.abort();
    this.#stopping.abort(error);
    this.#dispatcher.stop(error);
    this.#listing.stop(error);
    this.#port.close();
  }

  /** @returns What ends a wait for room, with the record taken or its caller told why not; undefined without one. */
  #put(
    record: PutRecord<Data>,
    caller: Caller,
    signal: AbortSignal | undefined,
  ): Promise<void> | undefined {
    try {
      signal?.throwIfAborted();
      const pending = this.#prepare(record, caller);
      // No wait where there is room: a put before close() is part of its flush.
      if (this.#admission.tryEnter(pending.bytes)) {
        this.#add(pending);
        return undefined;
      }
      return this.#enter({ ...pending, data: Buffer.from(pending.data) }, caller, signal);
    } catch (error) {
      caller.reject(error as Error);
      return undefined;
    }
  }

  /** Adds a record when there is room for it. Resolves then, or when its caller was told why not. */
  #enter(record: PendingRecord, caller: Caller, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const add = (): void => {
        this.#key.set(record.partitionKey, record.explicitHashKey);
        this.#add(record);
        resolve();
      };
      const refuse = (error: Error): void => {
        caller.reject(error);
        resolve();
      };
      this.#admission.enter(1, record.bytes, add, refuse, signal);
    });
  }

  /** Checks a record. What it returns is used again for the next one, as is the key. */
  #prepare(record: PutRecord<Data>, caller: Caller | undefined): PendingRecord {
    if (this.#closed) throw new ShardlineError('CLOSED', 'the producer is closed');
    const data = bytesOfData(this.#options.serialize(record.data));
    const partitionKey =
      record.partitionKey ?? this.#options.partitionKey?.(record.data) ?? randomUUID();
    checkPartitionKey(partitionKey);
    const explicitHashKey =
      record.explicitHashKey === undefined ? undefined : canonicalHashKey(record.explicitHashKey);
    this.#key.set(partitionKey, explicitHashKey);
    const bytes = data.length + this.#key.bytes;
    const largestBytes = this.#router.map ? this.#router.maxRecordBytes : LARGEST_RECORD_BYTES;
    checkSize(bytes, Math.min(largestBytes, this.#admission.capacityBytes));
    const prepared = this.#prepared;
    prepared.partitionKey = partitionKey;
    prepared.explicitHashKey = explicitHashKey;
    prepared.data = data;
    prepared.bytes = bytes;
    prepared.caller = caller;
    return prepared;
  }

  /** Takes a record there is room for; its key was hashed last. */
  #add(record: PendingRecord): void {
    const nowMs = this.#time.monotonicMs;
    // Whole numbers: V8 keeps a fraction in an object of its own, one a Kinesis record at least.
    record.expiresMs = Math.ceil(nowMs + this.#options.recordTtlMs);
    record.group = this.#group;
    record.origin = this.#origin();
    this.#hotKeys?.add(this.#key.words);
    this.#group.enter(1);
    this.#received += 1;
    if (!this.#router.map) {
      this.#listing.hold(record);
      return;
    }
    this.#dispatcher.onAdded(record.bytes, this.#router.add(record, this.#key, nowMs));
    this.#listing.refreshIfOld(nowMs);
  }

  #origin(): string | undefined {
    if (!this.#options.isIdempotent) return undefined;
    this.#nextOrigin += 1;
    return `${this.#producerId}:${this.#nextOrigin}`;
  }
}

/** Tells a stream's callback how a promise ended, or what else went wrong meanwhile. */
async function callBack(
  work: Promise<void>,
  otherFailure: () => Error | undefined,
  done: (error?: Error) => void,
): Promise<void> {
  let failure: Error | undefined;
  try {
    await work;
    failure = otherFailure();
  } catch (error) {
    failure = error as Error;
  }
  done(failure);
}
