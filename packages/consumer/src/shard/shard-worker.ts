import {
  awsErrorName,
  type ByteBudget,
  type Clock,
  type DamagePolicy,
  fullJitterMs,
  comparePositions,
  isShardlineError,
  type KinesisRecord,
  pause,
  type Position,
  publishDiagnostics,
  type Random,
  type RangeCheck,
  RecordDecoder,
  sleep,
  type UserRecord,
} from '@shardline/shared';

import type { ChildShard, FetchedBatch, Fetcher } from '../fetch/fetcher.js';
import { bytesOf } from '../fetch/polling-fetcher.js';
import { type HeldLease, isConcrete } from '../lease/held-lease.js';
import type { LeaseStore } from '../lease/lease-store.js';
import { isFinished } from '../lease/lease.js';
import { DuplicateFilter } from '../processing/duplicate-filter.js';
import type { DeadLetter, HandlerContext, RecordHandler } from '../processing/handler.js';
import { Lanes } from '../processing/lanes.js';
import { type Ticket, Watermark } from '../processing/watermark.js';
import { childLeases } from './shard-sync.js';

/** What a shard that this worker owns is doing. */
export type ShardState =
  /** Its parents are not finished, or a handler of ours still runs from an earlier ownership. */
  | 'waiting'
  /** It is read and its records are handled. */
  | 'processing'
  /** It is not read any more; what was begun is finished, then it is given away. */
  | 'draining'
  /** Its end was reached; what was begun is finished, then its children may start. */
  | 'ending'
  | 'finished'
  | 'released'
  | 'lost';

export interface ShardStatus {
  readonly shardId: string;
  readonly state: ShardState;
  /** Why it is in that state, or what stands in its way. */
  readonly reason: string;
  /** Since when, epoch milliseconds. */
  readonly since: number;
  /** Up to where all records are handled. */
  readonly position: Position;
  readonly millisBehindLatest: number | undefined;
  /** Records read and not yet handled. */
  readonly pendingRecords: number;
  /** User records that were dropped because another shard owns their hash keys. */
  readonly droppedRecords: number;
  /** Second copies of records, dropped because their producer marked them. */
  readonly duplicateRecords: number;
}

export interface ShardWorkerOptions {
  readonly workerId: string;
  readonly store: LeaseStore;
  readonly fetcher: Fetcher;
  readonly budget: ByteBudget;
  readonly handler: RecordHandler;
  readonly deadLetter: DeadLetter | undefined;
  readonly initialTimestamp: Date | undefined;
  readonly concurrency: number;
  readonly maxBatchRecords: number;
  readonly maxAttempts: number;
  readonly checkpointIntervalMs: number;
  readonly drainTimeoutMs: number;
  readonly duplicateWindowRecords: number;
  readonly maxRawBytes: number;
  readonly onDamage: DamagePolicy;
  readonly rangeCheck: RangeCheck;
  readonly clock: Clock;
  readonly random: Random;
}

/** A record on its way to the handler. */
interface Task {
  readonly record: UserRecord;
  readonly ticket: Ticket;
  readonly source: Source;
}

/** One batch that was read; its bytes are given back when its last record is done. */
interface Source {
  readonly bytes: number;
  readonly millisBehindLatest: number;
  remaining: number;
}

const PARENT_POLL_MS = 1_000;
const HANDLER_BACKOFF = { baseMs: 200, capMs: 30_000 };
const RESTART_BACKOFF = { baseMs: 500, capMs: 30_000 };

/** One owned shard, from the lease to its end: read, handle, checkpoint, and let go. */
export class ShardWorker {
  readonly #held: HeldLease;
  readonly #options: ShardWorkerOptions;
  readonly #watermark = new Watermark();
  readonly #lanes: Lanes<Task>;
  readonly #decoder: RecordDecoder;
  /** Aborts the reading when the lease ends or the shard is to be given away. */
  readonly #reading = new AbortController();
  /** Aborts the handlers when the lease ends or their time to finish is over. */
  readonly #handling = new AbortController();
  readonly #sources = new Set<Source>();
  #state: ShardState = 'waiting';
  #reason = 'just taken';
  #since: number;
  #trouble: string | undefined;
  #handlerTrouble: string | undefined;
  #millisBehindLatest: number | undefined;
  #droppedRecords = 0;
  #duplicateRecords = 0;
  readonly #duplicates: DuplicateFilter;

  constructor(held: HeldLease, options: ShardWorkerOptions) {
    this.#held = held;
    this.#options = options;
    this.#since = options.clock.now();
    this.#decoder = new RecordDecoder({
      onDamage: options.onDamage,
      rangeCheck: options.rangeCheck,
      maxRawBytes: options.maxRawBytes,
      ...(held.lease.hashRange && { hashRange: held.lease.hashRange }),
      onDropped: (count) => (this.#droppedRecords += count),
    });
    this.#duplicates = new DuplicateFilter(options.duplicateWindowRecords);
    this.#lanes = new Lanes(
      options.concurrency,
      options.handler.processBatch ? options.maxBatchRecords : 1,
      (tasks) => this.#handle(tasks),
    );
    held.signal.addEventListener('abort', () => {
      this.#reading.abort(held.signal.reason);
      this.#handling.abort(held.signal.reason);
    });
  }

  get status(): ShardStatus {
    return {
      shardId: this.#shardId,
      state: this.#state,
      reason: this.#handlerTrouble ?? this.#trouble ?? this.#reason,
      since: this.#since,
      position: this.#watermark.position ?? this.#held.lease.checkpoint,
      millisBehindLatest: this.#millisBehindLatest,
      pendingRecords: this.#watermark.openCount,
      droppedRecords: this.#droppedRecords,
      duplicateRecords: this.#duplicateRecords,
    };
  }

  /** Resolves when no handler runs for the shard; that can be after {@link run}, if one hangs. */
  handlersDone(): Promise<void> {
    return this.#lanes.idle();
  }

  /** Stops reading, finishes what was begun, stores the position and gives the shard away. */
  drain(reason: string): void {
    if (this.#reading.signal.aborted) return;
    this.#enter('draining', reason);
    this.#reading.abort(new Error(reason));
  }

  /**
   * Does all that is to be done for the shard. Resolves when the lease has ended; never rejects.
   *
   * @param previous - Settles when handlers of an earlier ownership of the shard are done.
   */
  async run(previous: Promise<void>): Promise<void> {
    const checkpoints = this.#checkpointRegularly();
    try {
      await this.#waitForParents(previous);
      const children = await this.#readAll();
      if (children) await this.#endShard(children);
      else await this.#giveAway();
    } catch {
      // What went wrong is in the state; if the lease is still there, it expires.
      this.#held.abandon();
    }
    if (this.#state !== 'finished' && this.#state !== 'released') {
      this.#enter('lost', 'the lease is not ours any more');
    }
    this.#lanes.stop();
    this.#reading.abort();
    for (const source of this.#sources) this.#options.budget.release(source.bytes);
    this.#sources.clear();
    await checkpoints;
  }

  get #shardId(): string {
    return this.#held.leaseKey;
  }

  async #waitForParents(previous: Promise<void>): Promise<void> {
    const { store, clock } = this.#options;
    const stop = this.#reading.signal;
    this.#enter('waiting', 'a handler of an earlier ownership still runs');
    await Promise.race([previous, aborted(stop)]);
    for (const parentId of this.#held.lease.parentShardIds) {
      while (!stop.aborted) {
        const parent = await store.get(parentId).catch(() => 'unknown' as const);
        if (parent === undefined || (parent !== 'unknown' && isFinished(parent))) break;
        this.#enter('waiting', `parent ${parentId} is not finished`);
        await pause(clock, PARENT_POLL_MS, stop);
      }
    }
  }

  /** Reads until the shard ends; undefined if it is to be given away before. */
  async #readAll(): Promise<readonly ChildShard[] | undefined> {
    const { clock, random } = this.#options;
    const stop = this.#reading.signal;
    for (let failures = 0; !stop.aborted; failures += 1) {
      this.#enter('processing', 'reading');
      try {
        return await this.#readOnce();
      } catch (error) {
        if (stop.aborted) break;
        // Such as a record that cannot be decoded: nothing is skipped, it is read again.
        this.#trouble = isShardlineError(error) ? error.code : awsErrorName(error);
        await Promise.race([this.#lanes.idle(), aborted(stop)]);
        await pause(clock, fullJitterMs(RESTART_BACKOFF, failures, random), stop);
      }
    }
    return undefined;
  }

  async #readOnce(): Promise<readonly ChildShard[] | undefined> {
    const { fetcher, initialTimestamp } = this.#options;
    const from = this.#watermark.position ?? this.#held.lease.checkpoint;
    const stop = this.#reading.signal;
    // What is read again after a failure is no copy.
    this.#duplicates.clear();
    const batches = fetcher.fetch(
      this.#shardId,
      { position: from, timestamp: initialTimestamp },
      stop,
      (trouble) => (this.#trouble = trouble),
    );
    for await (const batch of batches) {
      await this.#accept(batch, from);
      if (batch.childShards) return batch.childShards;
    }
    return undefined;
  }

  /** Decodes a batch and hands its records to the lanes, once there is room for it. */
  async #accept(batch: FetchedBatch, from: Position): Promise<void> {
    const { budget } = this.#options;
    this.#millisBehindLatest = batch.millisBehindLatest;
    this.#trouble = undefined;
    if (batch.records.length === 0) return;
    const bytes = Math.min(bytesOf(batch), budget.capacityBytes);
    await budget.acquire(bytes, this.#reading.signal);
    const source: Source = { bytes, millisBehindLatest: batch.millisBehindLatest, remaining: 1 };
    this.#sources.add(source);
    try {
      for (const record of batch.records) this.#begin(record, from, source);
    } finally {
      this.#finishOne(source);
    }
  }

  /** Hands the user records of one Kinesis record to the lanes, but those that were handled before. */
  #begin(kinesisRecord: KinesisRecord, from: Position, source: Source): void {
    const isResuming = isConcrete(from);
    const records: UserRecord[] = [];
    this.#decoder.decodeInto(kinesisRecord, records);
    for (const record of records) {
      if (isResuming && comparePositions(record, from) <= 0) continue;
      if (this.#duplicates.isCopy(record.origin)) {
        this.#duplicateRecords += 1;
        continue;
      }
      source.remaining += 1;
      const { sequenceNumber, subSequenceNumber } = record;
      const ticket = this.#watermark.begin({ sequenceNumber, subSequenceNumber });
      this.#lanes.push(record.partitionKey ?? '', { record, ticket, source });
    }
  }

  /** Calls the handler until it succeeds, the records are given up by policy, or the shard is gone. */
  async #handle(tasks: readonly Task[]): Promise<void> {
    const { clock, random, maxAttempts, deadLetter } = this.#options;
    const signal = this.#handling.signal;
    const records = tasks.map(({ record }) => record);
    for (let attempt = 1; this.#held.isValid && !signal.aborted; attempt += 1) {
      const context = this.#context(tasks, attempt);
      try {
        try {
          await this.#call(records, context);
        } catch (error) {
          publishDiagnostics('shardline:consumer:handler-failure', () => ({
            shardId: this.#shardId,
            attempt,
            error,
          }));
          if (!deadLetter || maxAttempts === 0 || attempt < maxAttempts || signal.aborted)
            throw error;
          await deadLetter(records, error, context);
        }
        this.#handlerTrouble = undefined;
        for (const { ticket, source } of tasks) {
          this.#watermark.finish(ticket);
          this.#finishOne(source);
        }
        return;
      } catch {
        this.#handlerTrouble = `the handler failed, attempt ${attempt}`;
        const delayMs = fullJitterMs(HANDLER_BACKOFF, attempt - 1, random);
        await pause(clock, delayMs, signal);
      }
    }
  }

  #context(tasks: readonly Task[], attempt: number): HandlerContext {
    const held = this.#held;
    const { signal } = this.#handling;
    return {
      shardId: this.#shardId,
      // Looked at anew each time: after a stall the timer that would abort it may not have fired yet.
      get signal() {
        return held.isValid ? signal : held.signal;
      },
      fencingToken: held.fencingToken,
      attempt,
      millisBehindLatest: tasks[0]?.source.millisBehindLatest ?? 0,
    };
  }

  async #call(records: readonly UserRecord[], context: HandlerContext): Promise<void> {
    const { handler } = this.#options;
    if (handler.processBatch) await handler.processBatch(records, context);
    else await handler.processRecord(records[0] as UserRecord, context);
  }

  #finishOne(source: Source): void {
    source.remaining -= 1;
    if (source.remaining === 0 && this.#sources.delete(source)) {
      this.#options.budget.release(source.bytes);
    }
  }

  async #checkpointRegularly(): Promise<void> {
    const { clock, checkpointIntervalMs } = this.#options;
    while (!this.#held.signal.aborted) {
      await pause(clock, checkpointIntervalMs, this.#held.signal);
      // A store that cannot be reached is asked again next time; a lost lease ends all this.
      await this.#storePosition().catch(() => {});
    }
  }

  async #storePosition(): Promise<void> {
    const { position } = this.#watermark;
    if (position) await this.#held.checkpoint(position);
  }

  /** The end of a shard that was read to its end. Its children exist before it is finished. */
  async #endShard(children: readonly ChildShard[]): Promise<void> {
    const { store } = this.#options;
    // A drain may come now, too: then they have as long as any others.
    this.#enter('ending', 'the last records are being handled');
    await Promise.race([this.#lanes.idle(), aborted(this.#reading.signal)]);
    if (this.#watermark.openCount > 0) {
      await this.#giveAway();
      return;
    }
    const parentIds = new Set(children.flatMap(({ parentShardIds }) => parentShardIds));
    for (const parentId of parentIds) await this.#waitUntilLeased(parentId);
    for (const lease of childLeases(children)) await this.#persistently(() => store.create(lease));
    await this.#persistently(() =>
      store.setChildren(
        this.#shardId,
        children.map(({ shardId }) => shardId),
      ),
    );
    await this.#persistently(() =>
      this.#held.checkpoint({ sequenceNumber: 'SHARD_END', subSequenceNumber: 0 }),
    );
    await this.#held.release().catch(() => {});
    this.#held.finish();
    this.#enter('finished', 'all its records are handled');
  }

  /**
   * Waits until the other parent of a merge has a lease, too. Until then an ancestor of it is being
   * read, and the child must not take its absence for having been finished and removed.
   */
  async #waitUntilLeased(parentId: string): Promise<void> {
    const { store, clock } = this.#options;
    while (!(await this.#persistently(() => store.get(parentId)))) {
      this.#enter('ending', `the other parent of its child, ${parentId}, has no lease yet`);
      await sleep(clock, PARENT_POLL_MS, this.#held.signal);
    }
  }

  /** Finishes what was begun, within its time, and lets another worker go on from there. */
  async #giveAway(): Promise<void> {
    const { clock, drainTimeoutMs } = this.#options;
    const timer = clock.schedule(drainTimeoutMs, () => {
      this.#handling.abort(new Error(`handlers did not finish within ${drainTimeoutMs} ms`));
    });
    await Promise.race([this.#lanes.idle(), aborted(this.#handling.signal)]);
    timer.cancel();
    this.#lanes.stop();
    if (this.#handling.signal.aborted) {
      this.#enter('draining', 'a handler does not heed its signal');
    }
    // However long it takes: the next owner must not begin while a handler of ours runs.
    await Promise.race([this.#lanes.idle(), aborted(this.#held.signal)]);
    await this.#storePosition();
    await this.#held.release();
    this.#enter('released', 'given away');
  }

  /** Tries again while the store cannot be reached and the lease is ours. */
  async #persistently<Result>(call: () => Promise<Result>): Promise<Result> {
    const { clock, random } = this.#options;
    for (let failures = 0; ; failures += 1) {
      try {
        return await call();
      } catch (error) {
        if (!this.#held.isValid || isShardlineError(error, 'LEASE_LOST')) throw error;
        this.#trouble = `the lease store failed: ${awsErrorName(error)}`;
        await sleep(clock, fullJitterMs(RESTART_BACKOFF, failures, random), this.#held.signal);
      }
    }
  }

  #enter(state: ShardState, reason: string): void {
    if (this.#state === state && this.#reason === reason) return;
    if (state === 'processing' && this.#reading.signal.aborted) return;
    if (this.#state !== state) this.#since = this.#options.clock.now();
    this.#state = state;
    this.#reason = reason;
    publishDiagnostics('shardline:consumer:shard-state', () => ({
      workerId: this.#options.workerId,
      shardId: this.#shardId,
      state,
      reason,
    }));
  }
}

/** Resolves when the signal aborts. */
function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
