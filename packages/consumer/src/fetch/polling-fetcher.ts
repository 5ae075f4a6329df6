import { type Clock, pause, publishDiagnostics, type Random } from '@shardline/shared';

import {
  afterRecord,
  atTimestamp,
  bytesOf,
  type FetchedBatch,
  type Fetcher,
  type StartingPoint,
  type TroubleListener,
} from './fetcher.js';
import type { KinesisReadPort, ReadPage } from './kinesis-read-port.js';
import { endWithoutChildren, ReadFailures } from './read-failures.js';
import {
  FIRST_PAGE_RECORDS,
  type IdlePauses,
  nextPageRecords,
  pauseAfterRead,
  type ReadPace,
  releasePace,
  sharedPace,
} from './read-pacing.js';

const BACKOFF = { baseMs: 300, capMs: 10_000 };

export interface PollingOptions extends IdlePauses {
  readonly streamName: string;
  /** How much of each shard's rate may be used. 0 to 1. */
  readonly shareRatio: number;
  readonly clock: Clock;
  readonly random: Random;
}

/** Reads a shard by GetRecords, shared with all other applications that poll it. */
export class PollingFetcher implements Fetcher {
  readonly #client: KinesisReadPort;
  readonly #options: PollingOptions;

  constructor(client: KinesisReadPort, options: PollingOptions) {
    this.#client = client;
    this.#options = options;
  }

  async *fetch(
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
    onTrouble: TroubleListener,
  ): AsyncGenerator<FetchedBatch> {
    const { clock, streamName } = this.#options;
    const shard = `${streamName} ${shardId}`;
    const pace = sharedPace(clock, shard);
    try {
      yield* this.#poll(shardId, from, pace, signal, onTrouble);
    } finally {
      releasePace(clock, shard);
    }
  }

  async *#poll(
    shardId: string,
    from: StartingPoint,
    pace: ReadPace,
    signal: AbortSignal,
    onTrouble: TroubleListener,
  ): AsyncGenerator<FetchedBatch> {
    const { clock, random, shareRatio } = this.#options;
    const failures = new ReadFailures(clock, random, BACKOFF);
    let iterator: string | undefined;
    let resume = from;
    let emptyReads = 0;
    let maxRecords = FIRST_PAGE_RECORDS;
    while (!signal.aborted) {
      let page: ReadPage;
      let calledMs: number;
      try {
        if (iterator === undefined) {
          const askedMs = clock.monotonicMs();
          const opened = await this.#client.getIterator(shardId, resume, signal);
          iterator = opened.iterator;
          if (resume.position.sequenceNumber === 'LATEST') {
            // From here on it is a place in the shard, not whatever is the latest by then.
            resume = atTimestamp(opened.notBeforeMs);
            yield { records: [], millisBehindLatest: 0, askedMs, childShards: undefined, resume };
          }
        }
        calledMs = pace.book(clock.monotonicMs(), shareRatio);
        if (!(await pause(clock, calledMs - clock.monotonicMs(), signal))) return;
        page = await this.#client.getRecords(iterator, maxRecords, signal);
        if (page.nextIterator === undefined && !page.childShards) throw endWithoutChildren();
      } catch (error) {
        if (signal.aborted) return;
        const { name, delayMs, needsNewIterator } = failures.add(error);
        if (needsNewIterator) iterator = undefined;
        onTrouble(name);
        if (!(await pause(clock, delayMs, signal))) return;
        continue;
      }
      if (failures.count > 0) onTrouble(undefined);
      failures.reset();
      iterator = page.nextIterator;
      const { records, millisBehindLatest, childShards } = page;
      const last = records.at(-1)?.SequenceNumber;
      if (last !== undefined) resume = afterRecord(last);
      emptyReads = records.length > 0 ? 0 : emptyReads + 1;
      const bytes = bytesOf(page);
      if (records.length > 0) maxRecords = nextPageRecords(records.length, bytes);
      pace.charge(calledMs, bytes, shareRatio);
      publishDiagnostics('shardline:consumer:fetch', () => ({
        shardId,
        retrieval: 'polling',
        kinesisRecords: records.length,
        bytes,
        millisBehindLatest,
      }));
      yield { records, millisBehindLatest, askedMs: calledMs, childShards, resume };
      if (childShards) return;
      const pauseMs = pauseAfterRead(millisBehindLatest, emptyReads, this.#options);
      const spentMs = clock.monotonicMs() - calledMs;
      if (!(await pause(clock, pauseMs - spentMs, signal))) return;
    }
  }
}
