import {
  awsErrorName,
  classifyAwsError,
  type Clock,
  pause,
  publishDiagnostics,
  type Random,
} from '@shardline/shared';

import {
  afterRecord,
  bytesOf,
  type FetchedBatch,
  type Fetcher,
  type StartingPoint,
  type TroubleListener,
} from './fetcher.js';
import type { FoundConsumer } from './found-consumer.js';
import type { KinesisReadPort, SubscriptionBatch } from './kinesis-read-port.js';
import { endWithoutChildren, ReadFailures } from './read-failures.js';

/** The service refuses a second subscription so soon after the first. @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html */
const RESUBSCRIBE_PAUSE_MS = 5_000;
/** The service ends a subscription after five minutes; we end it before, each a little differently. */
const RENEW_AFTER_MS = { min: 270_000, max: 290_000 };
/** The service sends something at least every five seconds. */
const SILENCE_MS = 20_000;
/** An event that was waited for so long was sent while it was. */
const SURELY_NEW_MS = 1_000;
const BACKOFF = { baseMs: 500, capMs: 10_000 };

/**
 * Reads a shard by enhanced fan-out: the service pushes. A subscription lives five minutes at most and
 * may end at any moment without an error, so what counts is where the last event said to go on.
 */
export class FanOutFetcher implements Fetcher {
  readonly #client: KinesisReadPort;
  readonly #consumer: FoundConsumer;
  readonly #clock: Clock;
  readonly #random: Random;

  /** @param consumer - Asked for before each subscription. */
  constructor(client: KinesisReadPort, consumer: FoundConsumer, clock: Clock, random: Random) {
    this.#client = client;
    this.#consumer = consumer;
    this.#clock = clock;
    this.#random = random;
  }

  async *fetch(
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
    onTrouble: TroubleListener,
  ): AsyncGenerator<FetchedBatch> {
    const clock = this.#clock;
    const failures = new ReadFailures(clock, this.#random, BACKOFF);
    let resume = from;
    let mayResubscribeMs = 0;
    while (!signal.aborted) {
      if (!(await pause(clock, mayResubscribeMs - clock.monotonicMs(), signal))) return;
      const subscription = new AbortController();
      const forward = (): void => subscription.abort(signal.reason);
      signal.addEventListener('abort', forward, { once: true });
      try {
        const arn = await this.#consumer.arn();
        const beganMs = clock.monotonicMs();
        const batches = await this.#unlessSilent(subscription, () =>
          this.#client.subscribe(arn, shardId, resume, subscription.signal),
        );
        const subscribedMs = clock.monotonicMs();
        mayResubscribeMs = subscribedMs + RESUBSCRIBE_PAUSE_MS;
        const renewMs = subscribedMs + this.#lifeMs();
        if (failures.count > 0) onTrouble(undefined);
        for await (const { batch, waitedMs } of this.#watched(batches, subscription)) {
          failures.reset();
          const { records, millisBehindLatest, childShards, continuation } = batch;
          this.#publish(shardId, batch);
          if (continuation === undefined && !childShards) throw endWithoutChildren();
          // Until an event has come the position is a checkpoint, maybe in the middle of an aggregate.
          if (continuation !== undefined) resume = afterRecord(continuation);
          // What came at once may have been on its way for long, held up by who reads.
          const askedMs = waitedMs > SURELY_NEW_MS ? clock.monotonicMs() - waitedMs : beganMs;
          yield { records, millisBehindLatest, askedMs, childShards, resume };
          if (continuation === undefined) return;
          if (clock.monotonicMs() >= renewMs) break;
        }
      } catch (error) {
        if (signal.aborted) return;
        // Shard or consumer: whoever tries next looks for the consumer again.
        if (classifyAwsError(error) === 'notFound') this.#consumer.forget();
        const { name, delayMs } = failures.add(error);
        onTrouble(name);
        // Somebody holds the shard, maybe we ourselves a moment ago.
        const leastMs = awsErrorName(error) === 'ResourceInUseException' ? 1_000 : 0;
        mayResubscribeMs = Math.max(
          mayResubscribeMs,
          clock.monotonicMs() + Math.max(delayMs, leastMs),
        );
      } finally {
        signal.removeEventListener('abort', forward);
        // Leaving the iteration does not end a subscription.
        subscription.abort();
      }
    }
  }

  #lifeMs(): number {
    const { min, max } = RENEW_AFTER_MS;
    return min + this.#random() * (max - min);
  }

  /** Waits for the service; ends the subscription when nothing has come for too long. */
  async #unlessSilent<Result>(
    subscription: AbortController,
    wait: () => Promise<Result>,
  ): Promise<Result> {
    const watchdog = this.#clock.schedule(SILENCE_MS, () => subscription.abort());
    try {
      return await wait();
    } finally {
      watchdog.cancel();
    }
  }

  /** The events, each waited for no longer than the service may be silent. */
  async *#watched(
    batches: AsyncIterable<SubscriptionBatch>,
    subscription: AbortController,
  ): AsyncGenerator<{ readonly batch: SubscriptionBatch; readonly waitedMs: number }> {
    const iterator = batches[Symbol.asyncIterator]();
    for (;;) {
      const askedMs = this.#clock.monotonicMs();
      const result = await this.#unlessSilent(subscription, () => iterator.next());
      if (result.done) return;
      yield { batch: result.value, waitedMs: this.#clock.monotonicMs() - askedMs };
    }
  }

  #publish(shardId: string, batch: SubscriptionBatch): void {
    publishDiagnostics('shardline:consumer:fetch', () => ({
      shardId,
      retrieval: 'fanOut',
      kinesisRecords: batch.records.length,
      bytes: bytesOf(batch),
      millisBehindLatest: batch.millisBehindLatest,
    }));
  }
}
