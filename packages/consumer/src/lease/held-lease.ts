import {
  type Clock,
  comparePositions,
  isSentinel,
  type Position,
  publishDiagnostics,
  ShardlineError,
  type Timer,
} from '@shardline/shared';

import type { LeaseStore } from './lease-store.js';
import { isSameProgress, type Lease, type LeaseLayout, type Progress } from './lease.js';

export interface HeldLeaseOptions {
  readonly store: LeaseStore;
  readonly clock: Clock;
  readonly workerId: string;
  /** How long others wait before they take it. Unit: milliseconds. */
  readonly failoverMs: number;
}

/** @param handOverMs - How long handlers may take, if whoever asked said so. */
type HandOverListener = (nextOwner: string, handOverMs: number | undefined) => void;

/**
 * The owner stops this share of the failover time before others may take the lease: their clocks may
 * run faster than ours, and what runs needs a moment to notice.
 */
const SAFETY_RATIO = 0.1;
/** A difference in throughput that nobody would move a lease for. Unit: KiB a second. */
const LEAST_NEWS_KBPS = 16;

/**
 * A lease this worker owns. Writes to it go one after the other; it ends when it is lost, given away
 * or released, and at the latest when others may think that we are dead.
 */
export class HeldLease {
  /** Aborts when the lease ends, whatever the reason. */
  readonly signal: AbortSignal;
  /** Grows with every owner of the shard: lets a store that a handler writes to refuse a former owner. */
  readonly fencingToken: number;
  readonly #options: HeldLeaseOptions;
  readonly #controller = new AbortController();
  #lease: Lease;
  #throughputKBps: number | undefined;
  #validUntilMs = 0;
  #timer: Timer | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #onHandOverRequested: HandOverListener = () => {};

  /**
   * @param sentMs - When it was last told to others that its owner lives, on the monotonic clock: by the
   * request that made it ours, or by its worker's heartbeat.
   */
  constructor(lease: Lease, sentMs: number, options: HeldLeaseOptions) {
    this.#lease = lease;
    this.#options = options;
    this.signal = this.#controller.signal;
    this.fencingToken = lease.leaseCounter;
    this.#extendTo(sentMs);
  }

  get lease(): Lease {
    return this.#lease;
  }

  get leaseKey(): string {
    return this.#lease.leaseKey;
  }

  /** False from the moment at which another worker might own it; does not wait for a timer to say so. */
  get isValid(): boolean {
    if (this.signal.aborted) return false;
    if (this.#options.clock.monotonicMs() < this.#validUntilMs) return true;
    this.#end('lost');
    return false;
  }

  /**
   * Takes note that its worker is known to live: where one heartbeat stands for all leases.
   *
   * @param sentMs - When the heartbeat was sent, on the monotonic clock.
   */
  confirm(sentMs: number): void {
    if (this.#lease.layout === 'native' && this.isValid) this.#extendTo(sentMs);
  }

  /** Takes note of what was handled of the shard, in KiB a second, to be stored with the next write. */
  measure(throughputKBps: number | undefined): void {
    this.#throughputKBps = throughputKBps;
  }

  /** True if what was measured differs so much from what stands in the row that it is worth a write. */
  get isThroughputNews(): boolean {
    const { throughputKBps: stored = 0 } = this.#lease;
    const measured = this.#throughputKBps ?? stored;
    const [less, more] = [Math.min(stored, measured), Math.max(stored, measured)];
    return more - less >= LEAST_NEWS_KBPS && more > 1.5 * less;
  }

  /**
   * Keeps the row in another layout from now on.
   *
   * @param heartbeatSentMs - When its worker last told that it lives, for the layout in which that counts.
   */
  convert(layout: LeaseLayout, heartbeatSentMs: number): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#lease.layout === layout) return;
      const { store, workerId, clock } = this.#options;
      const sentMs = clock.monotonicMs();
      const lease = await store.convert(this.#lease, workerId, layout);
      if (!lease) {
        await this.#renewOnce();
        return;
      }
      this.#use(lease);
      this.#extendTo(layout === 'native' ? heartbeatSentMs : sentMs);
    });
  }

  /** Calls `listener` when another worker asks for the lease, once. */
  onHandOverRequested(listener: HandOverListener): void {
    this.#onHandOverRequested = listener;
    this.#tellHandOver();
  }

  /** Tells others that we live. Throws what the store threw if it could not be reached. */
  renew(): Promise<void> {
    return this.#exclusive(() => this.#renewOnce());
  }

  async #renewOnce(): Promise<void> {
    const { store, workerId, clock } = this.#options;
    for (let isAsked = false; ; isAsked = true) {
      const sentMs = clock.monotonicMs();
      const renewal = await store.renew(this.#lease, workerId, this.#throughputKBps);
      if (renewal.kind === 'lost') {
        this.#end('lost');
        return;
      }
      this.#use(renewal.lease);
      if (renewal.kind === 'renewed') {
        this.#extend(sentMs);
        return;
      }
      // Somebody asks for it; it is renewed in spite of that, once.
      if (isAsked) return;
    }
  }

  /**
   * Stores how far we are; what is behind the stored position, or says nothing new, is passed over.
   *
   * @throws ShardlineError `LEASE_LOST`; what the store threw.
   */
  checkpoint(progress: Progress): Promise<void> {
    return this.#exclusive(async () => {
      if (comparePositions(progress.checkpoint, this.#lease.checkpoint) < 0) return;
      if (isSameProgress(progress, this.#lease)) return;
      await this.#store(progress, 'checkpoint');
    });
  }

  /**
   * Moves the position anywhere, back too. Nothing of ours may run for it.
   *
   * @throws ShardlineError `LEASE_LOST`; what the store threw.
   */
  seek(progress: Progress): Promise<void> {
    return this.#exclusive(() => this.#store(progress, 'seek'));
  }

  async #store(progress: Progress, how: 'checkpoint' | 'seek'): Promise<void> {
    const { store, workerId, clock } = this.#options;
    const sentMs = clock.monotonicMs();
    const lease = await store[how](this.#lease, workerId, progress, this.#throughputKBps);
    if (!lease) {
      this.#end('lost');
      throw lost(this.leaseKey);
    }
    this.#use(lease);
    this.#extend(sentMs);
    publishDiagnostics('shardline:consumer:checkpoint', () => ({
      leaseKey: this.leaseKey,
      ...progress.checkpoint,
    }));
  }

  /** Gives it to whoever asked for it, or to nobody. Nothing of ours may run for it any more. */
  release(): Promise<void> {
    return this.#exclusive(async () => {
      const { store, workerId } = this.#options;
      if (this.#lease.checkpointOwner === workerId) {
        await store.completeHandOver(this.#lease, workerId);
      } else if (!(await store.release(this.#lease, workerId))) {
        // Somebody may have asked since the last renewal.
        const renewal = await store.renew(this.#lease, workerId);
        if (renewal.kind === 'handOverRequested') {
          await store.completeHandOver(renewal.lease, workerId);
        }
      }
      this.#end('released');
    });
  }

  /** Forgets it after its shard was finished and its position stored. */
  finish(): void {
    this.#end('finished');
  }

  /** Forgets it without telling anybody: it expires. */
  abandon(): void {
    this.#end('lost');
  }

  /** Takes note of what stands in the store; whatever told it may also tell that somebody asks for it. */
  #use(lease: Lease): void {
    const wasAsked = this.#lease.checkpointOwner !== undefined;
    this.#lease = lease;
    if (!wasAsked) this.#tellHandOver();
  }

  #tellHandOver(): void {
    const { checkpointOwner, leaseOwner, handOverMs } = this.#lease;
    if (checkpointOwner !== undefined && leaseOwner !== undefined) {
      this.#onHandOverRequested(leaseOwner, handOverMs);
    }
  }

  #exclusive<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#tail.then(() => {
      if (!this.isValid) throw lost(this.leaseKey);
      return work();
    });
    this.#tail = result.catch(() => {});
    return result;
  }

  /** After a write of the row itself: tells that we live only where others watch the row. */
  #extend(sentMs: number): void {
    if (this.#lease.layout === 'kcl') this.#extendTo(sentMs);
  }

  #extendTo(sentMs: number): void {
    const { clock, failoverMs } = this.#options;
    if (this.signal.aborted) return;
    this.#validUntilMs = sentMs + failoverMs * (1 - SAFETY_RATIO);
    this.#timer?.cancel();
    this.#timer = clock.schedule(this.#validUntilMs - clock.monotonicMs(), () => this.#end('lost'));
  }

  #end(change: 'lost' | 'released' | 'finished'): void {
    if (this.signal.aborted) return;
    this.#timer?.cancel();
    this.#controller.abort(lost(this.leaseKey));
    publishDiagnostics('shardline:consumer:lease', () => ({
      workerId: this.#options.workerId,
      leaseKey: this.leaseKey,
      change,
    }));
  }
}

/** True if a position names records, not a place to begin. */
export function isConcrete(position: Position): boolean {
  return !isSentinel(position.sequenceNumber);
}

function lost(leaseKey: string): ShardlineError {
  return new ShardlineError('LEASE_LOST', `the lease of ${leaseKey} is not ours any more`, {
    retryable: true,
    value: leaseKey,
  });
}
