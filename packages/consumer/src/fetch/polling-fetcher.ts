import {
  awsErrorName,
  classifyAwsError,
  type Clock,
  fullJitterMs,
  pause,
  publishDiagnostics,
  type Random,
} from '@shardline/shared';

import type { FetchedBatch, Fetcher, StartingPoint } from './fetcher.js';
import type { KinesisReadPort, ReadPage } from './kinesis-read-port.js';
import { pauseAfterRead } from './read-pacing.js';

const BACKOFF = { baseMs: 300, capMs: 10_000 };

/** Reads a shard by GetRecords, shared with all other applications that poll it. */
export class PollingFetcher implements Fetcher {
  readonly #client: KinesisReadPort;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #idlePauseMs: number;

  constructor(client: KinesisReadPort, clock: Clock, random: Random, idlePauseMs: number) {
    this.#client = client;
    this.#clock = clock;
    this.#random = random;
    this.#idlePauseMs = idlePauseMs;
  }

  async *fetch(
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
    onTrouble: (what: string | undefined) => void,
  ): AsyncGenerator<FetchedBatch> {
    let iterator: string | undefined;
    let lastSequenceNumber: string | undefined;
    let failures = 0;
    while (!signal.aborted) {
      let page: ReadPage;
      const startedMs = this.#clock.monotonicMs();
      try {
        iterator ??=
          lastSequenceNumber === undefined
            ? await this.#client.getIterator(shardId, from, signal)
            : await this.#client.getIteratorAfter(shardId, lastSequenceNumber, signal);
        page = await this.#client.getRecords(iterator, signal);
        if (page.nextIterator === undefined && !page.childShards) {
          // An end without children: the service has not made up its mind. Ask again.
          throw Object.assign(new Error('shard end without children'), { name: 'InvalidShardEnd' });
        }
      } catch (error) {
        if (signal.aborted) return;
        const name = awsErrorName(error);
        // An iterator lives five minutes; what was read by it is known.
        if (classifyAwsError(error) === 'poison' || name === 'ExpiredIteratorException') {
          iterator = undefined;
        }
        onTrouble(name);
        if (!(await pause(this.#clock, fullJitterMs(BACKOFF, failures, this.#random), signal)))
          return;
        failures += 1;
        continue;
      }
      if (failures > 0) onTrouble(undefined);
      failures = 0;
      iterator = page.nextIterator;
      lastSequenceNumber = page.records.at(-1)?.SequenceNumber ?? lastSequenceNumber;
      const bytes = bytesOf(page);
      publishDiagnostics('shardline:consumer:fetch', () => ({
        shardId,
        retrieval: 'polling',
        kinesisRecords: page.records.length,
        bytes,
        millisBehindLatest: page.millisBehindLatest,
      }));
      yield page;
      if (page.childShards) return;
      const pauseMs = pauseAfterRead({ ...page, bytes }, this.#idlePauseMs);
      const spentMs = this.#clock.monotonicMs() - startedMs;
      if (!(await pause(this.#clock, pauseMs - spentMs, signal))) return;
    }
  }
}

/** Bytes of data in a batch. */
export function bytesOf(batch: FetchedBatch): number {
  return batch.records.reduce((sum, { Data }) => sum + (Data?.length ?? 0), 0);
}
