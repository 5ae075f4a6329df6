import {
  type ByteBudget,
  type Clock,
  comparePositions,
  type DamagePolicy,
  fullJitterMs,
  isShardlineError,
  type KinesisRecord,
  pause,
  type Position,
  publishDiagnostics,
  type Random,
  type RangeCheck,
  RecordDecoder,
  ShardlineError,
  type UserRecord,
} from '@shardline/shared';

import { bytesOf, type FetchedBatch } from '../fetch/fetcher.js';
import { type HeldLease, isConcrete } from '../lease/held-lease.js';
import type { PendingCheckpoint, Progress } from '../lease/lease.js';
import { DuplicateFilter } from './duplicate-filter.js';
import { type FailurePolicy, judgeFailure } from './failure-policy.js';
import { encodeFinished, FinishedAbove } from './finished-above.js';
import type { HandlerLimit } from './handler-limit.js';
import type {
  DeadLetter,
  HandlerContext,
  PartialBatch,
  PreparedCheckpoint,
  RecordHandler,
} from './handler.js';
import { Lanes } from './lanes.js';
import type { ReadBound } from './read-bound.js';
import {
  decodeWindow,
  encodeWindow,
  type OpenWindow,
  sliceByWindow,
  type WindowCall,
} from './tumbling-window.js';
import { type Ticket, Watermark } from './watermark.js';

export interface ProcessorOptions extends FailurePolicy {
  readonly handler: RecordHandler<unknown>;
  readonly deserialize: ((record: UserRecord) => unknown) | undefined;
  readonly filter: ((record: UserRecord) => boolean) | undefined;
  readonly deadLetter: DeadLetter | undefined;
  readonly bound: ReadBound | undefined;
  readonly budget: ByteBudget;
  readonly handlerLimit: HandlerLimit;
  readonly concurrency: number;
  readonly maxBatchRecords: number;
  readonly maxBatchBytes: number;
  readonly batchWindowMs: number;
  /** 0 is none. */
  readonly tumblingWindowMs: number;
  readonly duplicateWindowRecords: number;
  readonly maxRawBytes: number;
  readonly onDamage: DamagePolicy | 'deadLetter';
  readonly rangeCheck: RangeCheck;
  readonly clock: Clock;
  readonly random: Random;
}

/** What became of a shard's records so far. */
export interface ProcessorCounts {
  /** Handled, or given to the dead letter. */
  handledRecords: number;
  /** Dropped because another shard owns their hash keys. */
  droppedRecords: number;
  /** Second copies, dropped because their producer marked them. */
  duplicateRecords: number;
  /** Passed over because `filter` said so. */
  filteredRecords: number;
  /** Passed over because a former owner had handled them ahead of its checkpoint. */
  rememberedRecords: number;
  deadLetteredRecords: number;
}

/** A record on its way to the handler, or the news that time has passed. */
type Task =
  | {
      readonly kind: 'record';
      readonly record: UserRecord;
      readonly ticket: Ticket;
      readonly source: Source;
    }
  | { readonly kind: 'time'; readonly nowMs: number };

type RecordTask = Extract<Task, { kind: 'record' }>;

/** One batch that was read; its bytes are given back when its last record is done. */
interface Source {
  readonly bytes: number;
  readonly millisBehindLatest: number;
  remaining: number;
}

/** Calls the handler with some records. */
type Call = (
  tasks: readonly RecordTask[],
  context: HandlerContext,
) => Promise<PartialBatch | undefined>;

const HANDLER_BACKOFF = { baseMs: 200, capMs: 30_000 };
/** More would not fit the row anyway. */
const MAX_FINISHED_POSITIONS = 2_000;

/**
 * What happens to the records of one owned shard between reading and checkpointing: decoded, filtered,
 * handled in lanes by key, and counted as done in order. Knows nothing of reading.
 */
export class ShardProcessor {
  readonly counts: ProcessorCounts = {
    handledRecords: 0,
    droppedRecords: 0,
    duplicateRecords: 0,
    filteredRecords: 0,
    rememberedRecords: 0,
    deadLetteredRecords: 0,
  };
  readonly #held: HeldLease;
  readonly #options: ProcessorOptions;
  readonly #signal: AbortSignal;
  readonly #onFinished: (records: number) => void;
  readonly #watermark = new Watermark();
  readonly #lanes: Lanes<Task>;
  readonly #decoder: RecordDecoder;
  readonly #duplicates: DuplicateFilter;
  readonly #finishedAbove: FinishedAbove;
  readonly #sources = new Set<Source>();
  /** The last record that was looked at. */
  #lastBegun: Position | undefined;
  #window: OpenWindow | undefined;
  #trouble: string | undefined;
  #isBoundReached = false;

  /**
   * @param signal - Aborts when handlers must stop.
   * @param onFinished - Told how many records are newly done.
   */
  constructor(
    held: HeldLease,
    options: ProcessorOptions,
    signal: AbortSignal,
    onFinished: (records: number) => void,
  ) {
    this.#held = held;
    this.#options = options;
    this.#signal = signal;
    this.#onFinished = onFinished;
    const { hashRange, checkpoint, finishedAbove, windowState } = held.lease;
    this.#decoder = new RecordDecoder({
      onDamage: options.onDamage === 'deadLetter' ? 'raw' : options.onDamage,
      rangeCheck: options.rangeCheck,
      maxRawBytes: options.maxRawBytes,
      ...(hashRange && { hashRange }),
      onDropped: (count) => (this.counts.droppedRecords += count),
    });
    this.#duplicates = new DuplicateFilter(options.duplicateWindowRecords);
    this.#finishedAbove = new FinishedAbove(finishedAbove);
    this.#window = decodeWindow(windowState, checkpoint);
    const takesBatches = options.handler.processRecord === undefined;
    this.#lanes = new Lanes<Task>(
      {
        laneCount: options.concurrency,
        maxItems: takesBatches ? options.maxBatchRecords : 1,
        maxBytes: options.maxBatchBytes,
        windowMs: takesBatches ? options.batchWindowMs : 0,
        limit: options.handlerLimit,
        clock: options.clock,
      },
      (tasks) => this.#deliver(tasks),
    );
  }

  /** Up to where all records are handled; undefined while that is where the lease says. */
  get position(): Position | undefined {
    return this.#watermark.position;
  }

  /** Records read and not yet handled. */
  get openCount(): number {
    return this.#watermark.openCount;
  }

  /** What the handler fails on, if it does. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** True if a bounded read has nothing more to read here. */
  get isBoundReached(): boolean {
    return this.#isBoundReached;
  }

  /** What to store of how far the shard is. */
  get progress(): Progress {
    return this.#progressAt(this.#watermark.position ?? this.#held.lease.checkpoint);
  }

  /** Resolves when no handler runs and none waits. */
  idle(): Promise<void> {
    return this.#lanes.idle();
  }

  pause(): void {
    this.#lanes.pause();
  }

  resume(): void {
    this.#lanes.resume();
  }

  /** From now on no handler waits for a fuller batch. */
  flush(): void {
    this.#lanes.flush();
  }

  /** Tells an open window that no record of it can come any more. */
  endWindow(): void {
    if (this.#options.tumblingWindowMs > 0)
      this.#lanes.push('', { kind: 'time', nowMs: Infinity }, 0);
  }

  /** Begins no handler more, and gives back the bytes of what was read. */
  stop(): void {
    this.#lanes.stop();
    for (const source of this.#sources) this.#options.budget.release(source.bytes);
    this.#sources.clear();
  }

  /** Reading begins anew, at records that were given before maybe: they are no copies. */
  forgetCopies(): void {
    this.#duplicates.clear();
  }

  /** The reader stands at a concrete position, although it has read nothing yet. */
  skipTo(position: Position): void {
    this.#watermark.skipTo(position);
  }

  /**
   * Decodes a batch and hands its records to the lanes, once there is room for it.
   *
   * @param doneThrough - Records up to here were handled before.
   * @throws `signal.reason`; what decoding threw.
   */
  async accept(
    batch: FetchedBatch,
    doneThrough: Position | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { budget, bound, clock, tumblingWindowMs } = this.#options;
    if (batch.records.length > 0) {
      const bytes = Math.min(bytesOf(batch), budget.capacityBytes);
      if (!budget.tryAcquire(bytes)) {
        // What waits for a fuller batch holds bytes that are needed now.
        this.#lanes.flush();
        await budget.acquire(bytes, signal);
        this.#lanes.fill();
      }
      const source: Source = { bytes, millisBehindLatest: batch.millisBehindLatest, remaining: 1 };
      this.#sources.add(source);
      try {
        for (const record of batch.records) this.#begin(record, doneThrough, source);
      } finally {
        this.#finishOne(source);
      }
    }
    if (tumblingWindowMs > 0) {
      const nowMs = clock.now() - batch.millisBehindLatest;
      this.#lanes.push('', { kind: 'time', nowMs }, 0);
    }
    // The end of a shard is no bound: what its children hold may lie inside.
    if (!batch.childShards && bound?.isReachedAt(batch.millisBehindLatest)) {
      this.#isBoundReached = true;
    }
  }

  /** Hands the user records of one Kinesis record to the lanes, but those that need no handling. */
  #begin(kinesisRecord: KinesisRecord, doneThrough: Position | undefined, source: Source): void {
    const { filter, bound } = this.#options;
    for (const record of this.#decode(kinesisRecord)) {
      if (doneThrough && comparePositions(record, doneThrough) <= 0) continue;
      const { sequenceNumber, subSequenceNumber } = record;
      const position = { sequenceNumber, subSequenceNumber };
      if (this.#isBoundReached) return;
      this.#lastBegun = position;
      if (this.#finishedAbove.has(position)) {
        this.counts.rememberedRecords += 1;
      } else if (this.#duplicates.isCopy(record.origin)) {
        this.counts.duplicateRecords += 1;
      } else if (filter && record.damage === undefined && !filter(record)) {
        this.counts.filteredRecords += 1;
      } else if (bound && !bound.admits(record)) {
        this.#isBoundReached = true;
        return;
      } else {
        source.remaining += 1;
        const ticket = this.#watermark.begin(position);
        this.#lanes.push(
          record.partitionKey ?? '',
          { kind: 'record', record, ticket, source },
          record.data.length,
        );
        continue;
      }
      this.#watermark.skipTo(position);
    }
  }

  #decode(record: KinesisRecord): readonly UserRecord[] {
    const records: UserRecord[] = [];
    try {
      this.#decoder.decodeInto(record, records);
    } catch (error) {
      if (this.#options.onDamage !== 'deadLetter' || !isShardlineError(error)) throw error;
      // Whole, sealed and unreadable here: the dead letter gets it as it came.
      records.push({
        partitionKey: record.PartitionKey,
        explicitHashKey: undefined,
        data: Buffer.from(record.Data ?? []),
        sequenceNumber: record.SequenceNumber ?? '',
        subSequenceNumber: 0,
        isAggregated: false,
        arrivedAt: record.ApproximateArrivalTimestamp?.getTime(),
        origin: undefined,
        damage: 'envelope',
      });
    }
    return records;
  }

  /** What a lane does with what it took: some calls, one after the other, until all is dealt with. */
  async #deliver(tasks: readonly Task[]): Promise<void> {
    const { tumblingWindowMs } = this.#options;
    if (tumblingWindowMs > 0) {
      await this.#deliverWindows(tasks);
      return;
    }
    for (const run of this.#runs(tasks.filter((task) => task.kind === 'record'))) {
      if (!(await this.#settle(run, (part, context) => this.#call(part, context)))) return;
    }
  }

  /** Cuts out damaged records that go to the dead letter, each alone. */
  *#runs(tasks: readonly RecordTask[]): Generator<readonly RecordTask[]> {
    const isDead = (task: RecordTask): boolean =>
      this.#options.onDamage === 'deadLetter' && task.record.damage !== undefined;
    if (!tasks.some(isDead)) {
      yield tasks;
      return;
    }
    let from = 0;
    for (let at = 0; at < tasks.length; at += 1) {
      const task = tasks[at] as RecordTask;
      if (!isDead(task)) continue;
      if (at > from) yield tasks.slice(from, at);
      yield [task];
      from = at + 1;
    }
    if (from < tasks.length) yield tasks.slice(from);
  }

  async #call(
    tasks: readonly RecordTask[],
    context: HandlerContext,
  ): Promise<PartialBatch | undefined> {
    const { handler } = this.#options;
    if (await this.#isBuried(tasks, context)) return undefined;
    const items = await this.#items(tasks);
    if (handler.processBatch) return (await handler.processBatch(items, context)) ?? undefined;
    if (handler.processRecord) await handler.processRecord(items[0], context);
    return undefined;
  }

  /** Gives a damaged record to the dead letter, if that is the policy. */
  async #isBuried(tasks: readonly RecordTask[], context: HandlerContext): Promise<boolean> {
    const { deadLetter, onDamage } = this.#options;
    const record = tasks[0]?.record;
    if (onDamage !== 'deadLetter' || record?.damage === undefined || !deadLetter) return false;
    const { sequenceNumber, damage } = record;
    await deadLetter(
      [record],
      new ShardlineError(
        'DAMAGED_RECORD',
        `the record at sequence number ${sequenceNumber} is damaged (${damage})`,
        { value: sequenceNumber },
      ),
      context,
    );
    this.counts.deadLetteredRecords += 1;
    return true;
  }

  async #items(tasks: readonly RecordTask[]): Promise<readonly unknown[]> {
    const { deserialize } = this.#options;
    if (!deserialize) return tasks.map(({ record }) => record);
    const items: unknown[] = [];
    for (const { record } of tasks) items.push(await deserialize(record));
    return items;
  }

  /**
   * Calls until every record is handled or given up by policy.
   *
   * @returns False if the shard is gone before that.
   */
  async #settle(tasks: readonly RecordTask[], call: Call): Promise<boolean> {
    const { clock, random } = this.#options;
    const parts = [tasks];
    let failures = 0;
    for (let part = parts.pop(); part && part.length > 0; part = parts.pop()) {
      for (let attempt = 1; part && part.length > 0; attempt += 1) {
        if (!this.#held.isValid || this.#signal.aborted) return false;
        const context = this.#context(part, attempt);
        let error: unknown;
        try {
          const partial = await call(part, context);
          const handled = this.#handledOf(part, partial);
          this.#finish(part.slice(0, handled));
          if (handled === part.length) {
            this.#trouble = undefined;
            break;
          }
          if (handled > 0) attempt = 0;
          part = part.slice(handled);
          error = new ShardlineError('BATCH_INCOMPLETE', 'the handler left a part of its batch', {
            retryable: true,
          });
        } catch (thrown) {
          error = thrown;
          this.#publishFailure(attempt, thrown);
        }
        const split = await this.#afterFailure(part, attempt, error, context);
        if (split === 'settled') break;
        this.#trouble = `the handler failed, attempt ${attempt}`;
        if (split !== undefined) {
          parts.push(part.slice(split));
          part = part.slice(0, split);
          attempt = 0;
        }
        await pause(clock, fullJitterMs(HANDLER_BACKOFF, failures, random), this.#signal);
        failures += 1;
      }
    }
    return true;
  }

  /** How many of a batch the handler says it has dealt with. */
  #handledOf(part: readonly RecordTask[], partial: PartialBatch | undefined): number {
    if (partial === undefined) return part.length;
    const { retryFrom } = partial;
    if (Number.isInteger(retryFrom) && retryFrom >= 0 && retryFrom <= part.length) return retryFrom;
    throw new ShardlineError(
      'INVALID_OPTION',
      `\`retryFrom\` must be an integer from 0 to ${part.length} records, got ${String(retryFrom)}`,
      { value: String(retryFrom), limit: `0 to ${part.length}`, unit: 'records' },
    );
  }

  /** Where to split the batch; undefined to try it as it is; `'settled'` if it was given up. */
  async #afterFailure(
    part: readonly RecordTask[],
    attempt: number,
    error: unknown,
    context: HandlerContext,
  ): Promise<number | undefined | 'settled'> {
    const { clock, deadLetter, handler } = this.#options;
    const youngest = Math.max(...part.map(({ record }) => record.arrivedAt ?? Infinity));
    const verdict = judgeFailure(
      { attempt, items: part.length, ageMs: clock.now() - youngest },
      // A window's state would not know of a half of it.
      handler.processWindow ? { ...this.#options, bisectBatches: false } : this.#options,
    );
    if (verdict.kind === 'split') return verdict.at;
    if (verdict.kind === 'retry' || !deadLetter || this.#signal.aborted) return undefined;
    try {
      await deadLetter(
        part.map(({ record }) => record),
        error,
        context,
      );
    } catch (thrown) {
      this.#publishFailure(attempt, thrown);
      return undefined;
    }
    this.counts.deadLetteredRecords += part.length;
    this.#trouble = undefined;
    this.#finish(part);
    return 'settled';
  }

  #publishFailure(attempt: number, error: unknown): void {
    publishDiagnostics('shardline:consumer:handler-failure', () => ({
      shardId: this.#held.leaseKey,
      attempt,
      error,
    }));
  }

  async #deliverWindows(tasks: readonly Task[]): Promise<void> {
    const { tumblingWindowMs: windowMs } = this.#options;
    const records = tasks.filter((task) => task.kind === 'record');
    const arrivals = records.map(({ record }) => record.arrivedAt ?? 0);
    for (const { startAt, from, to } of sliceByWindow(arrivals, windowMs, this.#window?.startAt)) {
      if (this.#window && startAt > this.#window.startAt && !(await this.#endOpenWindow())) return;
      const slice = records.slice(from, to);
      const isSettled = await this.#settle(slice, async (part, context) => {
        if (await this.#isBuried(part, context)) return undefined;
        const state = await this.#callWindow(part, startAt, false, context);
        this.#window = { startAt, state };
        return undefined;
      });
      if (!isSettled) return;
    }
    for (const task of tasks) {
      const endAt = (this.#window?.startAt ?? Infinity) + windowMs;
      if (task.kind === 'time' && endAt <= task.nowMs) await this.#endOpenWindow();
    }
  }

  /** The last call of the open window, until it succeeds. False if the shard is gone before that. */
  async #endOpenWindow(): Promise<boolean> {
    const { clock, random } = this.#options;
    const { startAt } = this.#window as OpenWindow;
    for (let attempt = 1; this.#held.isValid && !this.#signal.aborted; attempt += 1) {
      try {
        await this.#callWindow([], startAt, true, this.#context([], attempt));
        this.#window = undefined;
        this.#trouble = undefined;
        return true;
      } catch (error) {
        this.#publishFailure(attempt, error);
        this.#trouble = `the handler failed at the end of a window, attempt ${attempt}`;
        await pause(clock, fullJitterMs(HANDLER_BACKOFF, attempt - 1, random), this.#signal);
      }
    }
    return false;
  }

  async #callWindow(
    tasks: readonly RecordTask[],
    startAt: number,
    isFinal: boolean,
    context: HandlerContext,
  ): Promise<unknown> {
    const { handler, tumblingWindowMs } = this.#options;
    const open = this.#window?.startAt === startAt ? this.#window : undefined;
    const window: WindowCall = {
      startAt,
      endAt: startAt + tumblingWindowMs,
      state: structuredClone(open?.state),
      isFinal,
    };
    const state = await handler.processWindow?.(await this.#items(tasks), window, context);
    // Refused while the records are still the handler's: a state that cannot be kept must not be lost.
    if (!isFinal) encodeWindow({ startAt, state }, this.#held.lease.checkpoint);
    return state;
  }

  #context(tasks: readonly RecordTask[], attempt: number): HandlerContext {
    const held = this.#held;
    const signal = this.#signal;
    const last = tasks.at(-1);
    const tickets = tasks.map(({ ticket }) => ticket);
    return {
      shardId: held.leaseKey,
      position: last?.ticket.position ?? this.#watermark.position ?? held.lease.checkpoint,
      get records() {
        return tasks.map(({ record }) => record);
      },
      // Looked at anew each time: after a stall the timer that would abort it may not have fired yet.
      get signal() {
        return held.isValid ? signal : held.signal;
      },
      fencingToken: held.fencingToken,
      attempt,
      millisBehindLatest: last?.source.millisBehindLatest ?? 0,
      checkpoint: async () => {
        const position = this.#watermark.positionWith(tickets);
        if (position) await held.checkpoint(this.#progressAt(position));
        return position;
      },
      prepareCheckpoint: (state) => this.#prepare(tickets, state),
    };
  }

  async #prepare(
    tickets: readonly Ticket[],
    state: Uint8Array | undefined,
  ): Promise<PreparedCheckpoint | undefined> {
    const held = this.#held;
    const position = this.#watermark.positionWith(tickets);
    if (!position) return undefined;
    const pendingCheckpoint: PendingCheckpoint = { position, state };
    await held.checkpoint({ ...held.lease, pendingCheckpoint });
    return { position, commit: () => held.checkpoint(this.#progressAt(position)) };
  }

  #progressAt(checkpoint: Position): Progress {
    const { lease } = this.#held;
    const isWhereItWas = comparePositions(checkpoint, lease.checkpoint) === 0;
    return {
      checkpoint,
      startAtMs: isConcrete(checkpoint) ? undefined : lease.startAtMs,
      pendingCheckpoint: isWhereItWas ? lease.pendingCheckpoint : undefined,
      finishedAbove: encodeFinished([
        ...this.#watermark.finishedAbove(MAX_FINISHED_POSITIONS),
        // What a former owner had handled further on, and this one has not come to yet.
        ...this.#finishedAbove.after(this.#lastBegun),
      ]),
      windowState: this.#window && encodeWindow(this.#window, checkpoint),
    };
  }

  #finish(tasks: readonly RecordTask[]): void {
    for (const { ticket, source } of tasks) {
      this.#watermark.finish(ticket);
      this.#finishOne(source);
    }
    this.counts.handledRecords += tasks.length;
    if (tasks.length > 0) this.#onFinished(tasks.length);
  }

  #finishOne(source: Source): void {
    source.remaining -= 1;
    if (source.remaining === 0 && this.#sources.delete(source)) {
      this.#options.budget.release(source.bytes);
    }
  }
}
