import { randomUUID } from 'node:crypto';
import { Writable } from 'node:stream';

import {
  ByteBudget,
  canonicalHashKey,
  HashedKey,
  isShardlineError,
  publishDiagnostics,
  ShardlineError,
  type ShardMapMessage,
  sleep,
} from '@shardline/shared';

import { Admission } from './admission.js';
import { Dispatcher } from './dispatcher.js';
import type { Entry } from './entry.js';
import { FlushGroup } from './flush-group.js';
import { type HotKey, HotKeys } from './hot-keys.js';
import {
  type ProducerOptions,
  type PutRecord,
  type ResolvedProducerOptions,
  resolveProducerOptions,
} from './options.js';
import {
  type Attempt,
  type Caller,
  type PendingRecord,
  PutError,
  type PutReceipt,
  type UndeliverableRecord,
} from './pending-record.js';
import { type KinesisWritePort, SdkKinesisWritePort } from './put-records-client.js';
import { RecentTime } from './recent-time.js';
import { Router } from './router.js';
import { ShardMap } from './shard-map.js';

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
/** Characters, at most. @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecordsRequestEntry.html */
const MAX_PARTITION_KEY_CHARACTERS = 256;
/** Any stream's, its partition key included. @see https://docs.aws.amazon.com/streams/latest/dev/large-records.html */
const LARGEST_RECORD_BYTES = 10 * 2 ** 20;
/** Room that ends a drain(): as much as this, or this part of what the buffer holds. */
const DRAIN_RECORDS = 1_000;
const DRAIN_BYTES = 2 ** 18;
const DRAIN_SHARE = 8;
/** A listing that is due for its age is asked for at most this often. */
const REFRESH_PAUSE_MS = 1_000;

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
  readonly #router: Router;
  readonly #dispatcher: Dispatcher;
  /** Aborts what waits for room when close() begins, and what waits for the service when it ends. */
  readonly #closing = new AbortController();
  readonly #stopping = new AbortController();
  /** The record that was prepared last, and its key: used again for the next one. */
  readonly #key = new HashedKey();
  readonly #prepared: PendingRecord;
  readonly #time: RecentTime;
  /** Records that wait for the first listing of the shards. */
  #arrivals: PendingRecord[] = [];
  #group = new FlushGroup();
  #flushes = 0;
  #refreshing: Promise<void> | undefined;
  #refreshedMs = -Infinity;
  /** Size of the record that offer() refused last. */
  #refusedBytes = 0;
  #received = 0;
  #delivered = 0;
  #failed = 0;
  #userBytes = 0;
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
    this.#router = new Router(resolved, () => this.#dispatcher.wake());
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
          this.#onDelivered(entry, shardId, sequenceNumber),
        failed: (entry, indexes, error) => this.#onEntryFailed(entry, indexes, error),
        refreshShards: () => this.#refresh('mispredicted'),
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
      // What is thrown in here rejects the promise.
      options?.signal?.throwIfAborted();
      const pending = this.#prepare(record, { resolve, reject });
      // No await where there is room: a put before close() is part of its flush.
      if (this.#admission.tryEnter(pending.bytes)) this.#add(pending);
      else this.#enter({ ...pending }, () => {}, reject, options?.signal);
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

  /** Stores records; one result a record, in order. */
  putMany(
    records: Iterable<PutRecord<Data>>,
    options?: { readonly signal?: AbortSignal },
  ): Promise<PromiseSettledResult<PutReceipt>[]> {
    return Promise.allSettled(Array.from(records, (record) => this.put(record, options)));
  }

  /** A stream of records to write to, for `pipeline`; it ends when all that was written is stored. */
  writable(): Writable {
    let failure: Error | undefined;
    return new Writable({
      objectMode: true,
      write: (record: PutRecord<Data>, _encoding, done) => {
        void callBack(
          this.#writeOne(record, (error) => (failure ??= error)),
          () => failure,
          done,
        );
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
    return {
      userRecordsReceived: this.#received,
      userRecordsDelivered: this.#delivered,
      userRecordsFailed: this.#failed,
      userBytes: this.#userBytes,
      ...this.#dispatcher.stats,
      compression: { ...this.#router.compression },
      bufferedRecords: this.#received - this.#delivered - this.#failed,
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
    this.#rejectArrivals(this.#arrivals.splice(0), error);
    this.#port.close();
  }

  /** Resolves once the record is admitted, not once it is stored. */
  async #writeOne(record: PutRecord<Data>, onFailure: (error: Error) => void): Promise<void> {
    const pending = this.#prepare(record, { resolve: () => {}, reject: onFailure });
    await new Promise<void>((resolve, reject) => this.#enter({ ...pending }, resolve, reject));
  }

  /** Adds a record when there is room for it. */
  #enter(
    record: PendingRecord,
    onAdded: () => void,
    onRefused: (error: Error) => void,
    signal?: AbortSignal,
  ): void {
    const add = (): void => {
      this.#key.set(record.partitionKey, record.explicitHashKey);
      this.#add(record);
      onAdded();
    };
    this.#admission.enter(1, record.bytes, add, onRefused, signal);
  }

  #dataOf(record: PutRecord<Data>): Uint8Array {
    if (this.#closed) throw new ShardlineError('CLOSED', 'the producer is closed');
    const serialized = this.#options.serialize(record.data);
    const data = typeof serialized === 'string' ? Buffer.from(serialized) : serialized;
    if (data instanceof Uint8Array) return data;
    throw new ShardlineError(
      'INVALID_RECORD',
      `data must be a string or bytes, got ${typeof data}`,
      { value: typeof data },
    );
  }

  /** Checks a record. What it returns is used again for the next one, as is the key. */
  #prepare(record: PutRecord<Data>, caller: Caller | undefined): PendingRecord {
    const data = this.#dataOf(record);
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

  // The way in

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
    const { map } = this.#router;
    if (!map) {
      this.#arrivals.push({ ...record, data: Buffer.from(record.data) });
      void this.#refresh('start');
      return;
    }
    this.#dispatcher.onAdded(record.bytes, this.#router.add(record, this.#key, nowMs));
    if (nowMs - map.loadedMs > this.#options.shardMapMaxAgeMs) void this.#refresh('periodic');
  }

  /** Looks at the shards again; the old map serves meanwhile, and on if that fails. */
  #refresh(reason: ShardMapMessage['reason']): Promise<void> {
    const { clock } = this.#options;
    if (this.#refreshing) return this.#refreshing;
    const isTooSoon = clock.monotonicMs() - this.#refreshedMs < REFRESH_PAUSE_MS;
    if (isTooSoon && reason === 'periodic') return Promise.resolve();
    this.#refreshing = this.#load(reason).finally(() => {
      this.#refreshing = undefined;
      this.#refreshedMs = clock.monotonicMs();
      this.#dispatcher.wake();
    });
    return this.#refreshing;
  }

  async #load(reason: ShardMapMessage['reason']): Promise<void> {
    const { clock, stream } = this.#options;
    const startedMs = clock.monotonicMs();
    try {
      const { shards, ...traits } = await this.#port.describe(this.#stopping.signal);
      this.#router.useMap(new ShardMap(shards, startedMs), traits, clock.monotonicMs());
      publishDiagnostics('shardline:producer:shard-map', () => ({
        streamName: stream.name,
        openShards: shards.length,
        reason,
      }));
    } catch (error) {
      this.#onLoadFailed(error);
      return;
    }
    for (const record of this.#arrivals.splice(0)) {
      try {
        checkSize(record.bytes, this.#router.maxRecordBytes);
      } catch (error) {
        this.#rejectArrivals([record], error);
        continue;
      }
      this.#router.addMoved(record, clock.monotonicMs());
    }
  }

  /** Without any map nothing can be sent: gives up what waits, or what has waited for as long as it may. */
  #onLoadFailed(error: unknown): void {
    const { clock, waitsWhenRefused } = this.#options;
    if (this.#router.map) return;
    const givesUpAll = !waitsWhenRefused || this.#stopping.signal.aborted;
    const nowMs = clock.monotonicMs();
    const arrivals = this.#arrivals.splice(0);
    const isOver = ({ expiresMs }: PendingRecord): boolean => givesUpAll || expiresMs <= nowMs;
    this.#arrivals = arrivals.filter((record) => !isOver(record));
    this.#rejectArrivals(arrivals.filter(isOver), error);
    // Also for records that came in just now, into the room of those that were given up.
    if (this.#arrivals.length === 0) return;
    sleep(clock, REFRESH_PAUSE_MS, this.#stopping.signal).then(
      () => void this.#refresh('start'),
      () => {},
    );
  }

  #rejectArrivals(records: readonly PendingRecord[], error: unknown): void {
    const cause = isShardlineError(error)
      ? error
      : new ShardlineError('SERVICE_UNAVAILABLE', 'the shards could not be listed', {
          cause: error,
        });
    if (records.length === 0) return;
    const failure = new PutError(cause, []);
    this.#options.onUndeliverable?.(records.map((record) => undeliverable(record, failure)));
    const first = records.reduce((min, { expiresMs }) => Math.min(min, expiresMs), Infinity);
    let bytes = 0;
    for (const record of records) {
      record.group.leave(1);
      bytes += record.bytes;
    }
    this.#onFailed(
      records.map(({ caller }) => caller),
      failure,
      bytes,
      first,
    );
  }

  // The way out

  #onDelivered(entry: Entry, shardId: string, sequenceNumber: string): void {
    const { isAggregate, attempts, records } = entry;
    const { open, bytes, dataBytes, nextExpiryMs } = records;
    let offered = open;
    if (records.hasCallers) {
      for (const index of records.openIndexes()) {
        const caller = records.caller(index);
        if (!caller) continue;
        offered -= 1;
        const subSequenceNumber = isAggregate ? index : undefined;
        caller.resolve({ shardId, sequenceNumber, subSequenceNumber, attempts });
      }
    }
    records.settleAll();
    this.#delivered += open;
    this.#userBytes += dataBytes;
    this.#admission.leave(open, bytes);
    this.#publishSettled(open, attempts, nextExpiryMs, shardId, undefined);
    if (offered > 0) {
      this.#options.onOutcome?.({ stored: true, userRecords: offered, shardId, sequenceNumber });
    }
  }

  /** @param indexes - Those that failed; the entry's other records go on. */
  #onEntryFailed(entry: Entry, indexes: readonly number[], error: PutError): void {
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
    this.#onFailed(callers, error, bytes, nextExpiryMs);
  }

  #onFailed(
    callers: readonly (Caller | undefined)[],
    error: PutError,
    bytes: number,
    expiresMs: number,
  ): void {
    let offered = 0;
    for (const caller of callers) {
      if (caller) caller.reject(error);
      else offered += 1;
    }
    this.#failed += callers.length;
    this.#admission.leave(callers.length, bytes);
    this.#publishSettled(callers.length, error.attempts, expiresMs, undefined, error.code);
    if (offered > 0) this.#options.onOutcome?.({ stored: false, userRecords: offered, error });
  }

  #publishSettled(
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

function checkPartitionKey(partitionKey: unknown): asserts partitionKey is string {
  if (typeof partitionKey !== 'string') {
    throw new ShardlineError(
      'INVALID_RECORD',
      `a partition key must be a string, got ${typeof partitionKey}`,
      {
        value: typeof partitionKey,
      },
    );
  }
  // As many UTF-16 units are at most as many characters.
  if (partitionKey.length >= 1 && partitionKey.length <= MAX_PARTITION_KEY_CHARACTERS) return;
  const characters = Array.from(partitionKey).length;
  if (characters >= 1 && characters <= MAX_PARTITION_KEY_CHARACTERS) return;
  throw new ShardlineError(
    'INVALID_RECORD',
    `a partition key must have 1 to ${MAX_PARTITION_KEY_CHARACTERS} characters, got ${characters}`,
    { value: characters, limit: `1 to ${MAX_PARTITION_KEY_CHARACTERS}`, unit: 'characters' },
  );
}

function checkSize(bytes: number, limit: number): void {
  if (bytes <= limit) return;
  throw new ShardlineError(
    'RECORD_TOO_LARGE',
    `data and partition key must have at most ${limit} bytes, got ${bytes} bytes`,
    { value: bytes, limit, unit: 'bytes' },
  );
}
