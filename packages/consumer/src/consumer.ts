import { ByteBudget, ShardlineError, sleep } from '@shardline/shared';

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

const READY_POLL_MS = 50;

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
export class Consumer {
  readonly #options: ResolvedConsumerOptions;
  readonly #store: LeaseStore;
  readonly #ownsStore: boolean;
  readonly #client: KinesisReadPort;
  readonly #budget: ByteBudget;
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
  constructor(options: ConsumerOptions, port?: KinesisReadPort) {
    this.#options = resolveConsumerOptions(options);
    const { clock, random, stream, leaseTableName, failoverMs, maxBufferBytes } = this.#options;
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
    this.#budget = new ByteBudget(maxBufferBytes);
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
   * Resolves when every shard of the stream has an owner and this worker reads all it owns.
   *
   * @throws `signal.reason`; ShardlineError `CLOSED`.
   */
  async ready(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.start();
    while (!this.#isReady()) {
      this.#stopping.signal.throwIfAborted();
      await sleep(this.#options.clock, READY_POLL_MS, options.signal);
    }
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
    const { initialPosition } = this.#options;
    const fetcher = await this.#fetcher(signal);
    signal.throwIfAborted();
    this.#supervisor = new Supervisor({
      ...this.#options,
      store: this.#store,
      client: this.#client,
      budget: this.#budget,
      shard: {
        ...this.#options,
        store: this.#store,
        fetcher,
        budget: this.#budget,
        initialTimestamp:
          typeof initialPosition === 'string' ? undefined : initialPosition.timestamp,
      },
    });
    await this.#supervisor.start();
  }

  async #fetcher(signal: AbortSignal): Promise<Fetcher> {
    const { retrieval, fanOutConsumerArn, fanOutConsumerName } = this.#options;
    const { clock, random, idlePauseMs } = this.#options;
    if (retrieval === 'polling') {
      return new PollingFetcher(this.#client, clock, random, idlePauseMs);
    }
    const arn = fanOutConsumerArn ?? (await this.#client.consumerArn(fanOutConsumerName, signal));
    return new FanOutFetcher(this.#client, arn, clock, random);
  }

  #isReady(): boolean {
    const { shards, leases } = this.status();
    const active = leases.filter(({ isFinished }) => !isFinished);
    return (
      active.length > 0 &&
      active.every(({ owner }) => owner !== undefined) &&
      shards.every(({ state, millisBehindLatest }) =>
        state === 'processing' ? millisBehindLatest !== undefined : true,
      )
    );
  }

  async #close(): Promise<void> {
    this.#stopping.abort(new ShardlineError('CLOSED', 'the consumer was closed'));
    await this.#starting?.catch(() => {});
    await this.#supervisor?.stop();
    this.#client.close();
    if (this.#ownsStore) this.#store.close();
  }
}
