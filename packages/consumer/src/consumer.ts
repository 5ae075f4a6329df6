import { randomUUID } from 'node:crypto';

import { ByteBudget, pause, ShardlineError, sleep, type UserRecord } from '@shardline/shared';

import { AutoFetcher } from './fetch/auto-fetcher.js';
import { FanOutFetcher } from './fetch/fan-out-fetcher.js';
import type { Fetcher } from './fetch/fetcher.js';
import { FoundConsumer } from './fetch/found-consumer.js';
import { KinesisReadClient } from './fetch/kinesis-read-client.js';
import type { KinesisReadPort } from './fetch/kinesis-read-port.js';
import { PollingFetcher } from './fetch/polling-fetcher.js';
import { changeLeaseMode } from './fleet/change-lease-mode.js';
import { FleetStore } from './fleet/fleet-store.js';
import type { LeaseMode } from './fleet/lease-mode.js';
import { DynamoDbLeaseTable } from './lease/dynamodb-lease-table.js';
import { LeaseStore } from './lease/lease-store.js';
import type { LeaseTable } from './lease/lease-table.js';
import {
  type ConsumerOptions,
  resolveStream,
  type ResolvedStream,
  type StreamOptions,
  type ResolvedConsumerOptions,
  resolveConsumerOptions,
} from './options.js';
import { HandlerLimit } from './processing/handler-limit.js';
import type { RecordHandler } from './processing/handler.js';
import { ReadBound } from './processing/read-bound.js';
import { type Delivery, RecordQueue } from './processing/record-queue.js';
import type { LeaseStatus } from './shard/lease-status.js';
import { carryOutSeek, planSeek, type SeekMove, type SeekTo } from './shard/seek.js';
import type { ShardStatus } from './shard/shard-worker.js';
import { type StreamSource, Supervisor } from './shard/supervisor.js';

/** What a worker does and sees. */
export interface ConsumerStatus {
  readonly workerId: string;
  /** Shards this worker owns, with what each is doing and why. */
  readonly shards: readonly ShardStatus[];
  /** All shards of the application with their owners, as last listed. */
  readonly leases: readonly LeaseStatus[];
  /** How the leases are shared; undefined before `start`. */
  readonly leaseMode: LeaseMode | undefined;
  /** The worker that deals out the leases, in a native fleet. */
  readonly leader: string | undefined;
  /**
   * How far the application is behind: of the shard that is most. In a native fleet of all shards, as the
   * leader last said, at most some seconds ago; beside a KCL of this worker's shards alone. Undefined if it
   * is not known. Unit: milliseconds.
   */
  readonly lagMs: number | undefined;
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
  readonly #table: LeaseTable;
  readonly #ownsTable: boolean;
  readonly #store: LeaseStore;
  readonly #fleet: FleetStore;
  readonly #ports = new Map<string, KinesisReadPort>();
  readonly #portOf: (stream: ResolvedStream) => KinesisReadPort;
  readonly #budget: ByteBudget;
  readonly #handlerLimit: HandlerLimit;
  readonly #bound: ReadBound | undefined;
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
    const { until } = this.#options;
    this.#bound = until === undefined ? undefined : new ReadBound(until, this.#options.clock);
    if (!this.#options.handler) this.#queue = new RecordQueue<Item>();
    const { clock, random, leaseTableName, failoverMs, leaseKeyPrefix } = this.#options;
    const { maxBufferBytes, maxConcurrentHandlers } = this.#options;
    this.#ownsTable = options.leaseTable === undefined;
    this.#table =
      options.leaseTable ??
      new DynamoDbLeaseTable({
        tableName: leaseTableName,
        newTable: options.newLeaseTable,
        client: options.dynamodbClient,
        clientConfig: options.dynamodbConfig,
        // A call that hangs must not keep the next renewal from being in time.
        requestTimeoutMs: Math.ceil(failoverMs / 3),
        clock,
        random,
      });
    this.#store = new LeaseStore(this.#table, leaseKeyPrefix);
    this.#fleet = new FleetStore(this.#table, leaseKeyPrefix);
    const { client, clientConfig } = options;
    this.#portOf = ({ ref }) =>
      port ??
      new KinesisReadClient({
        stream: ref,
        client,
        clientConfig,
        wire: this.#options.wire,
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
   * @throws ShardlineError `STREAM_NOT_FOUND`, `ACCESS_DENIED`, `LEASE_TABLE_INVALID`, `LEASE_MODE_MISMATCH`,
   * `WORKER_ID_IN_USE`, `SERVICE_UNAVAILABLE`, `CLOSED`.
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
    await this.#table.prepare(signal ?? this.#stopping.signal);
    const moves = planSeek((await this.#fleet.list(true)).leases, to);
    if (!dryRun) {
      const done = await carryOutSeek(this.#store, moves);
      await this.#fleet.announce();
      return done;
    }
    return moves.map(({ shardId, streamId, from, to: target, owner }) => ({
      shardId,
      streamId,
      from,
      to: target,
      owner,
    }));
  }

  /**
   * Reads one more stream, while it runs. Other workers begin to share it when they are told, too.
   *
   * @throws ShardlineError `INVALID_OPTION` if the application reads one stream, or this one already;
   * `STREAM_NOT_FOUND`, `ACCESS_DENIED`, `SERVICE_UNAVAILABLE`.
   */
  async addStream(options: StreamOptions): Promise<void> {
    const stream = resolveStream(options, this.#options.initialPosition);
    const { name } = stream.ref;
    await this.start();
    if (!this.#options.areStreamsSeveral || this.#ports.has(name)) {
      throw new ShardlineError(
        'INVALID_OPTION',
        this.#ports.has(name) ? `'${name}' is read already` : 'give `streams` to read several',
        { value: name },
      );
    }
    const source = await this.#source(stream, this.#stopping.signal);
    try {
      await this.#supervisor?.addStream(source);
    } catch (error) {
      await this.removeStream(name);
      throw error;
    }
  }

  /**
   * Finishes what was begun of a stream, gives its shards away, and reads it no more. Its leases stay:
   * whoever reads it again goes on there.
   *
   * @param options - With `forget` its leases are deleted: do it when no worker reads the stream.
   * @returns False if it is not read.
   */
  async removeStream(
    streamName: string,
    { forget = false }: { readonly forget?: boolean } = {},
  ): Promise<boolean> {
    await this.start();
    const isRead = this.#ports.delete(streamName);
    if (isRead) await this.#supervisor?.removeStream(streamName);
    if (forget) await this.#supervisor?.forgetStream(streamName);
    return isRead;
  }

  /**
   * Has the application keep its leases in another mode, with its workers running or stopped: to `native`
   * once no worker of a KCL is left, to `kcl2` before one is started. Resolves when every row is kept so.
   *
   * @param options - `pollMs` is how often it looks whether all workers have followed. Unit: milliseconds.
   * @throws ShardlineError `LEASE_MODE_MISMATCH` if workers of a KCL are alive, as far as the table tells;
   * `signal.reason`; what the lease table threw.
   */
  async changeLeaseMode(
    to: 'native' | 'kcl2',
    { signal, pollMs = 500 }: { readonly signal?: AbortSignal; readonly pollMs?: number } = {},
  ): Promise<void> {
    await changeLeaseMode(to, {
      table: this.#table,
      store: this.#store,
      fleet: this.#fleet,
      keyPrefix: this.#options.leaseKeyPrefix,
      clock: this.#options.clock,
      failoverMs: this.#options.failoverMs,
      pollMs,
      signal: signal ?? this.#stopping.signal,
    });
  }

  /**
   * Removes the application's fan-out consumer from its streams, which then is not paid for any more. Do
   * it when no worker reads by fan-out.
   *
   * @throws ShardlineError `ACCESS_DENIED`, `SERVICE_UNAVAILABLE`.
   */
  async removeFanOutConsumer(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const { streams, fanOutConsumerName } = this.#options;
    const signal = options.signal ?? new AbortController().signal;
    for (const stream of streams) {
      const port = this.#ports.get(stream.ref.name) ?? this.#portOf(stream);
      await port.removeConsumer(fanOutConsumerName, signal);
      if (!this.#ports.has(stream.ref.name)) port.close();
    }
  }

  status(): ConsumerStatus {
    const supervisor = this.#supervisor;
    return {
      workerId: this.workerId,
      shards: supervisor?.shards ?? [],
      leases: supervisor?.leases ?? [],
      leaseMode: supervisor?.membership.mode,
      leader: supervisor?.membership.leader,
      lagMs: supervisor?.membership.lagMs ?? supervisor?.lagMs,
      trouble: supervisor?.trouble,
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
    const sources: StreamSource[] = [];
    for (const stream of this.#options.streams) sources.push(await this.#source(stream, signal));
    signal.throwIfAborted();
    this.#supervisor = new Supervisor(
      {
        ...this.#options,
        incarnation: randomUUID(),
        table: this.#table,
        store: this.#store,
        fleet: this.#fleet,
        keyPrefix: this.#options.leaseKeyPrefix,
      },
      sources,
    );
    await this.#supervisor.start();
  }

  /** A stream with all that reading it needs. */
  async #source(stream: ResolvedStream, signal: AbortSignal): Promise<StreamSource> {
    const { handler, areStreamsSeveral } = this.#options;
    const { initialPosition, ref } = stream;
    const client = this.#portOf(stream);
    this.#ports.set(ref.name, client);
    try {
      return {
        name: ref.name,
        nameOfSeveral: areStreamsSeveral ? ref.name : undefined,
        client,
        initialPosition,
        shard: {
          ...this.#options,
          streamName: ref.name,
          handler: handler ?? (this.#queue?.handler as RecordHandler<unknown>),
          store: this.#store,
          fetcher: await this.#fetcher(stream, client, signal),
          budget: this.#budget,
          handlerLimit: this.#handlerLimit,
          bound: this.#bound,
          initialTimestampMs:
            typeof initialPosition === 'string' ? undefined : initialPosition.timestamp.getTime(),
        },
      };
    } catch (error) {
      this.#ports.delete(ref.name);
      client.close();
      throw error;
    }
  }

  async #fetcher(
    { ref, fanOutConsumerArn }: ResolvedStream,
    client: KinesisReadPort,
    signal: AbortSignal,
  ): Promise<Fetcher> {
    const { retrieval, fanOutConsumerName, fanOutBytesPerSecond } = this.#options;
    const { clock, random, idlePauseMs, maxIdlePauseMs, pollingSharePercent } = this.#options;
    const polling = new PollingFetcher(client, {
      streamName: ref.arn ?? ref.name,
      shareRatio: pollingSharePercent / 100,
      idlePauseMs,
      maxIdlePauseMs,
      clock,
      random,
    });
    if (retrieval === 'polling') return polling;
    const found = new FoundConsumer(() =>
      fanOutConsumerArn === undefined
        ? client.consumerArn(fanOutConsumerName, signal)
        : Promise.resolve(fanOutConsumerArn),
    );
    const fanOut = new FanOutFetcher(client, found, clock, random);
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
    for (const port of this.#ports.values()) port.close();
    if (this.#ownsTable) this.#table.close();
  }
}
