import { ByteBudget, pause, ShardlineError, sleep, type UserRecord } from '@shardline/shared';

import { AutoFetcher } from './fetch/auto-fetcher.js';
import { FanOutFetcher } from './fetch/fan-out-fetcher.js';
import type { Fetcher } from './fetch/fetcher.js';
import { KinesisReadClient } from './fetch/kinesis-read-client.js';
import type { KinesisReadPort } from './fetch/kinesis-read-port.js';
import { PollingFetcher } from './fetch/polling-fetcher.js';
import { DynamoDbLeaseStore } from './lease/dynamodb-lease-store.js';
import type { LeaseStore } from './lease/lease-store.js';
import {
  type ConsumerOptions,
  type ResolvedConsumerOptions,
  resolveConsumerOptions,
} from './options.js';
import { HandlerLimit } from './processing/handler-limit.js';
import type { RecordHandler } from './processing/handler.js';
import { ReadBound } from './processing/read-bound.js';
import { type Delivery, RecordQueue } from './processing/record-queue.js';
import { carryOutSeek, planSeek, type SeekMove, type SeekTo } from './shard/seek.js';
import type { ShardStatus } from './shard/shard-worker.js';
import { type LeaseStatus, Supervisor } from './shard/supervisor.js';

/** What a worker does and sees. */
export interface ConsumerStatus {
  readonly workerId: string;
  /** Shards this worker owns, with what each is doing and why. */
  readonly shards: readonly ShardStatus[];
  /** All shards of the stream with their owners, as last listed. */
  readonly leases: readonly LeaseStatus[];
  /** What went wrong last with the leases, if it still does. */
  readonly trouble: string | undefined;
  /** Data read and not yet handled. Unit: bytes. */
  readonly bufferedBytes: number;
}

const POLL_MS = 50;

/**
 * One worker of an application: shares a stream's shards with the others through a lease table, and
 * calls the handler with every record, at least once and in order for each partition key.
 *
 * @example
 * ```ts
 * const consumer = new Consumer({
 *   streamName: 'orders',
 *   applicationName: 'billing',
 *   handler: { processRecord: (record) => console.log(record.data.toString()) },
 * });
 * await consumer.start();
 * ```
 */
export class Consumer<Item = UserRecord> {
  readonly #options: ResolvedConsumerOptions;
  readonly #queue: RecordQueue<Item> | undefined;
  readonly #store: LeaseStore;
  readonly #ownsStore: boolean;
  readonly #client: KinesisReadPort;
  readonly #budget: ByteBudget;
  readonly #handlerLimit: HandlerLimit;
  readonly #stopping = new AbortController();
  #supervisor: Supervisor | undefined;
  #starting: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  /**
   * Checks the options and opens nothing.
   *
   * @param port - For tests: what to use in place of the SDK.
   * @throws ShardlineError `INVALID_OPTION`.
   */
  constructor(options: ConsumerOptions<Item>, port?: KinesisReadPort) {
    this.#options = resolveConsumerOptions(options);
    if (!this.#options.handler) this.#queue = new RecordQueue<Item>();
    const { clock, random, stream, leaseTableName, failoverMs } = this.#options;
    const { maxBufferBytes, maxConcurrentHandlers } = this.#options;
    this.#ownsStore = options.leaseStore === undefined;
    this.#store =
      options.leaseStore ??
      new DynamoDbLeaseStore({
        tableName: leaseTableName,
        client: options.dynamodbClient,
        clientConfig: options.dynamodbConfig,
        // A call that hangs must not keep the next renewal from being in time.
        requestTimeoutMs: Math.ceil(failoverMs / 3),
        clock,
        random,
      });
    this.#client =
      port ??
      new KinesisReadClient({
        stream,
        client: options.client,
        clientConfig: options.clientConfig,
        clock,
        random,
      });
    this.#budget = options.budget ?? new ByteBudget(maxBufferBytes);
    this.#handlerLimit = options.handlerLimit ?? new HandlerLimit(maxConcurrentHandlers);
  }

  get workerId(): string {
    return this.#options.workerId;
  }

  /**
   * Begins to read. Resolves when the leases are prepared and the first are taken.
   *
   * @throws ShardlineError `STREAM_NOT_FOUND`, `ACCESS_DENIED`, `LEASE_TABLE_INVALID`,
   * `SERVICE_UNAVAILABLE`, `CLOSED`.
   */
  start(): Promise<void> {
    this.#starting ??= this.#start();
    return this.#starting;
  }

  /**
   * Resolves when nothing that is put from now on can be missed: every shard of the stream has an owner,
   * and a reader of the latest records knows which those are, whoever reads on after it.
   *
   * @throws `signal.reason`; ShardlineError `CLOSED`.
   */
  async ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.start();
    await this.#until(() => this.#supervisor?.isReady ?? false, options.signal);
  }

  /**
   * With `until`: resolves when everything inside the bound is handled and stored, and closes. Without
   * it, when the consumer is closed.
   *
   * @throws `signal.reason`; what `start` throws.
   */
  async finished(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.start();
    try {
      await this.#until(() => this.#isBoundReached, options.signal);
    } catch (error) {
      if (!this.#stopping.signal.aborted) throw error;
    }
    await this.close();
  }

  /**
   * The records, one after the other, for a consumer without a handler. A record counts as handled when
   * the loop asks for the next; one the loop is left with is given again, to whoever reads on. Leaving the
   * loop closes the consumer.
   *
   * @throws ShardlineError `INVALID_OPTION` if there is a handler; what `start` throws.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<Delivery<Item>, void, void> {
    const queue = this.#queue;
    if (!queue) {
      throw new ShardlineError('INVALID_OPTION', 'a consumer with a `handler` has no `for await`', {
        value: 'handler',
      });
    }
    await this.start();
    // Ends with the bound, or with `close`, whose end of the queue ends the loop.
    const finished = this.finished().catch(() => {});
    try {
      for (;;) {
        const delivery = await queue.next();
        if (!delivery) return;
        yield delivery;
      }
    } finally {
      queue.leave();
      await this.close();
      await finished;
    }
  }

  /**
   * Reads nothing and begins no handler, in one shard while this worker owns it, or in all that it owns
   * and will own. What runs is finished; the leases stay.
   *
   * @returns False if this worker does not own the shard.
   */
  pause(shardId?: string): boolean {
    return this.#supervisor?.pause(shardId) ?? false;
  }

  /** Goes on after {@link pause}. @returns False if this worker does not own the shard. */
  resume(shardId?: string): boolean {
    return this.#supervisor?.resume(shardId) ?? false;
  }

  /**
   * Moves the positions of the whole application, with its workers running or stopped. A worker that
   * reads a shard finishes what it has begun, then goes on there; so what was handled may be handled again,
   * and what lies between may be left out, as asked for. Resolves when every shard nobody reads is moved
   * and every reader is asked, which notices within its `assignmentIntervalMs`.
   *
   * @returns What is moved, from where to where; with `dryRun` what would be.
   * @throws ShardlineError `INVALID_OPTION`, or what the lease store threw.
   */
  async seek(
    to: SeekTo,
    { dryRun = false, signal }: { readonly dryRun?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<readonly SeekMove[]> {
    await this.#store.prepare(signal ?? this.#stopping.signal);
    const moves = planSeek(await this.#store.list(), to);
    if (!dryRun) return carryOutSeek(this.#store, moves);
    return moves.map(({ shardId, from, to: target, owner }) => ({
      shardId,
      from,
      to: target,
      owner,
    }));
  }

  /**
   * Removes the application's fan-out consumer from the stream, which then is not paid for any more. Do
   * it when no worker reads by fan-out.
   *
   * @throws ShardlineError `ACCESS_DENIED`, `SERVICE_UNAVAILABLE`.
   */
  async removeFanOutConsumer(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#client.removeConsumer(
      this.#options.fanOutConsumerName,
      options.signal ?? new AbortController().signal,
    );
  }

  status(): ConsumerStatus {
    return {
      workerId: this.workerId,
      shards: this.#supervisor?.shards ?? [],
      leases: this.#supervisor?.leases ?? [],
      trouble: this.#supervisor?.trouble,
      bufferedBytes: this.#budget.usedBytes,
    };
  }

  /**
   * Stops reading, lets handlers finish within `drainTimeoutMs`, stores positions and gives the shards
   * away, so that others go on at once. May be called twice.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #start(): Promise<void> {
    const { signal } = this.#stopping;
    signal.throwIfAborted();
    const { initialPosition, until, clock } = this.#options;
    const fetcher = await this.#fetcher(signal);
    signal.throwIfAborted();
    this.#supervisor = new Supervisor({
      ...this.#options,
      store: this.#store,
      client: this.#client,
      budget: this.#budget,
      shard: {
        ...this.#options,
        handler: this.#options.handler ?? (this.#queue?.handler as RecordHandler<unknown>),
        store: this.#store,
        fetcher,
        budget: this.#budget,
        handlerLimit: this.#handlerLimit,
        bound: until === undefined ? undefined : new ReadBound(until, clock),
        initialTimestampMs:
          typeof initialPosition === 'string' ? undefined : initialPosition.timestamp.getTime(),
      },
    });
    await this.#supervisor.start();
  }

  async #fetcher(signal: AbortSignal): Promise<Fetcher> {
    const { retrieval, fanOutConsumerArn, fanOutConsumerName, fanOutBytesPerSecond } =
      this.#options;
    const { clock, random, idlePauseMs, maxIdlePauseMs, stream, pollingSharePercent } =
      this.#options;
    const polling = new PollingFetcher(this.#client, {
      streamName: stream.arn ?? stream.name,
      shareRatio: pollingSharePercent / 100,
      idlePauseMs,
      maxIdlePauseMs,
      clock,
      random,
    });
    if (retrieval === 'polling') return polling;
    const found = new FoundConsumer(() =>
      fanOutConsumerArn === undefined
        ? this.#client.consumerArn(fanOutConsumerName, signal)
        : Promise.resolve(fanOutConsumerArn),
    );
    const fanOut = new FanOutFetcher(this.#client, () => found.arn(), clock, random);
    if (retrieval === 'auto') {
      const register = (): Promise<unknown> => found.arn();
      return new AutoFetcher({ polling, fanOut, register, fanOutBytesPerSecond, clock });
    }
    await found.arn();
    return fanOut;
  }

  get #isBoundReached(): boolean {
    return this.#options.until !== undefined && (this.#supervisor?.isBoundReached ?? false);
  }

  /** Waits until something holds. */
  async #until(holds: () => boolean, signal: AbortSignal | undefined): Promise<void> {
    while (!holds()) {
      this.#stopping.signal.throwIfAborted();
      await sleep(this.#options.clock, POLL_MS, signal);
    }
  }

  async #close(): Promise<void> {
    this.#stopping.abort(new ShardlineError('CLOSED', 'the consumer was closed'));
    await this.#starting?.catch(() => {});
    if (this.#queue) {
      // The record the loop is busy with has its time; what waits behind it is for the next owner.
      const { clock, drainTimeoutMs } = this.#options;
      const patience = new AbortController();
      await Promise.race([this.#queue.end(), pause(clock, drainTimeoutMs, patience.signal)]);
      patience.abort();
    }
    await this.#supervisor?.stop(this.#queue ? 0 : undefined);
    this.#client.close();
    if (this.#ownsStore) this.#store.close();
  }
}

/** The fan-out consumer's ARN, asked for once however many want it; after a failure anew. */
class FoundConsumer {
  readonly #find: () => Promise<string>;
  #found: Promise<string> | undefined;

  constructor(find: () => Promise<string>) {
    this.#find = find;
  }

  arn(): Promise<string> {
    this.#found ??= this.#find().catch((error: unknown) => {
      this.#found = undefined;
      throw error;
    });
    return this.#found;
  }
}
