import {
  awsErrorName,
  type Clock,
  fullJitterMs,
  pause,
  type Position,
  publishDiagnostics,
  type Random,
} from '@shardline/shared';

import type { FetchedBatch, Fetcher, StartingPoint } from './fetcher.js';
import type { KinesisReadPort, SubscriptionBatch } from './kinesis-read-port.js';
import { bytesOf } from './polling-fetcher.js';

/** The service refuses a second subscription so soon after the first. @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_SubscribeToShard.html */
const RESUBSCRIBE_PAUSE_MS = 5_000;
/** The service sends something at least every five seconds. */
const SILENCE_MS = 20_000;
const BACKOFF = { baseMs: 500, capMs: 10_000 };

/**
 * Reads a shard by enhanced fan-out: the service pushes, a connection a shard. A subscription lives
 * five minutes at most and may end at any moment without an error, so what counts is where the last
 * event said to go on.
 */
export class FanOutFetcher implements Fetcher {
  readonly #client: KinesisReadPort;
  readonly #consumerArn: string;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(client: KinesisReadPort, consumerArn: string, clock: Clock, random: Random) {
    this.#client = client;
    this.#consumerArn = consumerArn;
    this.#clock = clock;
    this.#random = random;
  }

  async *fetch(
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
    onTrouble: (what: string | undefined) => void,
  ): AsyncGenerator<FetchedBatch> {
    let position = from.position;
    // Until an event has come the position is a checkpoint, maybe in the middle of an aggregate.
    let isContinuation = false;
    let failures = 0;
    let mayResubscribeMs = 0;
    while (!signal.aborted) {
      const waitMs = mayResubscribeMs - this.#clock.monotonicMs();
      if (!(await pause(this.#clock, waitMs, signal))) return;
      const subscription = new AbortController();
      const forward = (): void => subscription.abort(signal.reason);
      signal.addEventListener('abort', forward, { once: true });
      try {
        const batches = await this.#client.subscribe(
          this.#consumerArn,
          shardId,
          { position, timestamp: from.timestamp, isContinuation },
          subscription.signal,
        );
        mayResubscribeMs = this.#clock.monotonicMs() + RESUBSCRIBE_PAUSE_MS;
        if (failures > 0) onTrouble(undefined);
        for await (const batch of this.#watched(batches, subscription)) {
          failures = 0;
          this.#publish(shardId, batch);
          if (batch.continuation === undefined && !batch.childShards) {
            throw Object.assign(new Error('shard end without children'), {
              name: 'InvalidShardEnd',
            });
          }
          yield batch;
          if (batch.continuation === undefined) return;
          position = continuationAt(batch.continuation);
          isContinuation = true;
        }
      } catch (error) {
        if (signal.aborted) return;
        onTrouble(awsErrorName(error));
        const backoffMs = fullJitterMs(BACKOFF, failures, this.#random);
        // Somebody holds the shard, maybe we ourselves a moment ago.
        const leastMs = awsErrorName(error) === 'ResourceInUseException' ? 1_000 : 0;
        mayResubscribeMs = Math.max(
          mayResubscribeMs,
          this.#clock.monotonicMs() + Math.max(backoffMs, leastMs),
        );
        failures += 1;
      } finally {
        signal.removeEventListener('abort', forward);
        // Leaving the iteration does not end a subscription.
        subscription.abort();
      }
    }
  }

  /** Ends the subscription when nothing has come for too long while we waited for something. */
  async *#watched(
    batches: AsyncIterable<SubscriptionBatch>,
    subscription: AbortController,
  ): AsyncGenerator<SubscriptionBatch> {
    const iterator = batches[Symbol.asyncIterator]();
    for (;;) {
      const watchdog = this.#clock.schedule(SILENCE_MS, () => subscription.abort());
      let result: IteratorResult<SubscriptionBatch>;
      try {
        result = await iterator.next();
      } finally {
        watchdog.cancel();
      }
      if (result.done) return;
      yield result.value;
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

function continuationAt(sequenceNumber: string): Position {
  return { sequenceNumber, subSequenceNumber: 0 };
}
