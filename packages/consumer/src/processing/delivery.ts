import {
  type Clock,
  type DamagePolicy,
  fullJitterMs,
  pause,
  publishDiagnostics,
  type Random,
  ShardlineError,
  type UserRecord,
} from '@shardline/shared';

import { type FailurePolicy, handledOf, judgeFailure } from './failure-policy.js';
import type { DeadLetter, HandlerContext, PartialBatch, RecordHandler } from './handler.js';
import {
  encodeWindow,
  type OpenWindow,
  sliceByWindow,
  type WindowCall,
} from './tumbling-window.js';
import type { Ticket } from './watermark.js';

export interface DeliveryOptions extends FailurePolicy {
  readonly handler: RecordHandler<unknown>;
  readonly deserialize: ((record: UserRecord) => unknown) | undefined;
  readonly deadLetter: DeadLetter | undefined;
  /** 0 is none. */
  readonly tumblingWindowMs: number;
  readonly onDamage: DamagePolicy | 'deadLetter';
  readonly clock: Clock;
  readonly random: Random;
}

/** A record on its way to the handler, or the news that time has passed. */
export type Task =
  | {
      readonly kind: 'record';
      readonly record: UserRecord;
      readonly ticket: Ticket;
      readonly source: Source;
    }
  | { readonly kind: 'time'; readonly nowMs: number };

export type RecordTask = Extract<Task, { kind: 'record' }>;

/** One batch that was read; its bytes are given back when its last record is done. */
export interface Source {
  readonly bytes: number;
  readonly millisBehindLatest: number;
  remaining: number;
}

type Called = PartialBatch | undefined | void;

/** Calls the handler with some records. What it returns at once is not waited for: a promise costs more. */
type Call = (tasks: readonly RecordTask[], context: HandlerContext) => Promise<Called> | Called;

/** What a delivery needs of the shard it is for. */
export interface DeliveredShard {
  readonly shardId: string;
  /** False from the moment at which nothing more may be done for it. */
  readonly isOurs: () => boolean;
  /** Aborts when handlers must stop. */
  readonly signal: AbortSignal;
  readonly contextOf: (tasks: readonly RecordTask[], attempt: number) => HandlerContext;
  /** Told which records are dealt with. */
  readonly onDone: (tasks: readonly RecordTask[]) => void;
}

const HANDLER_BACKOFF = { baseMs: 200, capMs: 30_000 };

/**
 * Calls the handler with what a lane has taken until every record is handled or given up by policy.
 * Knows nothing of reading, nor of positions.
 */
export class Delivery {
  /** Given to the dead letter. */
  deadLetteredRecords = 0;
  /** The tumbling window that is open, as of what is dealt with. */
  window: OpenWindow | undefined;
  /** What the handler fails on, if it does. */
  trouble: string | undefined;
  readonly #options: DeliveryOptions;
  readonly #shard: DeliveredShard;

  constructor(options: DeliveryOptions, shard: DeliveredShard, window: OpenWindow | undefined) {
    this.#options = options;
    this.#shard = shard;
    this.window = window;
  }

  /** What a lane does with what it took: some calls, one after the other, until all is dealt with. */
  deliver(tasks: readonly Task[]): Promise<unknown> {
    if (this.#options.tumblingWindowMs > 0) return this.#deliverWindows(tasks);
    // Without windows nobody tells the time.
    const records = tasks as readonly RecordTask[];
    return records.some((task) => this.#isDead(task))
      ? this.#deliverRuns(records)
      : this.#settle(records, this.#callHandler);
  }

  async #deliverRuns(tasks: readonly RecordTask[]): Promise<void> {
    for (const run of this.#runs(tasks)) {
      const call = this.#isDead(run[0] as RecordTask) ? this.#bury : this.#callHandler;
      if (!(await this.#settle(run, call))) return;
    }
  }

  /** Cuts out damaged records that go to the dead letter, each alone. */
  *#runs(tasks: readonly RecordTask[]): Generator<readonly RecordTask[]> {
    let from = 0;
    for (let at = 0; at < tasks.length; at += 1) {
      const task = tasks[at] as RecordTask;
      if (!this.#isDead(task)) continue;
      if (at > from) yield tasks.slice(from, at);
      yield [task];
      from = at + 1;
    }
    if (from < tasks.length) yield tasks.slice(from);
  }

  /** True for a damaged record that goes to the dead letter. */
  #isDead({ record }: RecordTask): boolean {
    const { deadLetter, onDamage } = this.#options;
    return record.damage !== undefined && onDamage === 'deadLetter' && deadLetter !== undefined;
  }

  readonly #callHandler: Call = (tasks, context) => {
    if (this.#options.deserialize) {
      return this.#items(tasks).then((items) => this.#callWith(items, context));
    }
    const records = tasks.map(({ record }) => record);
    return this.#callWith(records, context);
  };

  #callWith(items: readonly unknown[], context: HandlerContext): ReturnType<Call> {
    const { handler } = this.#options;
    return handler.processBatch
      ? handler.processBatch(items, context)
      : handler.processRecord?.(items[0], context);
  }

  /** Gives a damaged record to the dead letter. */
  readonly #bury: Call = async (tasks, context) => {
    const record = tasks[0]?.record as UserRecord;
    const { sequenceNumber, damage } = record;
    await this.#options.deadLetter?.(
      [record],
      new ShardlineError(
        'DAMAGED_RECORD',
        `the record at sequence number ${sequenceNumber} is damaged (${damage})`,
        { value: sequenceNumber },
      ),
      context,
    );
    this.deadLetteredRecords += 1;
  };

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
    const { clock, random, handler } = this.#options;
    // What a handler of single records returns means nothing.
    const takesBatches = handler.processBatch !== undefined;
    const parts = [tasks];
    let failures = 0;
    for (let part = parts.pop(); part && part.length > 0; part = parts.pop()) {
      for (let attempt = 1; part && part.length > 0; attempt += 1) {
        if (!this.#isOurs) return false;
        const context = this.#shard.contextOf(part, attempt);
        let error: unknown;
        try {
          const called = call(part, context);
          const answer = isPromise(called) ? await called : called;
          const handled = handledOf(takesBatches ? answer : undefined, part.length);
          this.#shard.onDone(part.slice(0, handled));
          if (handled === part.length) {
            this.trouble = undefined;
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
        this.trouble = `the handler failed, attempt ${attempt}`;
        if (split !== undefined) {
          parts.push(part.slice(split));
          part = part.slice(0, split);
          attempt = 0;
        }
        await pause(clock, fullJitterMs(HANDLER_BACKOFF, failures, random), this.#shard.signal);
        failures += 1;
      }
    }
    return true;
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
    if (verdict.kind === 'retry' || !deadLetter || this.#shard.signal.aborted) return undefined;
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
    this.deadLetteredRecords += part.length;
    this.trouble = undefined;
    this.#shard.onDone(part);
    return 'settled';
  }

  #publishFailure(attempt: number, error: unknown): void {
    publishDiagnostics('shardline:consumer:handler-failure', () => ({
      shardId: this.#shard.shardId,
      attempt,
      error,
    }));
  }

  async #deliverWindows(tasks: readonly Task[]): Promise<void> {
    const { tumblingWindowMs: windowMs } = this.#options;
    const records = tasks.filter((task) => task.kind === 'record');
    const arrivals = records.map(({ record }) => record.arrivedAt ?? 0);
    for (const { startAt, from, to } of sliceByWindow(arrivals, windowMs, this.window?.startAt)) {
      if (this.window && startAt > this.window.startAt && !(await this.#endOpenWindow())) return;
      for (const run of this.#runs(records.slice(from, to))) {
        const call: Call = async (part, context) => {
          const state = await this.#callWindow(part, startAt, false, context);
          this.window = { startAt, state };
        };
        const isSettled = await this.#settle(
          run,
          this.#isDead(run[0] as RecordTask) ? this.#bury : call,
        );
        if (!isSettled) return;
      }
    }
    for (const task of tasks) {
      const endAt = (this.window?.startAt ?? Infinity) + windowMs;
      if (task.kind === 'time' && endAt <= task.nowMs) await this.#endOpenWindow();
    }
  }

  /** The last call of the open window, until it succeeds. False if the shard is gone before that. */
  async #endOpenWindow(): Promise<boolean> {
    const { clock, random } = this.#options;
    const { startAt } = this.window as OpenWindow;
    for (let attempt = 1; this.#isOurs; attempt += 1) {
      try {
        await this.#callWindow([], startAt, true, this.#shard.contextOf([], attempt));
        this.window = undefined;
        this.trouble = undefined;
        return true;
      } catch (error) {
        this.#publishFailure(attempt, error);
        this.trouble = `the handler failed at the end of a window, attempt ${attempt}`;
        await pause(clock, fullJitterMs(HANDLER_BACKOFF, attempt - 1, random), this.#shard.signal);
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
    const open = this.window?.startAt === startAt ? this.window : undefined;
    const window: WindowCall = {
      startAt,
      endAt: startAt + tumblingWindowMs,
      state: structuredClone(open?.state),
      isFinal,
    };
    const state = await handler.processWindow?.(await this.#items(tasks), window, context);
    // Refused while the records are still the handler's: a state that cannot be kept must not be lost.
    if (!isFinal) encodeWindow({ startAt, state }, context.position);
    return state;
  }

  get #isOurs(): boolean {
    return this.#shard.isOurs() && !this.#shard.signal.aborted;
  }
}

/** Of any library: what is not waited for would count as handled. */
function isPromise<Result>(value: Promise<Result> | Result): value is Promise<Result> {
  return typeof (value as Partial<PromiseLike<Result>> | undefined)?.then === 'function';
}
