import {
  awsErrorName,
  type ByteBudget,
  type Clock,
  pause,
  publishDiagnostics,
} from '@shardline/shared';
import murmurhash from 'murmurhash3js-revisited';

import type { KinesisReadPort } from '../fetch/kinesis-read-port.js';
import { planAssignment } from '../lease/assignment.js';
import { HeldLease } from '../lease/held-lease.js';
import { LeaseObserver } from '../lease/lease-observer.js';
import type { LeaseStore } from '../lease/lease-store.js';
import { isFinished, type Lease, ownerOf } from '../lease/lease.js';
import {
  firstLeases,
  forgottenLeases,
  type InitialPosition,
  missingLeases,
  removableLeases,
} from './shard-sync.js';
import { type ShardStatus, ShardWorker, type ShardWorkerOptions } from './shard-worker.js';

export interface SupervisorOptions {
  readonly workerId: string;
  readonly store: LeaseStore;
  readonly client: KinesisReadPort;
  readonly clock: Clock;
  readonly budget: ByteBudget;
  readonly initialPosition: InitialPosition;
  readonly failoverMs: number;
  readonly assignmentIntervalMs: number;
  readonly auditIntervalMs: number;
  readonly drainTimeoutMs: number;
  readonly maxLeases: number;
  /** What a shard's worker needs besides the lease. */
  readonly shard: ShardWorkerOptions;
}

/** A shard of the stream as this worker sees it. */
export interface LeaseStatus {
  readonly shardId: string;
  readonly owner: string | undefined;
  /** During a hand-over, who gets it. */
  readonly nextOwner: string | undefined;
  readonly isFinished: boolean;
}

/** How often a shard that is to become ours is looked at. */
const HAND_OVER_POLL_MS = 100;
/** Handlers that do not heed their signal are left behind after this. */
const ABANDON_GRACE_MS = 1_000;

interface Charge {
  readonly held: HeldLease;
  readonly worker: ShardWorker;
  readonly done: Promise<void>;
}

/**
 * Keeps a worker's share of the shards: takes, asks for and gives away leases, renews those it holds,
 * and sees to it that every shard of the stream has one.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #observer: LeaseObserver;
  /** Ends the loops that take on new shards. */
  readonly #stopping = new AbortController();
  /** Ends the loop that renews, once nothing is held any more. */
  readonly #stopped = new AbortController();
  readonly #charges = new Map<string, Charge>();
  /** Handlers that outlive their lease, by lease key. */
  readonly #lingering = new Map<string, Promise<void>>();
  /** Leases that are ours by name, or will be once their owners have let go. */
  readonly #expected = new Set<string>();
  /** Leases that the last audit found forgotten: one look may be mistaken. */
  #forgotten = new Set<string>();
  #isPaused = false;
  #loops: Promise<void>[] = [];
  #leases: readonly Lease[] = [];
  #trouble: string | undefined;

  constructor(options: SupervisorOptions) {
    this.#options = options;
    this.#observer = new LeaseObserver(options.failoverMs);
  }

  /** Prepares the leases, takes the first ones, and goes on by itself. */
  async start(): Promise<void> {
    const { store, failoverMs, assignmentIntervalMs, auditIntervalMs } = this.#options;
    const { signal } = this.#stopping;
    await store.prepare(signal);
    await this.#audit();
    await this.#assign();
    this.#loops = [
      this.#every(failoverMs / 3, this.#stopped.signal, () => this.#renew()),
      this.#every(assignmentIntervalMs, signal, () => this.#assign()),
      this.#every(HAND_OVER_POLL_MS, signal, () => this.#collectExpected()),
      this.#every(auditIntervalMs, signal, () => this.#audit()),
    ];
  }

  /** Gives every shard away once its handlers are done, at the latest when their time is over. */
  async stop(drainTimeoutMs: number = this.#options.drainTimeoutMs): Promise<void> {
    const { clock } = this.#options;
    this.#stopping.abort(new Error('the consumer is stopping'));
    for (const { worker } of this.#charges.values())
      worker.drain('the consumer is stopping', drainTimeoutMs);
    const timer = clock.schedule(drainTimeoutMs + ABANDON_GRACE_MS, () => {
      for (const { held } of this.#charges.values()) held.abandon();
    });
    await Promise.all([...this.#charges.values()].map(({ done }) => done));
    timer.cancel();
    this.#stopped.abort(new Error('the consumer has stopped'));
    await Promise.all(this.#loops);
  }

  /** Pauses one shard while we own it, or all we own and will own. False if we do not own it. */
  pause(shardId?: string): boolean {
    return this.#setPaused(shardId, true);
  }

  resume(shardId?: string): boolean {
    return this.#setPaused(shardId, false);
  }

  #setPaused(shardId: string | undefined, isPaused: boolean): boolean {
    if (shardId === undefined) this.#isPaused = isPaused;
    const charges = [...this.#charges.values()].filter(
      ({ held }) => shardId === undefined || held.leaseKey === shardId,
    );
    for (const { worker } of charges) {
      if (isPaused) worker.pause();
      else worker.resume();
    }
    return shardId === undefined || charges.length > 0;
  }

  /**
   * True if nothing that is put from now on can be missed: every shard has an owner, and none has yet
   * to find out what its latest record is.
   */
  get isReady(): boolean {
    const active = this.#active;
    return (
      active.length > 0 &&
      active.every((lease) => {
        const { checkpoint, startAtMs } = this.#charges.get(lease.leaseKey)?.held.lease ?? lease;
        const isUnpinned = checkpoint.sequenceNumber === 'LATEST' && startAtMs === undefined;
        return ownerOf(lease) !== undefined && !isUnpinned;
      }) &&
      this.shards.every(
        ({ state, millisBehindLatest }) =>
          state !== 'processing' || millisBehindLatest !== undefined,
      )
    );
  }

  /** True if a bounded read is over, as far as this worker goes. */
  get isBoundReached(): boolean {
    const { workerId } = this.#options;
    const { bound } = this.#options.shard;
    const shards = this.shards;
    if (shards.some(({ pendingRecords }) => pendingRecords > 0)) return false;
    if (bound?.isExhausted) return true;
    return (
      shards.every(({ state }) => state === 'bounded') &&
      this.#active.every((lease) => {
        const owner = ownerOf(lease);
        return owner === workerId ? this.#charges.has(lease.leaseKey) : owner !== undefined;
      })
    );
  }

  get #active(): readonly Lease[] {
    return this.#leases.filter((lease) => !isFinished(lease));
  }

  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Shards this worker owns. */
  get shards(): readonly ShardStatus[] {
    return [...this.#charges.values()].map(({ worker }) => worker.status);
  }

  /** All shards, as they were listed last. */
  get leases(): readonly LeaseStatus[] {
    return this.#leases.map((lease) => ({
      shardId: lease.leaseKey,
      owner: ownerOf(lease),
      nextOwner: lease.checkpointOwner === undefined ? undefined : lease.leaseOwner,
      isFinished: isFinished(lease),
    }));
  }

  async #renew(): Promise<void> {
    await Promise.all(
      [...this.#charges.values()].map(({ held }) =>
        held.renew().catch((error: unknown) => {
          // It is tried again; if that fails for too long the lease ends by itself.
          if (!held.signal.aborted) this.#trouble = `renewing failed: ${awsErrorName(error)}`;
        }),
      ),
    );
  }

  /** One round: looks at all leases, takes what is free, asks for what is too much elsewhere. */
  async #assign(): Promise<void> {
    const { store, workerId, maxLeases, clock } = this.#options;
    const leases = await store.list();
    this.#leases = leases;
    this.#observer.observe(leases, clock.monotonicMs());
    for (const { leaseKey, seek, leaseCounter } of leases) {
      if (seek) this.#charges.get(leaseKey)?.worker.seek(seek, leaseCounter);
    }
    const plan = planAssignment({
      leases,
      workerId,
      maxLeases,
      isExpired: (lease) =>
        !this.#charges.has(lease.leaseKey) && this.#observer.isExpired(lease, clock.monotonicMs()),
      isOrphaned: (lease) => this.#observer.isOrphaned(lease, clock.monotonicMs()),
      rank: (text) => murmurhash.x86.hash32(Buffer.from(text)),
    });
    this.#expectNamed(leases);
    await Promise.all([
      ...plan.take.map((lease) => this.#take(lease)),
      ...plan.moves.map(async ({ lease, to }) => {
        const isAsked = await store.requestHandOver(lease, to);
        if (isAsked && to === workerId) this.#expected.add(lease.leaseKey);
      }),
    ]);
  }

  /** Takes note of leases that were given to us, or will be once their owners have let go. */
  #expectNamed(leases: readonly Lease[]): void {
    const { workerId } = this.#options;
    for (const lease of leases) {
      const { leaseKey, leaseOwner } = lease;
      if (leaseOwner !== workerId || isFinished(lease) || this.#charges.has(leaseKey)) continue;
      this.#expected.add(leaseKey);
    }
  }

  async #take(lease: Lease): Promise<void> {
    const { store, workerId, clock } = this.#options;
    const sentMs = clock.monotonicMs();
    const taken = await store.take(lease, workerId);
    if (taken) {
      await this.#begin(taken, sentMs, lease.leaseOwner === undefined ? 'taken' : 'stolen');
    }
  }

  /** Looks whether leases that were named for us are ours now. */
  async #collectExpected(): Promise<void> {
    const { store, workerId, clock } = this.#options;
    await Promise.all(
      [...this.#expected].map(async (leaseKey) => {
        const lease = await store.get(leaseKey);
        // It may have been taken meanwhile, because its owner died.
        const isOurs = this.#charges.has(leaseKey);
        if (lease?.leaseOwner !== workerId || isFinished(lease) || isOurs) {
          this.#expected.delete(leaseKey);
          return;
        }
        if (lease.checkpointOwner !== undefined) return;
        const sentMs = clock.monotonicMs();
        // Renewed at once: how long ago it was given to us, nobody can tell.
        const renewal = await store.renew(lease, workerId);
        this.#expected.delete(leaseKey);
        if (renewal.kind === 'renewed') await this.#begin(renewal.lease, sentMs, 'taken');
      }),
    );
  }

  /** Puts a worker to a lease that became ours, or gives it back if we are stopping. */
  async #begin(lease: Lease, sentMs: number, change: 'taken' | 'stolen'): Promise<void> {
    const { store, clock, workerId, failoverMs } = this.#options;
    const { leaseKey } = lease;
    if (this.#charges.has(leaseKey)) return;
    this.#expected.delete(leaseKey);
    const held = new HeldLease(lease, sentMs, { store, clock, workerId, failoverMs });
    if (this.#stopping.signal.aborted) {
      await held.release().catch(() => held.abandon());
      return;
    }
    publishDiagnostics('shardline:consumer:lease', () => ({ workerId, leaseKey, change }));
    const worker = new ShardWorker(held, this.#options.shard);
    if (this.#isPaused) worker.pause();
    held.onHandOverRequested((nextOwner) => worker.drain(`handing over to ${nextOwner}`));
    const done = worker.run(this.#lingering.get(leaseKey) ?? Promise.resolve()).then(() => {
      this.#charges.delete(leaseKey);
      const handlersDone = worker.handlersDone();
      this.#lingering.set(leaseKey, handlersDone);
      void handlersDone.then(() => {
        if (this.#lingering.get(leaseKey) === handlersDone) this.#lingering.delete(leaseKey);
      });
    });
    this.#charges.set(leaseKey, { held, worker, done });
  }

  /** Makes leases for shards that lack one, and removes those nobody needs any more. */
  async #audit(): Promise<void> {
    const { store, client, initialPosition } = this.#options;
    const { signal } = this.#stopping;
    const leases = await store.list();
    if (leases.length === 0) {
      const first = firstLeases(await client.listShards(signal, initialPosition), initialPosition);
      await Promise.all(first.map((lease) => store.create(lease)));
      return;
    }
    const shards = await client.listShards(signal);
    const missing = missingLeases(shards, leases, initialPosition);
    await Promise.all(missing.map((lease) => store.create(lease)));
    const forgotten = forgottenLeases(leases, shards);
    const removable = [
      ...removableLeases(leases, shards),
      ...forgotten.filter(({ leaseKey }) => this.#forgotten.has(leaseKey)),
    ];
    this.#forgotten = new Set(forgotten.map(({ leaseKey }) => leaseKey));
    await Promise.all(removable.map(({ leaseKey }) => store.delete(leaseKey)));
  }

  /** Repeats `work` until the signal aborts, whatever becomes of it. */
  async #every(intervalMs: number, signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      await pause(clock, intervalMs, signal);
      if (signal.aborted) return;
      try {
        await work();
        this.#trouble = undefined;
      } catch (error) {
        if (!signal.aborted) this.#trouble = awsErrorName(error);
      }
    }
  }
}
