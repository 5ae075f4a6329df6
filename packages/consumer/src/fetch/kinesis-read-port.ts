import type { InitialPosition, Shard } from '../shard/shard-sync.js';
import type { FetchedBatch, StartingPoint } from './fetcher.js';

/** An answer of GetRecords: what was read, and where to go on. */
export interface ReadPage extends FetchedBatch {
  /** Undefined at the end of the shard. */
  readonly nextIterator: string | undefined;
}

/** An event of a subscription: what was pushed, and where to resume. */
export interface SubscriptionBatch extends FetchedBatch {
  /** Undefined at the end of the shard. */
  readonly continuation: string | undefined;
}

/** Everything a consumer asks of Kinesis. Calls throw what the service or the way to it threw. */
export interface KinesisReadPort {
  /** All shards, or those a new application begins with. */
  listShards(signal: AbortSignal, startingAt?: InitialPosition): Promise<Shard[]>;
  getIterator(shardId: string, from: StartingPoint, signal: AbortSignal): Promise<string>;
  /** An iterator behind a record that was read. */
  getIteratorAfter(shardId: string, sequenceNumber: string, signal: AbortSignal): Promise<string>;
  getRecords(iterator: string, signal: AbortSignal): Promise<ReadPage>;
  /**
   * Subscribes to a shard. Resolves when the service has accepted; the batches end when the
   * subscription does, which says nothing about the shard: look at the last `continuation`.
   *
   * @param signal - Ends the subscription; nothing else does.
   */
  subscribe(
    consumerArn: string,
    shardId: string,
    from: StartingPoint & { readonly isContinuation: boolean },
    signal: AbortSignal,
  ): Promise<AsyncIterable<SubscriptionBatch>>;
  /** The ARN of the fan-out consumer of a name; registered if there is none, and waited for. */
  consumerArn(consumerName: string, signal: AbortSignal): Promise<string>;
  close(): void;
}
