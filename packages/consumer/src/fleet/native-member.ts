import { type Clock, pause, ShardlineError } from '@shardline/shared';
import murmurhash from 'murmurhash3js-revisited';

import type { LeaseStore } from '../lease/lease-store.js';
import { isFinished, type Lease, ownerOf } from '../lease/lease.js';
import { type Move, planFleet } from './assignment.js';
import type { Fleet, FleetStore, WorkerFacts, WorkerRow } from './fleet-store.js';
import type { Holdings } from './holdings.js';
import { inBatches } from './in-batches.js';
import type { LeaseView } from './lease-view.js';

export interface MemberOptions {
  readonly workerId: string;
  readonly store: LeaseStore;
  readonly fleet: FleetStore;
  readonly failoverMs: number;
  readonly maxLeases: number;
  readonly drainTimeoutMs: number;
  /** How often all leases are listed though nothing seems to have changed. */
  readonly relistMs: number;
  readonly clock: Clock;
}

export interface NativeMemberOptions extends MemberOptions {
  /** Tells this process from others that take its name. */
  readonly incarnation: string;
}

/** Leases change places for the sake of throughput only when it was measured since the last moves. */
const SETTLE_MS = 60_000;
/** How often the application's lag is told, at most. */
const LAG_INTERVAL_MS = 5_000;
/** Most writes to the table at a time. */
const CONCURRENT_WRITES = 64;
/** Rounds that fail in a row before a leader lets another try. */
const MAX_FAILED_ROUNDS = 3;

/**
 * A member of a native fleet. Its heartbeat stands for all leases it holds; one member, the leader, deals
 * them out. In a quiet fleet a member costs its heartbeats and its looks at the fleet's row and the leader's.
 */
export class NativeMember {
  readonly #options: NativeMemberOptions;
  readonly #holdings: Holdings;
  readonly #view: LeaseView;
  /** When the last heartbeat that was heard was sent; undefined if we are no member. */
  #aliveMs: number | undefined;
  #isLeaving = false;
  #seenChanges = -1;
  #movedMs = -Infinity;
  #toldLagMs: number | undefined;
  #toldMs = -Infinity;
  #failedRounds = 0;
  #isLeader = false;
  /** What the fleet looked like when there was nothing to do. */
  #restingOutlook: string | undefined;
  /** Streams we read, if the application reads several. */
  streams: readonly string[] | undefined;

  constructor(options: NativeMemberOptions, holdings: Holdings, view: LeaseView) {
    this.#options = options;
    this.#holdings = holdings;
    this.#view = view;
  }

  /** When others were last told that we live, on the monotonic clock; undefined if we are no member. */
  get aliveMs(): number | undefined {
    return this.#aliveMs;
  }

  get isLeader(): boolean {
    return this.#isLeader;
  }

  /**
   * Enters the fleet, as soon as no other process of our name is in it.
   *
   * @throws ShardlineError `WORKER_ID_IN_USE`; what the table threw.
   */
  async join(signal: AbortSignal): Promise<void> {
    const { fleet, workerId, incarnation, clock, failoverMs } = this.#options;
    let before: { readonly row: WorkerRow; readonly seenMs: number } | undefined;
    for (;;) {
      signal.throwIfAborted();
      const sentMs = clock.monotonicMs();
      if (await fleet.join(workerId, incarnation, this.#facts)) {
        this.#aliveMs = sentMs;
        return;
      }
      const row = await fleet.worker(workerId);
      if (!row) continue;
      if (before && row.heartbeat !== before.row.heartbeat) {
        throw new ShardlineError(
          'WORKER_ID_IN_USE',
          `another process is alive as worker '${workerId}'`,
          { value: workerId },
        );
      }
      before ??= { row, seenMs: clock.monotonicMs() };
      // One that died is given as much time as its leases.
      if (clock.monotonicMs() - before.seenMs > failoverMs) await fleet.remove(row);
      else await pause(clock, failoverMs / 8, signal);
    }
  }

  /** Tells others that we live; ends what we hold if they do not believe it any more. */
  async beat(): Promise<void> {
    if (this.#aliveMs === undefined) return;
    const { fleet, workerId, incarnation, clock } = this.#options;
    const tell = async (): Promise<void> => {
      const sentMs = clock.monotonicMs();
      if (await fleet.beat(workerId, incarnation, this.#facts)) {
        this.#aliveMs = sentMs;
        this.#holdings.confirm(sentMs);
      } else {
        this.#aliveMs = undefined;
        this.#holdings.abandonNative();
      }
    };
    // So much hangs on it that one failure is made up for at once.
    await tell().catch(tell);
  }

  /** One round: looks at what has changed and does our part about it. */
  async round(fleet: Fleet, signal: AbortSignal): Promise<void> {
    try {
      await this.#round(fleet, signal);
      this.#failedRounds = 0;
    } catch (error) {
      this.#failedRounds += 1;
      if (this.#failedRounds >= MAX_FAILED_ROUNDS) await this.#resign().catch(() => {});
      throw error;
    }
  }

  /** Asks the leader to find new owners for what we hold. */
  async askForSuccessors(): Promise<void> {
    this.#isLeaving = true;
    await this.beat();
    await this.#options.fleet.announce();
  }

  /** Removes our traces. */
  async leave(): Promise<void> {
    const { fleet, workerId, incarnation } = this.#options;
    if (this.#aliveMs === undefined) return;
    this.#aliveMs = undefined;
    await this.#resign();
    await fleet.leave(workerId, incarnation);
  }

  get #facts(): WorkerFacts {
    return {
      isLeaving: this.#isLeaving,
      maxLeases: this.#options.maxLeases,
      streams: this.streams,
      lagMs: this.#holdings.lagMs,
    };
  }

  async #resign(): Promise<void> {
    this.#isLeader = false;
    await this.#options.fleet.resign(this.#options.workerId);
  }

  async #round(fleet: Fleet, signal: AbortSignal): Promise<void> {
    const { workerId, relistMs } = this.#options;
    if (this.#aliveMs === undefined) await this.join(signal);
    else if (!fleet.workerIds.includes(workerId)) await this.#options.fleet.enroll(workerId);
    const workers = await this.#watch(fleet);
    const isChangingOver = this.#view.leases.some(({ layout }) => layout !== fleet.layout);
    if (fleet.changes !== this.#seenChanges || isChangingOver || this.#view.ageMs >= relistMs) {
      await this.#list(fleet);
    }
    await this.#view.notice(this.#holdings);
    if (this.#aliveMs !== undefined) await this.#holdings.convert(fleet.layout, this.#aliveMs);
    if (workers) await this.#lead(fleet, workers);
    else await this.#takeOrphans();
  }

  async #list(fleet: Fleet): Promise<void> {
    await this.#view.list(true);
    // Not what stands there by now: what came after the fleet was read may have come after the listing.
    this.#seenChanges = fleet.changes;
  }

  /**
   * Watches those who must be watched: the leader all, the others the leader. Becomes the leader if there
   * is none that lives.
   *
   * @returns All workers, if we lead.
   */
  async #watch(fleet: Fleet): Promise<readonly WorkerRow[] | undefined> {
    const { workerId } = this.#options;
    const { leader } = fleet;
    this.#isLeader = leader === workerId;
    if (!this.#isLeader) {
      const watched = leader === undefined ? [] : await this.#look([leader]);
      if (leader !== undefined && (await this.#living(leader, watched)) !== undefined) {
        return undefined;
      }
      if (this.#isLeaving) return undefined;
      this.#isLeader = await this.#options.fleet.lead(workerId, leader);
      if (!this.#isLeader) return undefined;
    }
    return this.#look([...new Set([...fleet.workerIds, ...this.#view.owners])]);
  }

  async #look(workerIds: readonly string[]): Promise<readonly WorkerRow[]> {
    const { fleet, clock } = this.#options;
    const workers = await fleet.workers(workerIds);
    this.#view.observer.observeWorkers(workers, clock.monotonicMs());
    return workers;
  }

  /** A worker's row, if its heartbeat has not stood still for the failover time. */
  async #living(workerId: string, rows: readonly WorkerRow[]): Promise<WorkerRow | undefined> {
    const { fleet, clock } = this.#options;
    const { observer } = this.#view;
    const seen = rows.find((row) => row.workerId === workerId);
    if (seen && !observer.isDead(seen, clock.monotonicMs())) return seen;
    // What was read may be old: this is not.
    const row = await fleet.worker(workerId);
    return row && !observer.isDead(row, clock.monotonicMs()) ? row : undefined;
  }

  /** The leader's work: gives away what is free, and balances the rest. */
  async #lead(fleet: Fleet, rows: readonly WorkerRow[]): Promise<void> {
    const { workerId } = this.#options;
    const living = new Map<string, WorkerRow>();
    for (const id of new Set([...fleet.workerIds, ...this.#view.owners])) {
      const row = await this.#living(id, rows);
      if (row) living.set(id, id === workerId ? { ...row, isLeaving: this.#isLeaving } : row);
    }
    const dead = rows.filter((row) => !living.has(row.workerId));
    const isOwner = (row: WorkerRow): boolean => this.#view.owners.has(row.workerId);
    // What the dead have written last must be known before their leases are taken.
    if (dead.some(isOwner)) await this.#list(fleet);
    await this.#balance(living, new Set(dead.map((row) => row.workerId)));
    for (const row of dead) if (!isOwner(row)) await this.#options.fleet.remove(row);
    const known = new Set(rows.map((row) => row.workerId));
    for (const id of fleet.workerIds) {
      if (!living.has(id) && !known.has(id)) await this.#options.fleet.forget(id);
    }
    await this.#finishChangeOver(fleet);
    await this.#tellLag([...living.values()]);
  }

  /** Plans and carries out, unless the last plan for the same was to leave all as it is. */
  async #balance(living: ReadonlyMap<string, WorkerRow>, dead: ReadonlySet<string>): Promise<void> {
    const { clock, drainTimeoutMs } = this.#options;
    const view = this.#view;
    const isSettled = clock.monotonicMs() - this.#movedMs > SETTLE_MS;
    const facts = [...living.values()].map(({ workerId, isLeaving, maxLeases, streams }) => [
      workerId,
      isLeaving,
      maxLeases,
      streams,
    ]);
    const outlook = JSON.stringify([view.listings, isSettled, facts]);
    if (outlook === this.#restingOutlook) return;
    const { assign, moves } = planFleet({
      leases: view.leases,
      workers: [...living.values()],
      isExpired: (lease) => this.#isFree(lease, living, dead),
      isSettled,
      rank: (text) => murmurhash.x86.hash32(Buffer.from(text)),
    });
    await inBatches(assign, CONCURRENT_WRITES, (move) => this.#assign(move));
    await inBatches(moves, CONCURRENT_WRITES, async ({ lease, to }) => {
      await this.#options.store.requestHandOver(lease, to, drainTimeoutMs);
    });
    if (assign.length + moves.length > 0) {
      this.#movedMs = clock.monotonicMs();
      await this.#options.fleet.announce();
    } else if ([...view.owners].every((owner) => living.has(owner))) {
      // Time alone changes nothing about leases whose owners live.
      this.#restingOutlook = outlook;
    }
  }

  /** True if nobody who lives has a lease. */
  #isFree(
    lease: Lease,
    living: ReadonlyMap<string, WorkerRow>,
    dead: ReadonlySet<string>,
  ): boolean {
    const owner = ownerOf(lease) ?? '';
    const { observer } = this.#view;
    if (lease.layout === 'native' && living.has(owner)) return false;
    if (lease.layout === 'native' && dead.has(owner)) return true;
    // No heartbeat stands for it: its own counter does.
    return observer.isExpired(lease, this.#options.clock.monotonicMs());
  }

  async #assign({ lease, to }: Move): Promise<void> {
    const { store, workerId, clock } = this.#options;
    const sentMs = clock.monotonicMs();
    const taken = await store.take(lease, to);
    if (taken && to === workerId) await this.#holdings.begin(taken, sentMs);
  }

  /** Leases that nobody has for so long that no leader can be at work. */
  async #takeOrphans(): Promise<void> {
    const { clock } = this.#options;
    if (this.#isLeaving) return;
    const orphans = this.#view.leases.filter(
      (lease) =>
        ownerOf(lease) === undefined &&
        !isFinished(lease) &&
        this.#holdings.reads(lease) &&
        !this.#holdings.holds(lease.leaseKey) &&
        this.#view.observer.isOrphaned(lease, clock.monotonicMs()),
    );
    await inBatches(orphans, CONCURRENT_WRITES, (lease) => this.#holdings.take(lease));
  }

  /** Keeps the rows that have no owner as all are to be kept; at the end the fleet's own go. */
  async #finishChangeOver(fleet: Fleet): Promise<void> {
    const { store } = this.#options;
    const open = this.#view.leases.filter(({ layout }) => layout !== fleet.layout);
    const unowned = open.filter((lease) => ownerOf(lease) === undefined || isFinished(lease));
    await inBatches(unowned, CONCURRENT_WRITES, async (lease) => {
      await store.convert(lease, undefined, fleet.layout);
    });
    if (fleet.layout === 'native' || open.length > 0) return;
    // First: whoever sees no fleet joins none.
    await this.#options.fleet.dissolve();
    await this.#options.fleet.clear();
  }

  /** Tells all how far the application is behind, when that has changed. */
  async #tellLag(workers: readonly WorkerRow[]): Promise<void> {
    const known = workers.flatMap(({ lagMs }) => lagMs ?? []);
    const lagMs = known.length === 0 ? undefined : Math.max(...known);
    const nowMs = this.#options.clock.monotonicMs();
    const isNews = lagMs !== this.#toldLagMs && nowMs - this.#toldMs >= LAG_INTERVAL_MS;
    if (lagMs === undefined || !isNews) return;
    await this.#options.fleet.setLag(lagMs);
    this.#toldLagMs = lagMs;
    this.#toldMs = nowMs;
  }
}
