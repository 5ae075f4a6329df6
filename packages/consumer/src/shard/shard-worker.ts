import { setMaxListeners } from 'node:events';

import {
  awsErrorName,
  type Clock,
  fullJitterMs,
  isShardlineError,
  pause,
  type Position,
  publishDiagnostics,
  type Random,
  sleep,
} from '@shardline/shared';

import { bytesOf, type ChildShard, type Fetcher, type StartingPoint } from '../fetch/fetcher.js';
import { type HeldLease, isConcrete } from '../lease/held-lease.js';
import type { LeaseStore } from '../lease/lease-store.js';
import { isFinished, leaseKeyOf, progressAt, type SeekTarget } from '../lease/lease.js';
import type { StartedShard } from '../processing/handler.js';
import {
  type ProcessorCounts,
  type ProcessorOptions,
  ShardProcessor,
} from '../processing/shard-processor.js';
import { childLeases } from './shard-sync.js';
import { ThroughputMeter } from './throughput-meter.js';

/** What a shard that this worker owns is doing. */
export type ShardState =
  /** Its parents are not finished, or a handler of ours still runs from an earlier ownership. */
  | 'waiting'
  /** It is read and its records are handled. */
  | 'processing'
  /** Somebody paused it: it is not read, and no handler begins. */
  | 'paused'
  /** It goes on at another position, once what runs is finished. */
  | 'seeking'
  /** A bounded read has come to its bound. */
  | 'bounded'
  /** It is not read any more; what was begun is finished, then it is given away. */
  | 'draining'
  /** Its end was reached; what was begun is finished, then its children may start. */
  | 'ending'
  | 'finished'
  | 'released'
  | 'lost';

export interface ShardStatus extends ProcessorCounts {
  readonly shardId: string;
  readonly streamName: string;
  readonly state: ShardState;
  /** Why it is in that state, or what stands in its way. */
  readonly reason: string;
  /** Since when, epoch milliseconds. */
  readonly since: number;
  /** Up to where all records are handled. */
  readonly position: Position;
  /** As the last read told; undefined before the first. */
  readonly millisBehindLatest: number | undefined;
  /** Records read and not yet handled. */
  readonly pendingRecords: number;
}

export interface ShardWorkerOptions extends ProcessorOptions {
  readonly workerId: string;
  readonly store: Pick<LeaseStore, 'get' | 'create' | 'setChildren'>;
  readonly fetcher: Fetcher;
  /** Where AT_TIMESTAMP is, unless the lease says so. */
  readonly initialTimestampMs: number | undefined;
  readonly checkpointing: 'auto' | 'manual';
  readonly checkpointIntervalMs: number;
  /** 0 leaves it to the interval. */
  readonly checkpointRecords: number;
  readonly drainTimeoutMs: number;
  readonly clock: Clock;
  readonly random: Random;
}

const PARENT_POLL_MS = 1_000;
const RESTART_BACKOFF = { baseMs: 500, capMs: 30_000 };
/** An event may stand where no record does: behind every user record of its sequence number. */
const BEHIND_ALL = 2 ** 31 - 1;

/** One owned shard, from the lease to its end: read, handle, checkpoint, and let go. */
export class ShardWorker {
  readonly #held: HeldLease;
  readonly #options: ShardWorkerOptions;
  /** Aborts the reading when the lease ends or the shard is to be given away. */
  readonly #reading = new AbortController();
  /** Aborts the handlers when the lease ends or their time to finish is over. */
  readonly #handling = new AbortController();
  /** Aborts this turn of reading: something else is to be done first. */
  #turn = new AbortController();
  #processor: ShardProcessor;
  /** Done when no handler runs of an earlier ownership, or of before a seek. */
  #former: Promise<void> = Promise.resolve();
  readonly #throughput: ThroughputMeter;
  #state: ShardState = 'waiting';
  #reason = 'just taken';
  #since: number;
  #trouble: string | undefined;
  #isPaused = false;
  #drainTimeoutMs: number;
  #seekTarget: SeekTarget | undefined;
  #soughtAtCounter = 0;
  #millisBehindLatest: number | undefined;
  #finishedSinceStored = 0;
  #storing: Promise<void> | undefined;

  constructor(held: HeldLease, options: ShardWorkerOptions) {
    this.#held = held;
    this.#options = options;
    this.#since = options.clock.now();
    this.#drainTimeoutMs = options.drainTimeoutMs;
    this.#throughput = new ThroughputMeter(options.clock, held.lease.throughputKBps);
    this.#processor = this.#newProcessor();
    this.#seekTarget = held.lease.seek;
    // Handlers listen to it, as many as run at a time, and may forget to stop listening.
    setMaxListeners(0, this.#handling.signal, held.signal);
    held.signal.addEventListener('abort', () => {
      this.#reading.abort(held.signal.reason);
      this.#handling.abort(held.signal.reason);
    });
    this.#reading.signal.addEventListener('abort', () => this.#turn.abort());
  }

  get status(): ShardStatus {
    const { counts, position, openCount, trouble } = this.#processor;
    return {
      ...counts,
      shardId: this.#shardId,
      streamName: this.#options.streamName,
      state: this.#state,
      reason: trouble ?? this.#trouble ?? this.#reason,
      since: this.#since,
      position: position ?? this.#held.lease.checkpoint,
      millisBehindLatest: this.#millisBehindLatest,
      pendingRecords: openCount,
    };
  }

  /** Resolves when no handler runs for the shard; that can be after {@link run}, if one hangs. */
  async handlersDone(): Promise<void> {
    await Promise.all([this.#former, this.#processor.idle()]);
  }

  /**
   * Stops reading, finishes what was begun, stores the position and gives the shard away.
   *
   * @param timeoutMs - How long handlers may take.
   */
  drain(reason: string, timeoutMs: number = this.#options.drainTimeoutMs): void {
    if (this.#reading.signal.aborted) return;
    this.#drainTimeoutMs = timeoutMs;
    this.#enter('draining', reason);
    this.#reading.abort(new Error(reason));
  }

  /** True once it is to be given away, or its lease has ended. */
  get isDraining(): boolean {
    return this.#reading.signal.aborted;
  }

  /** Reads nothing and begins no handler until {@link resume}. What runs is finished. */
  pause(): void {
    this.#isPaused = true;
    this.#processor.pause();
    this.#turn.abort();
  }

  resume(): void {
    this.#isPaused = false;
    this.#processor.resume();
    this.#turn.abort();
  }

  /**
   * Goes on elsewhere, once what runs is finished.
   *
   * @param leaseCounter - Of the lease when the target was seen in it: an old listing may hold one that
   * was followed already.
   */
  seek(target: SeekTarget, leaseCounter: number): void {
    if (this.#seekTarget || leaseCounter < this.#soughtAtCounter) return;
    this.#seekTarget = target;
    this.#turn.abort();
  }

  /**
   * Does all that is to be done for the shard. Resolves when the lease has ended; never rejects.
   *
   * @param previous - Settles when handlers of an earlier ownership of the shard are done.
   */
  async run(previous: Promise<void>): Promise<void> {
    const checkpoints = this.#checkpointRegularly();
    this.#former = previous;
    try {
      this.#enter('waiting', 'a handler of an earlier ownership still runs');
      await Promise.race([previous, aborted(this.#reading.signal)]);
      while (!(await this.#lead())) await this.#applySeek();
    } catch {
      // What went wrong is in the state; if the lease is still there, it expires.
      this.#held.abandon();
    }
    if (this.#state !== 'finished' && this.#state !== 'released') {
      this.#enter('lost', 'the lease is not ours any more');
    }
    this.#reading.abort();
    this.#processor.stop();
    await checkpoints;
  }

  get #shardId(): string {
    return this.#held.lease.shardId;
  }

  /** The key of the lease of another shard of the stream. */
  #keyOf(shardId: string): string {
    return leaseKeyOf(this.#held.lease.streamId, shardId);
  }

  #newProcessor(): ShardProcessor {
    return new ShardProcessor(this.#held, this.#options, this.#handling.signal, (records) =>
      this.#onFinished(records),
    );
  }

  /** Reads the shard to its end or until it is given away. False if it is to go on elsewhere before. */
  async #lead(): Promise<boolean> {
    if (this.#seekTarget) return false;
    await this.#waitForParents();
    if (!this.#reading.signal.aborted) await this.#tellStarted();
    const children = await this.#readAll();
    if (this.#seekTarget && !this.#reading.signal.aborted) return false;
    if (!children) {
      await this.#giveAway();
      return true;
    }
    return this.#endShard(children);
  }

  async #waitForParents(): Promise<void> {
    const { store, clock } = this.#options;
    const stop = this.#reading.signal;
    for (const parentId of this.#held.lease.parentShardIds) {
      while (!stop.aborted && !this.#seekTarget) {
        const parent = await store.get(this.#keyOf(parentId)).catch(() => 'unknown' as const);
        if (parent === undefined || (parent !== 'unknown' && isFinished(parent))) break;
        this.#enter('waiting', `parent ${parentId} is not finished`);
        await pause(clock, PARENT_POLL_MS, stop);
      }
    }
  }

  async #tellStarted(): Promise<void> {
    const { handler } = this.#options;
    if (!handler.shardStarted) return;
    const shard: StartedShard = {
      ...this.#shardForHooks(),
      pendingCheckpoint: this.#held.lease.pendingCheckpoint,
    };
    await this.#untilHookSucceeds('shardStarted', () => handler.shardStarted?.(shard));
  }

  #shardForHooks(): Omit<StartedShard, 'pendingCheckpoint'> {
    return {
      streamName: this.#options.streamName,
      shardId: this.#shardId,
      position: this.#processor.position ?? this.#held.lease.checkpoint,
      fencingToken: this.#held.fencingToken,
      signal: this.#handling.signal,
    };
  }

  /** Calls a hook until it succeeds or the shard is to be given away. */
  async #untilHookSucceeds(name: string, call: () => Promise<void> | void): Promise<boolean> {
    const { clock, random } = this.#options;
    for (let failures = 0; !this.#reading.signal.aborted; failures += 1) {
      try {
        await call();
        this.#trouble = undefined;
        return true;
      } catch {
        this.#trouble = `${name} failed, attempt ${failures + 1}`;
        const delayMs = fullJitterMs(RESTART_BACKOFF, failures, random);
        await pause(clock, delayMs, this.#reading.signal);
      }
    }
    return false;
  }

  /** Reads until the shard ends; undefined if it is to be given away, or to go on elsewhere, before. */
  async #readAll(): Promise<readonly ChildShard[] | undefined> {
    let from = this.#startingPoint();
    let doneThrough = this.#doneThrough();
    /** Failures in a row; after one, what was begun is finished and reading begins behind it. */
    let failures = 0;
    let isBroken = false;
    while (!this.#reading.signal.aborted && !this.#seekTarget) {
      const turn = this.#newTurn();
      if (this.#isPaused || this.#processor.isBoundReached) {
        if (this.#isPaused) this.#enter('paused', 'paused by the application');
        else this.#enter('bounded', 'everything inside the bound was read');
        await aborted(turn);
        continue;
      }
      this.#enter('processing', 'reading');
      if (isBroken) {
        if (!(await this.#recover(failures, turn))) continue;
        isBroken = false;
        from = this.#startingPoint();
        doneThrough = this.#doneThrough();
      }
      const { fetcher } = this.#options;
      try {
        const batches = fetcher.fetch(this.#shardId, from, turn, (what) => (this.#trouble = what));
        for await (const batch of batches) {
          this.#millisBehindLatest = batch.millisBehindLatest;
          this.#held.measure(this.#throughput.add(bytesOf(batch)));
          this.#trouble = undefined;
          await this.#processor.accept(batch, doneThrough, turn);
          failures = 0;
          from = batch.resume;
          await this.#pin(from);
          if (this.#processor.isBoundReached) break;
          if (batch.childShards) return batch.childShards;
        }
      } catch (error) {
        // Waiting for room was given up: nothing of the batch was begun.
        if (turn.aborted && !isShardlineError(error)) continue;
        isBroken = true;
        failures += 1;
        this.#trouble = isShardlineError(error) ? error.code : awsErrorName(error);
        // Somebody else may be nearer to the service.
        if (isShardlineError(error, 'SERVICE_UNAVAILABLE')) this.drain(error.message);
      }
    }
    return undefined;
  }

  /**
   * After something such as a record that cannot be decoded: waits until all that was begun is done,
   * and a while. Nothing is skipped: what follows is read again.
   *
   * @returns False if something else is to be done before.
   */
  async #recover(failures: number, turn: AbortSignal): Promise<boolean> {
    const { clock, random } = this.#options;
    await Promise.race([this.#processor.idle(), aborted(turn)]);
    if (!(await pause(clock, fullJitterMs(RESTART_BACKOFF, failures - 1, random), turn)))
      return false;
    this.#processor.forgetCopies();
    return true;
  }

  /** Where to read from: what is handled, or what the lease says. */
  #startingPoint(): StartingPoint {
    const { checkpoint, startAtMs } = this.#held.lease;
    const position = this.#processor.position ?? checkpoint;
    const { sequenceNumber } = position;
    const isPinned = sequenceNumber === 'LATEST' && startAtMs !== undefined;
    if (sequenceNumber !== 'AT_TIMESTAMP' && !isPinned) {
      return { position, timestampMs: undefined, isAfter: false };
    }
    return {
      position: { sequenceNumber: 'AT_TIMESTAMP', subSequenceNumber: 0 },
      timestampMs: startAtMs ?? this.#options.initialTimestampMs,
      isAfter: false,
    };
  }

  #doneThrough(): Position | undefined {
    const position = this.#processor.position ?? this.#held.lease.checkpoint;
    return isConcrete(position) ? position : undefined;
  }

  /** Makes a place of LATEST as soon as there is one, so that a next owner begins there and loses nothing. */
  async #pin({ position, timestampMs }: StartingPoint): Promise<void> {
    const { lease } = this.#held;
    const isUnpinned =
      lease.checkpoint.sequenceNumber === 'LATEST' && lease.startAtMs === undefined;
    if (!isUnpinned || this.#processor.position) return;
    try {
      if (timestampMs !== undefined) {
        await this.#held.checkpoint({ ...lease, startAtMs: timestampMs });
      } else if (isConcrete(position)) {
        this.#processor.skipTo({ ...position, subSequenceNumber: BEHIND_ALL });
        await this.#held.checkpoint(this.#processor.progress);
      }
    } catch {
      // The next batch tries again; a lost lease ends all this.
    }
  }

  /** Stops what was begun, moves the position, and begins anew. */
  async #applySeek(): Promise<void> {
    const { position, timestampMs } = this.#seekTarget as SeekTarget;
    this.#enter('seeking', 'what runs is finished first');
    const former = this.#processor;
    former.stop();
    await Promise.race([former.idle(), aborted(this.#held.signal)]);
    this.#former = Promise.all([this.#former, former.idle()]).then(() => {});
    await this.#persistently(() => this.#held.seek(progressAt(position, timestampMs)));
    this.#soughtAtCounter = this.#held.lease.leaseCounter;
    this.#seekTarget = undefined;
    this.#millisBehindLatest = undefined;
    this.#processor = this.#newProcessor();
    if (this.#isPaused) this.#processor.pause();
  }

  #onFinished(records: number): void {
    const { checkpointing, checkpointRecords } = this.#options;
    this.#finishedSinceStored += records;
    if (checkpointing === 'manual' || checkpointRecords === 0) return;
    if (this.#finishedSinceStored >= checkpointRecords) void this.#storeProgress().catch(() => {});
  }

  async #checkpointRegularly(): Promise<void> {
    const { clock, checkpointIntervalMs, checkpointing } = this.#options;
    if (checkpointing === 'manual') return;
    while (!this.#held.signal.aborted) {
      await pause(clock, checkpointIntervalMs, this.#held.signal);
      // A store that cannot be reached is asked again next time; a lost lease ends all this.
      await this.#storeProgress().catch(() => {});
    }
  }

  /** Stores how far it is; one at a time, whoever asks. */
  #storeProgress(): Promise<void> {
    // A seek is under way: what was handled before it says nothing of after it.
    if (this.#state === 'seeking') return Promise.resolve();
    this.#finishedSinceStored = 0;
    this.#storing ??= this.#held.checkpoint(this.#processor.progress).finally(() => {
      this.#storing = undefined;
    });
    return this.#storing;
  }

  /**
   * The end of a shard that was read to its end. Its children exist before it is finished.
   *
   * @returns False if the shard is to be read elsewhere again.
   */
  async #endShard(children: readonly ChildShard[]): Promise<boolean> {
    const { store, handler } = this.#options;
    // A drain may come now, too: then they have as long as any others.
    this.#enter('ending', 'the last records are being handled');
    this.#processor.flush();
    this.#processor.endWindow();
    for (let turn = this.#newTurn(); ; turn = this.#newTurn()) {
      await Promise.race([this.#processor.idle(), aborted(turn)]);
      if (this.#seekTarget && !this.#reading.signal.aborted) return false;
      if (!turn.aborted || this.#reading.signal.aborted) break;
    }
    if (this.#processor.openCount > 0 || this.#reading.signal.aborted) {
      await this.#giveAway();
      return true;
    }
    const isTold = await this.#untilHookSucceeds('shardEnded', () =>
      handler.shardEnded?.(this.#shardForHooks()),
    );
    if (!isTold) {
      await this.#giveAway();
      return true;
    }
    const parentIds = new Set(children.flatMap(({ parentShardIds }) => parentShardIds));
    for (const parentId of parentIds) await this.#waitUntilLeased(parentId);
    for (const lease of childLeases(children, this.#held.lease))
      await this.#persistently(() => store.create(lease));
    await this.#persistently(() =>
      store.setChildren(
        this.#held.leaseKey,
        children.map(({ shardId }) => shardId),
      ),
    );
    await this.#persistently(() =>
      this.#held.checkpoint(progressAt({ sequenceNumber: 'SHARD_END', subSequenceNumber: 0 })),
    );
    await this.#persistently(() => this.#held.release()).catch(() => {});
    this.#held.finish();
    this.#enter('finished', 'all its records are handled');
    return true;
  }

  /**
   * Waits until the other parent of a merge has a lease, too. Until then an ancestor of it is being
   * read, and the child must not take its absence for having been finished and removed.
   */
  async #waitUntilLeased(parentId: string): Promise<void> {
    const { store, clock } = this.#options;
    while (!(await this.#persistently(() => store.get(this.#keyOf(parentId))))) {
      this.#enter('ending', `the other parent of its child, ${parentId}, has no lease yet`);
      await sleep(clock, PARENT_POLL_MS, this.#held.signal);
    }
  }

  /** Finishes what was begun, within its time, and lets another worker go on from there. */
  async #giveAway(): Promise<void> {
    const { clock, checkpointing } = this.#options;
    const drainTimeoutMs = this.#drainTimeoutMs;
    const timer = clock.schedule(drainTimeoutMs, () => {
      this.#handling.abort(new Error(`handlers did not finish within ${drainTimeoutMs} ms`));
    });
    if (this.#isPaused) this.#processor.stop();
    this.#processor.flush();
    await Promise.race([this.#processor.idle(), aborted(this.#handling.signal)]);
    timer.cancel();
    this.#processor.stop();
    if (this.#handling.signal.aborted) {
      this.#enter('draining', 'a handler does not heed its signal');
    }
    // However long it takes: the next owner must not begin while a handler of ours runs.
    await Promise.race([this.handlersDone(), aborted(this.#held.signal)]);
    if (checkpointing === 'auto') {
      await this.#storing?.catch(() => {});
      await this.#persistently(() => this.#held.checkpoint(this.#processor.progress));
    }
    await this.#persistently(() => this.#held.release());
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

  /** A signal for what is done now: it aborts when anything else is to be done first. */
  #newTurn(): AbortSignal {
    if (this.#turn.signal.aborted) this.#turn = new AbortController();
    if (this.#reading.signal.aborted) this.#turn.abort();
    return this.#turn.signal;
  }

  #enter(state: ShardState, reason: string): void {
    if (this.#state === state && this.#reason === reason) return;
    if (DURING_READING.has(state) && this.#reading.signal.aborted) return;
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

const DURING_READING: ReadonlySet<ShardState> = new Set(['processing', 'paused', 'bounded']);

/** Resolves when the signal aborts. */
function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
