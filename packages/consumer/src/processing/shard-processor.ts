import {
  type ByteBudget,
  CHECKSUM_LANES,
  comparePositions,
  isShardlineError,
  type KinesisRecord,
  nextTurn,
  type Position,
  type RangeCheck,
  RecordDecoder,
  type UserRecord,
} from '@shardline/shared';

import { bytesOf, type FetchedBatch, reachedAt } from '../fetch/fetcher.js';
import { type HeldLease, isConcrete } from '../lease/held-lease.js';
import type { PendingCheckpoint, Progress } from '../lease/lease.js';
import { CallContext, type CalledShard } from './call-context.js';
import {
  Delivery,
  type DeliveryOptions,
  type RecordTask,
  type Source,
  type Task,
} from './delivery.js';
import { DuplicateFilter } from './duplicate-filter.js';
import { encodeFinished, FinishedAbove } from './finished-above.js';
import type { HandlerLimit } from './handler-limit.js';
import type { HandlerContext, PreparedCheckpoint } from './handler.js';
import { Lanes } from './lanes.js';
import type { ReadBound } from './read-bound.js';
import { decodeWindow, encodeWindow } from './tumbling-window.js';
import { positionOf, type Ticket, Watermark } from './watermark.js';

export interface ProcessorOptions extends DeliveryOptions {
  readonly streamName: string;
  readonly filter: ((record: UserRecord) => boolean) | undefined;
  readonly bound: ReadBound | undefined;
  readonly budget: ByteBudget;
  readonly handlerLimit: HandlerLimit;
  readonly concurrency: number;
  readonly maxBatchRecords: number;
  readonly maxBatchBytes: number;
  readonly batchWindowMs: number;
  readonly duplicateWindowRecords: number;
  readonly maxRawBytes: number;
  readonly rangeCheck: RangeCheck;
}

/** What became of a shard's records so far. */
export interface ProcessorCounts {
  /** Handled, or given to the dead letter. */
  readonly handledRecords: number;
  /** Dropped because another shard owns their hash keys. */
  readonly droppedRecords: number;
  /** Second copies, dropped because their producer marked them. */
  readonly duplicateRecords: number;
  /** Passed over because `filter` said so. */
  readonly filteredRecords: number;
  /** Passed over because a former owner had handled them ahead of its checkpoint. */
  readonly rememberedRecords: number;
  readonly deadLetteredRecords: number;
}

/** More would not fit the row anyway. */
const MAX_FINISHED_POSITIONS = 2_000;
/** User records that are begun before others get a turn: a millisecond or two. */
const RECORDS_PER_TURN = 1_000;
/** So much is begun in a turn of its own: what came in with it took a part of this one. */
const LARGE_BYTES = 2 ** 16;

/**
 * What happens to the records of one owned shard between reading and checkpointing: decoded, filtered,
 * handled in lanes by key, and counted as done in order. Knows nothing of reading.
 */
export class ShardProcessor {
  readonly #counts = {
    handledRecords: 0,
    droppedRecords: 0,
    duplicateRecords: 0,
    filteredRecords: 0,
    rememberedRecords: 0,
  };
  readonly #held: HeldLease;
  readonly #options: ProcessorOptions;
  readonly #called: CalledShard;
  readonly #onFinished: (records: number) => void;
  readonly #watermark = new Watermark();
  readonly #delivery: Delivery;
  readonly #lanes: Lanes<Task>;
  readonly #decoder: RecordDecoder;
  readonly #duplicates: DuplicateFilter;
  readonly #finishedAbove: FinishedAbove;
  readonly #sources = new Set<Source>();
  /** The last record that was looked at. */
  #lastBegun: Position | undefined;
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
    this.#called = {
      streamName: options.streamName,
      held,
      signal,
      checkpoint: (tickets) => this.#checkpoint(tickets),
      prepareCheckpoint: (tickets, state) => this.#prepare(tickets, state),
    };
    this.#onFinished = onFinished;
    const { hashRange, checkpoint, finishedAbove, windowState } = held.lease;
    this.#decoder = new RecordDecoder({
      onDamage: options.onDamage === 'deadLetter' ? 'raw' : options.onDamage,
      rangeCheck: options.rangeCheck,
      maxRawBytes: options.maxRawBytes,
      ...(hashRange && { hashRange }),
      onDropped: (count) => (this.#counts.droppedRecords += count),
    });
    this.#duplicates = new DuplicateFilter(options.duplicateWindowRecords);
    this.#finishedAbove = new FinishedAbove(finishedAbove);
    this.#delivery = new Delivery(
      options,
      {
        shardId: held.lease.shardId,
        isOurs: () => held.isValid,
        signal,
        contextOf: (tasks, attempt) => this.#context(tasks, attempt),
        onDone: (tasks) => this.#finish(tasks),
      },
      decodeWindow(windowState, checkpoint),
    );
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
      (task) => (task.kind === 'record' ? task.record.data.length : 0),
      (tasks) => this.#delivery.deliver(tasks),
    );
  }

  get counts(): ProcessorCounts {
    return { ...this.#counts, deadLetteredRecords: this.#delivery.deadLetteredRecords };
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
    return this.#delivery.trouble;
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
    if (this.#options.tumblingWindowMs > 0) this.#lanes.push('', { kind: 'time', nowMs: Infinity });
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
        await this.#beginAll(batch.records, doneThrough, source);
      } finally {
        this.#finishOne(source);
      }
    }
    if (tumblingWindowMs > 0) {
      this.#lanes.push('', { kind: 'time', nowMs: reachedAt(batch, clock) });
    }
    // The end of a shard is no bound: what its children hold may lie inside.
    if (!batch.childShards && bound?.isReachedAt(batch)) {
      this.#isBoundReached = true;
    }
  }

  /**
   * Goes through what was read, and lets handlers run and finish every so often: an answer can hold a
   * hundred thousand user records, which nobody should wait for, and which should not all exist at once.
   * Goes on when reading is to stop: where to read on is known behind a batch, not within one.
   */
  async #beginAll(
    records: readonly KinesisRecord[],
    doneThrough: Position | undefined,
    source: Source,
  ): Promise<void> {
    let inThisTurn = source.bytes < LARGE_BYTES ? 0 : RECORDS_PER_TURN;
    for (let from = 0; from < records.length; from += CHECKSUM_LANES) {
      const part = records.slice(from, from + CHECKSUM_LANES);
      this.#decoder.checkAhead(part);
      for (const record of part) {
        if (inThisTurn >= RECORDS_PER_TURN) {
          await nextTurn();
          inThisTurn = 0;
        }
        inThisTurn += this.#begin(record, doneThrough, source);
      }
    }
  }

  /**
   * Hands the user records of one Kinesis record to the lanes, but those that need no handling.
   *
   * @returns How many user records it has.
   */
  #begin(kinesisRecord: KinesisRecord, doneThrough: Position | undefined, source: Source): number {
    const { filter, bound } = this.#options;
    const records = this.#decode(kinesisRecord);
    for (const record of records) {
      if (doneThrough && comparePositions(record, doneThrough) <= 0) continue;
      if (this.#isBoundReached) break;
      if (this.#finishedAbove.has(record)) {
        this.#counts.rememberedRecords += 1;
      } else if (this.#duplicates.isCopy(record.origin)) {
        this.#counts.duplicateRecords += 1;
      } else if (filter && record.damage === undefined && !filter(record)) {
        this.#counts.filteredRecords += 1;
      } else if (bound && !bound.admits(record)) {
        this.#lastBegun = positionOf(record);
        this.#isBoundReached = true;
        break;
      } else {
        source.remaining += 1;
        const ticket = this.#watermark.begin(record);
        this.#lastBegun = ticket;
        this.#lanes.push(record.partitionKey ?? '', { kind: 'record', record, ticket, source });
        continue;
      }
      this.#lastBegun = positionOf(record);
      this.#watermark.skipTo(record);
    }
    return records.length;
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

  #context(tasks: readonly RecordTask[], attempt: number): HandlerContext {
    const last = tasks.at(-1);
    const position = last
      ? positionOf(last.ticket)
      : (this.#watermark.position ?? this.#held.lease.checkpoint);
    return new CallContext(this.#called, tasks, position, attempt);
  }

  async #checkpoint(tickets: readonly Ticket[]): Promise<Position | undefined> {
    const position = this.#watermark.positionWith(tickets);
    if (position) await this.#held.checkpoint(this.#progressAt(position));
    return position;
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
      windowState: this.#delivery.window && encodeWindow(this.#delivery.window, checkpoint),
    };
  }

  #finish(tasks: readonly RecordTask[]): void {
    for (const { ticket, source } of tasks) {
      this.#watermark.finish(ticket);
      this.#finishOne(source);
    }
    this.#counts.handledRecords += tasks.length;
    if (tasks.length > 0) this.#onFinished(tasks.length);
  }

  #finishOne(source: Source): void {
    source.remaining -= 1;
    if (source.remaining === 0 && this.#sources.delete(source)) {
      this.#options.budget.release(source.bytes);
    }
  }
}
