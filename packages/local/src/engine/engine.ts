import type { Clock } from '@shardline/shared';

import { type Limits, NO_RATE_LIMITS, SERVICE_LIMITS } from './limits.js';
import { consumerOperations } from './operations/consumers.js';
import { recordOperations } from './operations/records.js';
import { shardOperations } from './operations/shards.js';
import { streamOperations } from './operations/streams.js';
import { invalidArgument, notFound, ServiceFault } from './service-fault.js';
import type { StoredRecord } from './shard.js';
import type { Stream, StreamConsumer } from './stream.js';
import { type ShardSubscription, SubscriptionBook } from './subscription.js';
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
  readonly streams = new Map<string, Stream>();
  readonly subscriptions: SubscriptionBook;
  readonly #transitionMs: number;
  readonly #storageListeners = new Set<(event: StorageEvent) => void>();

  constructor(options: EngineOptions) {
    const { limits = true } = options;
    this.clock = options.clock;
    this.region = options.region ?? 'us-east-1';
    this.accountId = options.accountId ?? '000000000000';
    this.limits =
      typeof limits === 'object'
        ? { ...SERVICE_LIMITS, ...limits }
        : limits
          ? SERVICE_LIMITS
          : NO_RATE_LIMITS;
    this.#transitionMs = options.transitionMs ?? 0;
    this.subscriptions = new SubscriptionBook(this.clock, this.limits);
  }

  /** True if `execute` knows the operation; SubscribeToShard is {@link subscribe}'s. */
  static hasOperation(name: string): boolean {
    return Object.hasOwn(OPERATIONS, name);
  }

  /** Carries out one operation. */
  execute(operation: string, input: Input): Output {
    const run = Object.hasOwn(OPERATIONS, operation) ? OPERATIONS[operation] : undefined;
    if (!run) {
      throw new ServiceFault('UnknownOperationException', `Unknown operation ${operation}`);
    }
    validateRequest(operation, input);
    return run(this, input);
  }

  /** Opens a subscription of enhanced fan-out. */
  subscribe(input: Input): ShardSubscription {
    validateRequest('SubscribeToShard', input);
    const { stream, consumer } = this.consumerByArn(input['ConsumerARN'] as string);
    if (consumer.status !== 'ACTIVE') {
      throw new ServiceFault(
        'ResourceInUseException',
        `Consumer ${consumer.arn} is not in ACTIVE status.`,
      );
    }
    const shard = stream.shard(input['ShardId'] as string);
    return this.subscriptions.open(consumer, shard, input['StartingPosition'] as Input);
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
}
