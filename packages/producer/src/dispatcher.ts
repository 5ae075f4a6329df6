import {
  awsErrorName,
  type AwsErrorClass,
  classifyAwsError,
  type Clock,
  fromAwsError,
  fullJitterMs,
  nextTurn,
  publishDiagnostics,
  type Random,
  ShardlineError,
  type Timer,
} from '@shardline/shared';

import { Entry } from './entry.js';
import { InFlightLimit } from './in-flight-limit.js';
import {
  bytesOf,
  FULL_REQUEST_BYTES,
  MAX_REQUEST_ENTRIES,
  NextRequest,
  type Sending,
} from './next-request.js';
import { type Attempt, PutError } from './pending-record.js';
import type { KinesisWritePort } from './put-records-client.js';
import type { Router } from './router.js';
import type { ShardLane } from './shard-lane.js';
import { type EntryOutcome, judge, judgeRequest, type Landing } from './verdict.js';

export interface DispatcherOptions {
  readonly streamName: string;
  readonly isStrict: boolean;
  readonly requestTimeoutMs: number;
  readonly maxRequestsInFlight: number;
  readonly waitsWhenRefused: boolean;
  readonly clock: Clock;
  readonly random: Random;
}

/** What becomes of records, for whoever put them. */
export interface DispatcherListener {
  delivered(entry: Entry, shardId: string, sequenceNumber: string): void;
  /** @param indexes - Which of the entry's records, all open. */
  failed(entry: Entry, indexes: readonly number[], error: PutError): void;
  /** Looks at the stream's shards again; resolves when the router has the new map or never will. */
  refreshShards(): Promise<void>;
}

const MAX_ERROR_NAMES = 100;
const LANE_BACKOFF = { baseMs: 100, capMs: 5_000 };
const REQUEST_BACKOFF = { baseMs: 100, capMs: 5_000 };

/**
 * Takes from the lanes that may send and makes requests of it. With nothing in flight it sends at
 * once; while requests are in flight it lets the next one grow, for `lingerMs` at most.
 */
export class Dispatcher {
  readonly stats = {
    requests: 0,
    failedRequests: 0,
    kinesisRecords: 0,
    kinesisBytes: 0,
    retriedEntries: 0,
    throttledEntries: 0,
    resentEntries: 0,
    expiredRecords: 0,
  };
  /** How often the service or the way to it answered with each error. */
  readonly errorsByCode = new Map<string, number>();
  readonly #inFlightLimit: InFlightLimit;
  readonly #options: DispatcherOptions;
  readonly #router: Router;
  readonly #port: KinesisWritePort;
  readonly #listener: DispatcherListener;
  /** Why it was stopped, once it was. */
  #stopped: ShardlineError | undefined;
  readonly #requests = new Set<AbortController>();
  /** Parts of refused requests, each to be sent by itself. */
  readonly #isolated: (readonly Sending[])[] = [];
  readonly #next: NextRequest;
  #isFlushing = false;
  /** Since it last looked whether there is enough for a request. */
  #addedBytes = 0;
  #isWoken = false;
  #isResting = false;
  #pausedUntilMs = 0;
  #refusedRequests = 0;
  #nextDueMs = Infinity;
  #timer: Timer | undefined;

  constructor(
    options: DispatcherOptions,
    router: Router,
    port: KinesisWritePort,
    listener: DispatcherListener,
  ) {
    this.#options = options;
    this.#router = router;
    this.#port = port;
    this.#listener = listener;
    this.#next = new NextRequest(router, options.isStrict, options.random);
    this.#inFlightLimit = new InFlightLimit(options.maxRequestsInFlight);
  }

  get requestsInFlight(): number {
    return this.#requests.size;
  }

  /** While true nothing waits for company. */
  set isFlushing(value: boolean) {
    this.#isFlushing = value;
    if (value) this.wake();
  }

  /** A record of so many bytes was added that should leave by `dueMs`. */
  onAdded(bytes: number, dueMs: number): void {
    this.#addedBytes += bytes;
    if (this.#isUrgent || this.#addedBytes >= FULL_REQUEST_BYTES) {
      this.#addedBytes = 0;
      this.wake();
    } else if (dueMs < this.#nextDueMs) {
      this.#nextDueMs = dueMs;
      this.#schedule(dueMs);
    }
  }

  /** Looks for something to send once the running code is done. */
  wake(): void {
    if (this.#isWoken) return;
    this.#isWoken = true;
    queueMicrotask(() => {
      this.#isWoken = false;
      this.#dispatch();
    });
  }

  /** Ends the requests in flight and everything that waits, each record with `error`. */
  stop(error: ShardlineError): void {
    this.#stopped = error;
    for (const request of this.#requests) request.abort(error);
    this.#timer?.cancel();
    for (const lane of this.#router.lanes) {
      this.#router.closeOpen(lane);
      for (const entry of lane.takeAll()) this.#fail(entry, error);
    }
    for (const part of this.#isolated.splice(0)) {
      for (const { entry } of part) this.#fail(entry, error);
    }
    this.#router.queued.clear();
  }

  /**
   * With nothing under way there is nothing to wait for, unless there is more than a request takes: then what
   * is sent at once is so many small aggregates that the others wait for it anyway.
   */
  get #isUrgent(): boolean {
    if (this.#isFlushing) return true;
    const { sealing, open } = this.#router;
    return this.#requests.size === 0 && sealing === 0 && open.size <= MAX_REQUEST_ENTRIES;
  }

  #dispatch(): void {
    const { clock } = this.#options;
    while (this.#requests.size < this.#inFlightLimit.value && !this.#isResting && !this.#stopped) {
      const nowMs = clock.monotonicMs();
      if (nowMs < this.#pausedUntilMs) {
        this.#schedule(this.#pausedUntilMs);
        this.#expire(nowMs);
        return;
      }
      const batch = this.#isolated.shift() ?? this.#collect(nowMs);
      if (batch.length === 0) return;
      void this.#send(batch);
      const isLarge = bytesOf(batch) >= FULL_REQUEST_BYTES || batch.length >= MAX_REQUEST_ENTRIES;
      if (isLarge) void this.#rest();
    }
  }

  #collect(nowMs: number): readonly Sending[] {
    this.#expire(nowMs);
    const { batch, wakeMs } = this.#next.collect(nowMs, this.#isUrgent);
    this.#schedule(wakeMs);
    return batch;
  }

  /** Putting together, writing and signing a large request takes milliseconds: others get a turn before the next. */
  async #rest(): Promise<void> {
    this.#isResting = true;
    await nextTurn();
    this.#isResting = false;
    this.wake();
  }

  async #send(batch: readonly Sending[]): Promise<void> {
    const { clock, requestTimeoutMs, streamName } = this.#options;
    const startedMs = clock.monotonicMs();
    const startedAt = clock.now();
    const request = new AbortController();
    const timer = clock.schedule(requestTimeoutMs, () =>
      request.abort(Object.assign(new Error('request timed out'), { name: 'TimeoutError' })),
    );
    const expiry = this.#expireInFlight(batch);
    this.#requests.add(request);
    this.stats.requests += 1;
    let outcomes: readonly EntryOutcome[] | undefined;
    let failure: unknown;
    try {
      const entries = batch.map(({ entry }) => entry);
      Entry.sum(entries, this.#router.waiting());
      outcomes = await this.#port.putRecords(entries, request.signal);
    } catch (error) {
      // An abort surfaces under the SDK's own name; what ended the request says more.
      failure = request.signal.aborted ? request.signal.reason : error;
    }
    timer.cancel();
    expiry.cancel();
    const durationMs = clock.monotonicMs() - startedMs;
    const attempt = (error: string | undefined): Attempt => ({ startedAt, durationMs, error });
    let failedRecords = batch.length;
    if (outcomes) {
      this.#refusedRequests = 0;
      this.#inFlightLimit.onAnswered(this.#requests.size);
      failedRecords = await this.#settle(batch, outcomes, attempt);
    } else {
      this.stats.failedRequests += 1;
      this.#inFlightLimit.onFailed(clock.monotonicMs());
      this.#countError(awsErrorName(failure));
      this.#settleFailure(batch, failure, attempt(awsErrorName(failure)));
    }
    this.#requests.delete(request);
    publishDiagnostics('shardline:producer:request', () => ({
      streamName,
      kinesisRecords: batch.length,
      userRecords: batch.reduce((sum, { entry }) => sum + entry.records.count, 0),
      bytes: bytesOf(batch),
      failedRecords,
      durationMs,
      error: outcomes ? undefined : fromAwsError(failure, 'PutRecords'),
    }));
    this.wake();
  }

  /** @returns How many entries were not stored. */
  async #settle(
    batch: readonly Sending[],
    outcomes: readonly EntryOutcome[],
    attempt: (error: string | undefined) => Attempt,
  ): Promise<number> {
    const success = attempt(undefined);
    const onlySuccess = [success];
    const retries: Sending[] = [];
    const unknown: (Sending & { readonly outcome: EntryOutcome })[] = [];
    let failed = 0;
    let isMapStale = false;
    batch.forEach(({ lane, entry }, index) => {
      const outcome = outcomes[index] ?? { errorCode: 'MissingResult' };
      const isStored = 'sequenceNumber' in outcome;
      if (!isStored) {
        failed += 1;
        this.#countError(outcome.errorCode);
      }
      if (!isStored) entry.attempts = [...entry.attempts, attempt(outcome.errorCode)];
      else {
        // Shared by most entries of most requests.
        entry.attempts = entry.attempts.length === 0 ? onlySuccess : [...entry.attempts, success];
        this.stats.kinesisRecords += 1;
        this.stats.kinesisBytes += entry.bytes;
      }
      const landing = this.#landing(lane, entry, outcome);
      if (landing === 'unknown') isMapStale = true;
      const verdict = judge(outcome, entry.isAggregate, landing);
      switch (verdict.kind) {
        case 'retry':
          retries.push({ lane, entry });
          this.#backOff(lane, verdict.throttled);
          return;
        case 'unknownShard':
          unknown.push({ lane, entry, outcome });
          return;
        case 'dead':
          lane.inFlight -= 1;
          this.#failWithName(entry, verdict.code, isStored ? '' : outcome.errorCode);
          return;
        case 'delivered':
        case 'resend':
          lane.inFlight -= 1;
          this.#conclude({ lane, entry }, outcome, verdict.kind);
      }
    });
    this.#retry(retries);
    if (unknown.length > 0) {
      await this.#listener.refreshShards();
      for (const { lane, entry, outcome } of unknown) {
        lane.inFlight -= 1;
        const verdict = judge(outcome, entry.isAggregate, this.#landing(lane, entry, outcome));
        this.#conclude(
          { lane, entry },
          outcome,
          verdict.kind === 'delivered' ? 'delivered' : 'resend',
        );
      }
    } else if (isMapStale) {
      void this.#listener.refreshShards();
    }
    return failed;
  }

  #conclude({ lane, entry }: Sending, outcome: EntryOutcome, kind: 'delivered' | 'resend'): void {
    if (!('sequenceNumber' in outcome)) return;
    lane.refusals = 0;
    if (kind === 'delivered') {
      this.#listener.delivered(entry, outcome.shardId, outcome.sequenceNumber);
      this.#router.letGo(entry);
      return;
    }
    this.stats.resentEntries += 1;
    if (this.#stopped) this.#fail(entry, this.#stopped);
    else this.#router.rerouteToFront(entry, this.#options.clock.monotonicMs());
  }

  #landing(lane: ShardLane, entry: Entry, outcome: EntryOutcome): Landing {
    if (!('shardId' in outcome) || outcome.shardId === lane.shardId) return 'predicted';
    if (!this.#router.isPredicting) return 'predicted';
    const isInside = this.#router.allInside(entry, outcome.shardId);
    if (isInside === undefined) return 'unknown';
    return isInside ? 'elsewhereInside' : 'elsewhereOutside';
  }

  #settleFailure(batch: readonly Sending[], failure: unknown, attempt: Attempt): void {
    for (const { entry } of batch) entry.attempts = [...entry.attempts, attempt];
    const kind = classifyAwsError(failure);
    const { waitsWhenRefused } = this.#options;
    const verdict = judgeRequest(kind, this.#refusedRequests, waitsWhenRefused);
    if (verdict === 'bisect') {
      this.#bisect(batch, failure);
      return;
    }
    this.#refusedRequests += 1;
    if (verdict === 'fail') {
      const error = fromAwsError(
        failure,
        `PutRecords to stream '${this.#options.streamName}'`,
        'kinesis:PutRecords',
      );
      for (const { lane, entry } of batch) {
        lane.inFlight -= 1;
        this.#fail(entry, error);
      }
      return;
    }
    this.#pause(kind, batch);
    this.#retry(batch);
  }

  /** Something in the request is refused: halves it until the culprit is alone. */
  #bisect(batch: readonly Sending[], failure: unknown): void {
    const [only] = batch;
    if (batch.length > 1) {
      const middle = batch.length >>> 1;
      this.#isolated.push(batch.slice(0, middle), batch.slice(middle));
      return;
    }
    if (!only) return;
    const { lane, entry } = only;
    lane.inFlight -= 1;
    const { count } = entry.records;
    if (count === 1) {
      this.#fail(
        entry,
        fromAwsError(
          failure,
          `PutRecords to stream '${this.#options.streamName}'`,
          'kinesis:PutRecords',
        ),
      );
      return;
    }
    const nowMs = this.#options.clock.monotonicMs();
    const middle = count >>> 1;
    // The second half first: each goes in front.
    this.#router.rerouteToFront(entry, nowMs, (index) => index >= middle);
    this.#router.rerouteToFront(entry, nowMs, (index) => index < middle);
  }

  #pause(kind: AwsErrorClass, batch: readonly Sending[]): void {
    const { clock, random } = this.#options;
    const nowMs = clock.monotonicMs();
    const delayMs = fullJitterMs(REQUEST_BACKOFF, this.#refusedRequests - 1, random);
    this.#pausedUntilMs = Math.max(this.#pausedUntilMs, nowMs + delayMs);
    if (kind !== 'throttle') return;
    for (const { lane } of batch) lane.pace.onThrottled(nowMs);
  }

  #backOff(lane: ShardLane, isThrottled: boolean): void {
    const { clock, random } = this.#options;
    const nowMs = clock.monotonicMs();
    if (isThrottled) {
      lane.pace.onThrottled(nowMs);
      this.stats.throttledEntries += 1;
    }
    // The refusals of one answer are one refusal.
    if (nowMs < lane.blockedUntilMs) return;
    lane.blockedUntilMs = nowMs + Math.max(fullJitterMs(LANE_BACKOFF, lane.refusals, random), 1);
    lane.refusals += 1;
  }

  #retry(sendings: readonly Sending[]): void {
    if (this.#stopped) {
      for (const { lane, entry } of sendings) {
        lane.inFlight -= 1;
        this.#fail(entry, this.#stopped);
      }
      return;
    }
    this.stats.retriedEntries += sendings.length;
    this.#router.putBack(sendings, this.#options.clock.monotonicMs());
  }

  /** Gives up records whose time is over; the others of their entries go on. */
  #expire(nowMs: number): void {
    for (const lane of this.#router.queued) {
      for (let entry = lane.first; entry && entry.expiresMs <= nowMs; entry = lane.first) {
        if (!entry.isSealed) break;
        lane.shift();
        this.#failExpired(entry, nowMs, '');
        if (entry.records.open > 0) this.#router.rerouteToFront(entry, nowMs);
      }
      if (lane.length === 0) this.#router.queued.delete(lane);
    }
  }

  /** Tells whoever put records whose time is over while their request is still under way. */
  #expireInFlight(batch: readonly Sending[]): Timer {
    const { clock } = this.#options;
    let timer: Timer = { cancel: () => {} };
    const schedule = (): void => {
      const nextMs = batch.reduce(
        (min, { entry }) => Math.min(min, entry.records.nextExpiryMs),
        Infinity,
      );
      if (nextMs === Infinity) return;
      timer = clock.schedule(Math.max(nextMs - clock.monotonicMs(), 0), () => {
        const what = '; a request that may still store it is under way';
        for (const { entry } of batch) this.#failExpired(entry, clock.monotonicMs(), what);
        schedule();
      });
    };
    schedule();
    return { cancel: () => timer.cancel() };
  }

  #failExpired(entry: Entry, nowMs: number, what: string): void {
    const expired = entry.records.openIndexes(nowMs);
    if (expired.length === 0) return;
    this.stats.expiredRecords += expired.length;
    const last = entry.attempts.findLast(({ error }) => error !== undefined)?.error;
    const answer = last === undefined ? '' : `; the last answer was ${last}`;
    const error = new ShardlineError(
      'RECORD_EXPIRED',
      `the record was not stored in time${answer}${what}`,
      { retryable: true, value: last },
    );
    this.#listener.failed(entry, expired, new PutError(error, entry.attempts));
  }

  #countError(name: string): void {
    const isKnown = this.errorsByCode.has(name) || this.errorsByCode.size < MAX_ERROR_NAMES;
    const key = isKnown ? name : 'other';
    this.errorsByCode.set(key, (this.errorsByCode.get(key) ?? 0) + 1);
  }

  #failWithName(entry: Entry, code: ShardlineError['code'], name: string): void {
    const what = `PutRecords to stream '${this.#options.streamName}' refused a record with ${name}`;
    this.#fail(entry, new ShardlineError(code, what, { value: name }));
  }

  #fail(entry: Entry, error: ShardlineError): void {
    const open = entry.records.openIndexes();
    if (open.length > 0) this.#listener.failed(entry, open, new PutError(error, entry.attempts));
  }

  /** Makes sure that {@link wake} runs at `atMs` at the latest. */
  #schedule(atMs: number): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#nextDueMs = atMs;
    if (atMs === Infinity) return;
    const delayMs = Math.max(atMs - this.#options.clock.monotonicMs(), 0);
    this.#timer = this.#options.clock.schedule(Math.ceil(delayMs), () => {
      this.#timer = undefined;
      this.#nextDueMs = Infinity;
      this.wake();
    });
  }
}
