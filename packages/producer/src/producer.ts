import { randomUUID } from 'node:crypto';
import { Writable } from 'node:stream';

import {
  ByteBudget,
  canonicalHashKey,
  type HashKeyWords,
  hashPartitionKey,
  isShardlineError,
  parseHashKey,
  publishDiagnostics,
  ShardlineError,
  type ShardMapMessage,
  sleep,
} from '@shardline/shared';

import { Admission } from './admission.js';
import { Dispatcher } from './dispatcher.js';
import type { Entry } from './entry.js';
import { type HotKey, HotKeys } from './hot-keys.js';
import {
  type ProducerOptions,
  type PutRecord,
  type ResolvedProducerOptions,
  resolveProducerOptions,
} from './options.js';
import {
  type Attempt,
  type FlushGroup,
  type PendingRecord,
  PutError,
  type PutReceipt,
  type UndeliverableRecord,
} from './pending-record.js';
import { type KinesisWritePort, SdkKinesisWritePort } from './put-records-client.js';
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

interface Arrival {
  readonly record: PendingRecord;
  readonly data: Uint8Array;
}

const HOT_KEY_COUNTERS = 100;
const TOP = 10;
/** Characters, at most. @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecordsRequestEntry.html */
const MAX_PARTITION_KEY_CHARACTERS = 256;
/** Any stream's, its partition key included. @see https://docs.aws.amazon.com/streams/latest/dev/large-records.html */
const LARGEST_RECORD_BYTES = 10 * 2 ** 20;
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
  /** Hash key of the record that was prepared last. */
  readonly #hashKey = new Uint32Array(4);
  /** Records that wait for the first listing of the shards. */
  #arrivals: Arrival[] = [];
  #group: FlushGroup = { outstanding: 0, previous: undefined, waiters: [] };
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
        failed: (records, error, entry) => {
          this.#giveUndeliverable(records, error, entry);
          this.#onFailed(records, error);
        },
        refreshShards: () => this.#refresh('mispredicted'),
      },
    );
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
  put(
    record: PutRecord<Data>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<PutReceipt> {
    return new Promise((resolve, reject) => {
      // What is thrown in here rejects the promise.
      const { signal } = options;
      signal?.throwIfAborted();
      const data = this.#dataOf(record);
      const pending = this.#prepare(record, data);
      pending.resolve = resolve;
      pending.reject = reject;
      // No await where there is room: a put before close() is part of its flush.
      if (this.#admission.tryEnter(pending.bytes)) this.#add(pending, data, this.#hashKey);
      else this.#admission.enter(pending.bytes, () => this.#add(pending, data), reject, signal);
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
    const data = this.#dataOf(record);
    const pending = this.#prepare(record, data);
    if (!this.#admission.tryEnter(pending.bytes)) {
      this.#refusedBytes = pending.bytes;
      return false;
    }
    this.#add(pending, data, this.#hashKey);
    return true;
  }

  /** Resolves when there is room for the record that {@link offer} refused last, or on close(). */
  drain(): Promise<void> {
    const bytes = this.#refusedBytes;
    return new Promise((resolve) => {
      const giveBack = (): void => {
        resolve();
        this.#admission.leave(1, bytes);
      };
      this.#admission.enter(bytes, giveBack, () => resolve());
    });
  }

  /** Stores records; one result a record, in order. */
  putMany(
    records: Iterable<PutRecord<Data>>,
    options: { readonly signal?: AbortSignal } = {},
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
    const group = this.#group;
    const next: FlushGroup = { outstanding: 0, previous: group, waiters: [] };
    this.#group = next;
    this.#flushes += 1;
    this.#dispatcher.isFlushing = true;
    for (let each: FlushGroup | undefined = group; each; each = each.previous) {
      const { waiters } = each;
      if (each.outstanding > 0) await new Promise<void>((resolve) => waiters.push(resolve));
    }
    // Nobody needs to ask the settled groups again.
    next.previous = undefined;
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
    const data = this.#dataOf(record);
    const pending = this.#prepare(record, data);
    pending.resolve = () => {};
    pending.reject = onFailure;
    await new Promise<void>((resolve, reject) => {
      const add = (): void => {
        this.#add(pending, data);
        resolve();
      };
      this.#admission.enter(pending.bytes, add, reject);
    });
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

  /** Checks a record, and leaves its hash key behind. */
  #prepare(record: PutRecord<Data>, data: Uint8Array): PendingRecord {
    const partitionKey =
      record.partitionKey ?? this.#options.partitionKey?.(record.data) ?? randomUUID();
    checkPartitionKey(partitionKey);
    // Hashed here for its length too; a record that is added at once is not hashed again.
    const hashKey = this.#hashKey;
    const partitionKeyBytes = hashPartitionKey(partitionKey, hashKey);
    const partitionKeyHash = (hashKey[0] ?? 0) >>> 2;
    let explicitHashKey: string | undefined;
    if (record.explicitHashKey !== undefined) {
      explicitHashKey = canonicalHashKey(record.explicitHashKey);
      parseHashKey(explicitHashKey, hashKey);
    }
    const bytes = data.length + partitionKeyBytes;
    const largestBytes = this.#router.map ? this.#router.maxRecordBytes : LARGEST_RECORD_BYTES;
    checkSize(bytes, Math.min(largestBytes, this.#admission.capacityBytes));
    return {
      partitionKey,
      partitionKeyBytes,
      partitionKeyHash,
      explicitHashKey,
      bytes,
      expiresMs: 0,
      group: this.#group,
      origin: undefined,
      isSettled: false,
      resolve: undefined,
      reject: undefined,
    };
  }

  // The way in

  /** Takes a record there is room for. @param hashKey - The record's, if it is known. */
  #add(record: PendingRecord, data: Uint8Array, hashKey?: HashKeyWords): void {
    const nowMs = this.#options.clock.monotonicMs();
    record.expiresMs = nowMs + this.#options.recordTtlMs;
    record.group = this.#group;
    record.origin = this.#origin();
    if (hashKey) this.#hotKeys?.add(hashKey);
    this.#group.outstanding += 1;
    this.#received += 1;
    const { map } = this.#router;
    if (!map) {
      this.#arrivals.push({ record, data: Buffer.from(data) });
      void this.#refresh('start');
      return;
    }
    this.#dispatcher.onAdded(record.bytes, this.#router.add(record, data, nowMs, hashKey));
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
    for (const arrival of this.#arrivals.splice(0)) {
      const { record, data } = arrival;
      try {
        checkSize(record.bytes, this.#router.maxRecordBytes);
      } catch (error) {
        this.#rejectArrivals([arrival], error);
        continue;
      }
      this.#router.add(record, data, clock.monotonicMs());
    }
  }

  /** Without any map nothing can be sent: gives up what waits, or what has waited for as long as it may. */
  #onLoadFailed(error: unknown): void {
    const { clock, waitsWhenRefused } = this.#options;
    if (this.#router.map) return;
    const givesUpAll = !waitsWhenRefused || this.#stopping.signal.aborted;
    const nowMs = clock.monotonicMs();
    const arrivals = this.#arrivals.splice(0);
    const isOver = ({ record }: Arrival): boolean => givesUpAll || record.expiresMs <= nowMs;
    this.#arrivals = arrivals.filter((arrival) => !isOver(arrival));
    this.#rejectArrivals(arrivals.filter(isOver), error);
    // Also for records that came in just now, into the room of those that were given up.
    if (this.#arrivals.length === 0) return;
    sleep(clock, REFRESH_PAUSE_MS, this.#stopping.signal).then(
      () => void this.#refresh('start'),
      () => {},
    );
  }

  #rejectArrivals(arrivals: readonly Arrival[], error: unknown): void {
    const cause = isShardlineError(error)
      ? error
      : new ShardlineError('SERVICE_UNAVAILABLE', 'the shards could not be listed', {
          cause: error,
        });
    if (arrivals.length === 0) return;
    const failure = new PutError(cause, []);
    this.#options.onUndeliverable?.(
      arrivals.map(({ record, data }) => undeliverable(record, Buffer.from(data), failure)),
    );
    this.#onFailed(
      arrivals.map(({ record }) => record),
      failure,
    );
  }

  // The way out

  #onDelivered(entry: Entry, shardId: string, sequenceNumber: string): void {
    const { isAggregate, attempts, records } = entry;
    let offered = 0;
    const open = records.filter(({ isSettled }) => !isSettled);
    records.forEach(({ resolve, bytes, partitionKeyBytes, isSettled }, index) => {
      if (isSettled) return;
      this.#userBytes += bytes - partitionKeyBytes;
      if (!resolve) offered += 1;
      else {
        const subSequenceNumber = isAggregate ? index : undefined;
        resolve({ shardId, sequenceNumber, subSequenceNumber, attempts });
      }
    });
    this.#delivered += open.length;
    this.#release(open);
    this.#publishSettled(open, entry.attempts, shardId, undefined);
    if (offered > 0) {
      this.#options.onOutcome?.({ stored: true, userRecords: offered, shardId, sequenceNumber });
    }
  }

  #onFailed(records: readonly PendingRecord[], error: PutError): void {
    let offered = 0;
    for (const { reject } of records) {
      if (reject) reject(error);
      else offered += 1;
    }
    this.#failed += records.length;
    this.#release(records);
    this.#publishSettled(records, error.attempts, undefined, error.code);
    if (offered > 0) this.#options.onOutcome?.({ stored: false, userRecords: offered, error });
  }

  #release(records: readonly PendingRecord[]): void {
    let released = 0;
    for (const record of records) {
      const { bytes, group } = record;
      record.isSettled = true;
      released += bytes;
      group.outstanding -= 1;
      if (group.outstanding === 0) for (const waiter of group.waiters.splice(0)) waiter();
    }
    this.#admission.leave(records.length, released);
  }

  /** Hands over what could not be delivered, if anybody wants it: its data are taken out only then. */
  #giveUndeliverable(records: readonly PendingRecord[], error: PutError, entry: Entry): void {
    const { onUndeliverable } = this.#options;
    if (!onUndeliverable) return;
    const data = entry.userData();
    const given = new Set(records);
    onUndeliverable(
      entry.records.flatMap((record, index) =>
        given.has(record) ? undeliverable(record, data[index] as Buffer, error) : [],
      ),
    );
  }

  #publishSettled(
    records: readonly PendingRecord[],
    attempts: readonly Attempt[],
    shardId: string | undefined,
    error: string | undefined,
  ): void {
    publishDiagnostics('shardline:producer:settled', () => {
      const { clock, recordTtlMs, stream } = this.#options;
      const first = records.reduce((min, { expiresMs }) => Math.min(min, expiresMs), Infinity);
      return {
        streamName: stream.name,
        userRecords: records.length,
        attempts: attempts.length,
        ageMs: clock.monotonicMs() - (first - recordTtlMs),
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
  { partitionKey, explicitHashKey }: PendingRecord,
  data: Buffer,
  error: PutError,
): UndeliverableRecord {
  return { partitionKey, explicitHashKey, data, error };
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
