import type { Clock } from '@shardline/shared';

import type { Limits } from './limits.js';
import { counterOf } from './operations/positions.js';
import { describeChildren } from './operations/shards.js';
import { inUse, type ServiceFault } from './service-fault.js';
import { recordBytes, type Shard, type StoredRecord } from './shard.js';
import type { StreamConsumer } from './stream.js';
import { bucketFor, type TokenBucket } from './token-bucket.js';
import type { Input } from './validation.js';

/** One SubscribeToShardEvent. */
export interface SubscriptionEvent {
  readonly Records: readonly StoredRecord[];
  /** Absent at the end of the shard. */
  readonly ContinuationSequenceNumber?: string;
  readonly MillisBehindLatest: number;
  readonly ChildShards?: readonly unknown[];
}

/** Bytes of records in one event: a connection is not held up by one shard for long. */
const MAX_EVENT_BYTES = 2 ** 20;
const MAX_EVENT_RECORDS = 10_000;

/** Remembers who reads which shard, for the rules about a second subscription. */
export class SubscriptionBook {
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #latest = new Map<
    string,
    { readonly subscription: ShardSubscription; readonly openedMs: number }
  >();

  constructor(clock: Clock, limits: Limits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  open(
    consumer: StreamConsumer,
    shard: Shard,
    position: Input,
    repeatRecords: number,
  ): ShardSubscription {
    const key = `${consumer.arn} ${shard.id}`;
    const nowMs = this.#clock.monotonicMs();
    const before = this.#latest.get(key);
    if (before && nowMs - before.openedMs < this.#limits.resubscribePauseMs) {
      throw inUse(
        `Another active subscription exists for this consumer: ${consumer.name} and shard: ${shard.id}`,
      );
    }
    const counter = counterOf(
      shard,
      {
        type: position['Type'] as string,
        sequenceNumber: position['SequenceNumber'] as string | undefined,
        timestamp: position['Timestamp'] as Date | undefined,
      },
      this.#clock.now(),
    );
    before?.subscription.end();
    const expiresMs = nowMs + this.#limits.subscriptionLifeMs;
    const subscription = new ShardSubscription(
      this.#clock,
      shard,
      Math.max(counter - repeatRecords, shard.horizon),
      expiresMs,
      bucketFor(this.#limits.fanOutBytesPerSecond),
    );
    this.#latest.set(key, { subscription, openedMs: nowMs });
    return subscription;
  }

  /** Open subscriptions, by consumer ARN and shard id. */
  *active(): Iterable<{ readonly key: string; readonly subscription: ShardSubscription }> {
    for (const [key, { subscription }] of this.#latest) {
      if (!subscription.isEnded) yield { key, subscription };
    }
  }
}

/**
 * One reader's place in a shard. Pulled, so that a slow connection holds back nothing but itself:
 * {@link next} gives what there is, {@link onReady} tells when there may be more.
 */
export class ShardSubscription {
  readonly #clock: Clock;
  readonly #shard: Shard;
  readonly #expiresMs: number;
  readonly #rate: TokenBucket | undefined;
  readonly #unwatch: () => void;
  #counter: number;
  #ended = false;
  #fault: ServiceFault | undefined;
  #ready: () => void = () => {};

  constructor(
    clock: Clock,
    shard: Shard,
    counter: number,
    expiresMs: number,
    rate: TokenBucket | undefined,
  ) {
    this.#rate = rate;
    this.#clock = clock;
    this.#shard = shard;
    this.#counter = counter;
    this.#expiresMs = expiresMs;
    this.#unwatch = shard.watch(() => this.#ready());
  }

  get isEnded(): boolean {
    return this.#ended;
  }

  /** Why it was cut, if it was. */
  get fault(): ServiceFault | undefined {
    return this.#fault;
  }

  /** How long it may still live. Unit: milliseconds. */
  get remainingMs(): number {
    return this.#expiresMs - this.#clock.monotonicMs();
  }

  /** How long the rate of the consumer holds back the next event. Unit: milliseconds. */
  get waitMs(): number {
    return this.#rate?.waitMs(0, this.#clock.monotonicMs()) ?? 0;
  }

  onReady(listener: () => void): void {
    this.#ready = listener;
  }

  /** Records that wait, the end of the shard, or undefined if there is nothing new. */
  next(): SubscriptionEvent | undefined {
    if (this.#ended || this.waitMs > 0) return undefined;
    const shard = this.#shard;
    if (this.#counter >= shard.tip && shard.isOpen) return undefined;
    const records = shard.read(this.#counter, MAX_EVENT_RECORDS, MAX_EVENT_BYTES);
    this.#rate?.take(records.reduce((sum, record) => sum + recordBytes(record), 0));
    return this.#event(records);
  }

  /** What the service sends on an idle shard: no records, but a continuation that moves with time. */
  heartbeat(): SubscriptionEvent {
    return this.#event([]);
  }

  /** Ends it, with an error if one is given. */
  end(fault?: ServiceFault): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#fault = fault;
    this.#unwatch();
    this.#ready();
  }

  #event(records: readonly StoredRecord[]): SubscriptionEvent {
    const shard = this.#shard;
    const now = this.#clock.now();
    this.#counter = Math.max(this.#counter, shard.horizon) + records.length;
    if (!shard.isOpen && this.#counter >= shard.tip) {
      return { Records: records, MillisBehindLatest: 0, ChildShards: describeChildren(shard) };
    }
    return {
      Records: records,
      ContinuationSequenceNumber:
        records.at(-1)?.SequenceNumber ?? shard.sequenceNumberAt(this.#counter - 1, now),
      MillisBehindLatest: shard.millisBehind(this.#counter, now),
    };
  }
}
