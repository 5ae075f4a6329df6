import type { InitialPosition, Shard } from '../shard/shard-sync.js';
import type { FetchedBatch, StartingPoint } from './fetcher.js';

/** An answer of GetRecords. */
export interface ReadPage extends Omit<FetchedBatch, 'resume' | 'askedMs'> {
  /** Undefined at the end of the shard. */
  readonly nextIterator: string | undefined;
}

/** An event of a subscription: what was pushed, and where to resume. */
export interface SubscriptionBatch extends Omit<FetchedBatch, 'resume' | 'askedMs'> {
  /** Undefined at the end of the shard. */
  readonly continuation: string | undefined;
}

/** An iterator, and a time by the service's clock that it does not stand before. */
export interface OpenedIterator {
  readonly iterator: string;
  /** Everything that arrives from the opening on arrives at this time or later. Epoch milliseconds. */
  readonly notBeforeMs: number;
}

/** What tells a stream from another of the same name. */
export interface StreamIdentity {
  readonly accountId: string;
  /** Epoch seconds. */
  readonly createdAtSeconds: number;
}

/** Everything a consumer asks of Kinesis. Calls throw what the service or the way to it threw. */
export interface KinesisReadPort {
  describe(signal: AbortSignal): Promise<StreamIdentity>;
  /** All shards, or those a new application begins with. */
  listShards(signal: AbortSignal, startingAt?: InitialPosition): Promise<Shard[]>;
  getIterator(shardId: string, from: StartingPoint, signal: AbortSignal): Promise<OpenedIterator>;
  /** @param maxRecords - 1 to 10,000. */
  getRecords(iterator: string, maxRecords: number, signal: AbortSignal): Promise<ReadPage>;
  /**
   * Subscribes to a shard. Resolves when the service has accepted; the batches end when the
   * subscription does, which says nothing about the shard: look at the last `continuation`.
   *
   * @param signal - Ends the subscription; nothing else does.
   */
  subscribe(
    consumerArn: string,
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
  ): Promise<AsyncIterable<SubscriptionBatch>>;
  /** The ARN of the fan-out consumer of a name; registered if there is none, and waited for. */
  consumerArn(consumerName: string, signal: AbortSignal): Promise<string>;
  /** Removes the fan-out consumer of a name, if there is one. */
  removeConsumer(consumerName: string, signal: AbortSignal): Promise<void>;
  close(): void;
}
