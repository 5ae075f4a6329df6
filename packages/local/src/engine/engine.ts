import { type Clock, type Random, systemRandom } from '@shardline/shared';

import { type Limits, NO_RATE_LIMITS, SERVICE_LIMITS } from './limits.js';
import { type Channel, channelOperations } from './operations/channels.js';
import { consumerOperations } from './operations/consumers.js';
import { recordOperations } from './operations/records.js';
import { settingOperations } from './operations/settings.js';
import { shardOperations } from './operations/shards.js';
import { streamOperations } from './operations/streams.js';
import { invalidArgument, notFound, ServiceFault } from './service-fault.js';
import type { Shard, StoredRecord } from './shard.js';
import type { Stream, StreamConsumer } from './stream.js';
import { type ShardSubscription, SubscriptionBook } from './subscription.js';
import { bucketFor, type TokenBucket } from './token-bucket.js';
import { type Input, validateRequest } from './validation.js';

export interface EngineOptions {
  readonly clock: Clock;
  /** @defaultValue `'us-east-1'` */
  readonly region?: string;
  /** 12 digits. @defaultValue `'000000000000'` */
  readonly accountId?: string;
  /** The service's limits, none of its rates, or some of them changed. @defaultValue true */
  readonly limits?: boolean | Partial<Limits>;
  /** How long streams and consumers stay CREATING, UPDATING and DELETING. Unit: milliseconds. @defaultValue 0 */
  readonly transitionMs?: number;
  /** Records kept in one shard; the oldest are forgotten beyond it. Unit: bytes. @defaultValue no cap but retention */
  readonly maxShardBytes?: number;
  /** Splits a shard of an on-demand stream that throttles. @defaultValue false */
  readonly splitOnDemand?: boolean;
  /** Chance of what the service decides itself. @defaultValue the machine's */
  readonly random?: Random;
}

/** A record that was stored, for whoever wants to compare what went in with what came out. */
export interface StorageEvent {
  readonly streamName: string;
  readonly shardId: string;
  readonly record: StoredRecord;
}

export type Output = Readonly<Record<string, unknown>>;
/** One operation: changes the engine's state and answers. */
export type Operation = (engine: KinesisEngine, input: Input) => Output;

const OPERATIONS: Readonly<Record<string, Operation>> = {
  ...streamOperations,
  ...shardOperations,
  ...recordOperations,
  ...consumerOperations,
  ...settingOperations,
  ...channelOperations,
};

/**
 * Kinesis without I/O: streams, shards, records, consumers and their rules, on whatever clock it is
 * given. Requests come as objects in the service's own shape; errors are thrown as {@link ServiceFault}.
 */
export class KinesisEngine {
  readonly clock: Clock;
  readonly region: string;
  readonly accountId: string;
  readonly limits: Limits;
  readonly random: Random;
  readonly maxShardBytes: number;
  readonly streams = new Map<string, Stream>();
  /** By ARN. */
  readonly channels = new Map<string, Channel>();
  /** By the ARN of the stream or consumer. */
  readonly policies = new Map<string, string>();
  commitment: { status: string; startedAt?: number; endedAt?: number } = { status: 'DISABLED' };
  /** How far ListShards lags behind resharding. Unit: milliseconds. */
  listingLagMs = 0;
  /** Added to the arrival time of records. Unit: milliseconds. */
  timestampSkewMs = 0;
  /** Shard iterators issued until then have expired, epoch milliseconds. */
  iteratorsExpiredAt = -Infinity;
  readonly subscriptions: SubscriptionBook;
  readonly #transitionMs: number;
  readonly #splitOnDemand: boolean;
  readonly #callBuckets = new Map<string, TokenBucket | undefined>();
  readonly #storageListeners = new Set<(event: StorageEvent) => void>();

  constructor(options: EngineOptions) {
    const { limits = true } = options;
    this.clock = options.clock;
    this.region = options.region ?? 'us-east-1';
    this.accountId = options.accountId ?? '000000000000';
    this.limits =
      typeof limits === 'object'
        ? {
            ...SERVICE_LIMITS,
            ...limits,
            callsPerSecond: { ...SERVICE_LIMITS.callsPerSecond, ...limits.callsPerSecond },
          }
        : limits
          ? SERVICE_LIMITS
          : NO_RATE_LIMITS;
    this.#transitionMs = options.transitionMs ?? 0;
    this.#splitOnDemand = options.splitOnDemand ?? false;
    this.maxShardBytes = options.maxShardBytes ?? Infinity;
    this.random = options.random ?? systemRandom;
    this.subscriptions = new SubscriptionBook(this.clock, this.limits);
  }

  /** Carries out one operation. */
  execute(operation: string, input: Input): Output {
    const run = Object.hasOwn(OPERATIONS, operation) ? OPERATIONS[operation] : undefined;
    if (!run) {
      throw new ServiceFault('UnknownOperationException', `Unknown operation ${operation}`);
    }
    validateRequest(operation, input);
    this.#admitCall(operation);
    return run(this, input);
  }

  /** All operations of the service, SubscribeToShard included. */
  static get operations(): readonly string[] {
    return [...Object.keys(OPERATIONS), 'SubscribeToShard'].sort();
  }

  /**
   * Opens a subscription of enhanced fan-out.
   *
   * @param repeatRecords - How many records before the position are given again.
   */
  subscribe(input: Input, repeatRecords = 0): ShardSubscription {
    validateRequest('SubscribeToShard', input);
    const { stream, consumer } = this.consumerByArn(input['ConsumerARN'] as string);
    if (consumer.status !== 'ACTIVE') {
      throw new ServiceFault(
        'ResourceInUseException',
        `Consumer ${consumer.arn} is not in ACTIVE status.`,
      );
    }
    const shard = stream.readableShard(input['ShardId'] as string, this.now());
    if (input['DryRun'] === true) {
      throw new ServiceFault(
        'DryRunOperationException',
        'Request would have succeeded, but DryRun flag is set.',
      );
    }
    const position = input['StartingPosition'] as Input;
    return this.subscriptions.open(consumer, shard, position, repeatRecords);
  }

  /** Calls `listener` for every record stored from now on, until the returned function is called. */
  onStored(listener: (event: StorageEvent) => void): () => void {
    this.#storageListeners.add(listener);
    return () => this.#storageListeners.delete(listener);
  }

  /** @internal */
  reportStored(event: StorageEvent): void {
    for (const listener of this.#storageListeners) listener(event);
  }

  /** Does `change` after the time the service takes for it. */
  later(change: () => void): void {
    if (this.#transitionMs === 0) change();
    else this.clock.schedule(this.#transitionMs, change);
  }

  /** Every record of a stream that is kept, by shard, oldest first. */
  stored(streamName: string): ReadonlyMap<string, readonly StoredRecord[]> {
    const { shards } = this.stream({ StreamName: streamName });
    return new Map(shards.map(({ id, records }) => [id, records]));
  }

  /** Makes every shard iterator that was issued so far an expired one. */
  expireIterators(): void {
    this.iteratorsExpiredAt = this.now();
  }

  /** @internal A write was refused for its rate. */
  onThrottled(stream: Stream, shard: Shard): void {
    const { start, end } = shard.birth.range;
    if (!this.#splitOnDemand || stream.mode !== 'ON_DEMAND' || stream.status !== 'ACTIVE') return;
    if (end - start < 2n) return;
    stream.status = 'UPDATING';
    // Not at once: the request that was throttled is still being answered.
    this.clock.schedule(this.#transitionMs, () => {
      if (shard.isOpen) stream.split(shard, start + (end - start) / 2n, this.now());
      stream.status = 'ACTIVE';
    });
  }

  /** Open shards of all provisioned streams. */
  get openShardCount(): number {
    let count = 0;
    for (const { mode, openShards } of this.streams.values()) {
      if (mode === 'PROVISIONED') count += openShards.length;
    }
    return count;
  }

  /** @throws ServiceFault `LimitExceededException` if so many more shards would be too many. */
  checkShardQuota(added: number): void {
    if (this.openShardCount + added <= this.limits.shardQuota) return;
    throw new ServiceFault(
      'LimitExceededException',
      `${this.openShardCount + added} open shards would exceed the limit of ${this.limits.shardQuota} for account ${this.accountId}.`,
    );
  }

  channelsOf({ birth }: Stream): readonly Channel[] {
    return [...this.channels.values()].filter(({ configuration }) =>
      (configuration['StreamConfigurationList'] as { StreamARN: string }[]).some(
        ({ StreamARN }) => StreamARN === birth.arn,
      ),
    );
  }

  now(): number {
    return this.clock.now();
  }

  streamArn(streamName: string): string {
    return `arn:aws:kinesis:${this.region}:${this.accountId}:stream/${streamName}`;
  }

  /** The stream a request names by name or ARN. */
  stream(input: Input): Stream {
    const arn = input['StreamARN'] as string | undefined;
    const name = input['StreamName'] as string | undefined;
    const fromArn = arn?.slice(arn.indexOf('/') + 1);
    if (name === undefined && fromArn === undefined) {
      throw invalidArgument('Either StreamName or StreamARN should be provided.');
    }
    if (name !== undefined && fromArn !== undefined && name !== fromArn) {
      throw invalidArgument('StreamName and StreamARN name different streams.');
    }
    const stream = this.streams.get(name ?? fromArn ?? '');
    if (stream && (arn === undefined || stream.birth.arn === arn)) return stream;
    throw notFound(`Stream ${name ?? fromArn} under account ${this.accountId} not found.`);
  }

  /** The stream a request names, if it can be written to and read from. */
  liveStream(input: Input): Stream {
    const stream = this.stream(input);
    if (stream.status === 'CREATING') {
      throw notFound(`Stream ${stream.birth.name} under account ${this.accountId} not found.`);
    }
    return stream;
  }

  consumerByArn(arn: string): { readonly stream: Stream; readonly consumer: StreamConsumer } {
    const [streamArn = ''] = arn.split('/consumer/');
    const stream = this.streams.get(streamArn.slice(streamArn.indexOf('/') + 1));
    for (const consumer of stream?.consumers.values() ?? []) {
      if (stream && consumer.arn === arn) return { stream, consumer };
    }
    throw notFound(`Consumer ${arn} not found.`);
  }

  #admitCall(operation: string): void {
    let bucket = this.#callBuckets.get(operation);
    if (!bucket) {
      bucket = bucketFor(this.limits.callsPerSecond[operation]);
      this.#callBuckets.set(operation, bucket);
    }
    if (bucket?.has(1, this.clock.monotonicMs()) === false) {
      throw new ServiceFault(
        'LimitExceededException',
        `Rate exceeded for ${operation} under account ${this.accountId}.`,
      );
    }
    bucket?.take(1);
  }
}
