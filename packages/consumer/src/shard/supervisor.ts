import {
  awsErrorName,
  type Clock,
  isShardlineError,
  pause,
  publishDiagnostics,
} from '@shardline/shared';

import type { FleetStore } from '../fleet/fleet-store.js';
import type { Holdings } from '../fleet/holdings.js';
import { inBatches } from '../fleet/in-batches.js';
import { Membership, type MembershipOptions } from '../fleet/membership.js';
import { HeldLease } from '../lease/held-lease.js';
import type { LeaseStore } from '../lease/lease-store.js';
import { isFinished, type Lease, type LeaseLayout, ownerOf } from '../lease/lease.js';
import { describeLease, type LeaseStatus } from './lease-status.js';
import { type ShardStatus, ShardWorker, type ShardWorkerOptions } from './shard-worker.js';
import { StreamAudit, type StreamAuditOptions } from './stream-audit.js';

/** A stream the application reads. */
export interface StreamSource extends Omit<StreamAuditOptions, 'store'> {
  readonly name: string;
  /** What the worker of a shard needs besides the lease. */
  readonly shard: ShardWorkerOptions;
}

export interface SupervisorOptions extends Omit<MembershipOptions, 'fleet' | 'store' | 'relistMs'> {
  readonly store: LeaseStore;
  readonly fleet: FleetStore;
  readonly clock: Clock;
  /** 0 leaves it to the mode. */
  readonly assignmentIntervalMs: number;
  readonly auditIntervalMs: number;
}

interface Charge {
  readonly held: HeldLease;
  readonly worker: ShardWorker;
  readonly done: Promise<void>;
}

interface Source extends StreamSource {
  readonly audit: StreamAudit;
}

/** A native fleet looks at one row; a KCL's is a scan, as often as a KCL 3.x looks for its leases. */
const NATIVE_ROUND_MS = 1_000;
/** How often a shard that is to become ours is looked at. */
const HAND_OVER_POLL_MS = 100;
/** Most of them looked at in one go. */
const MAX_POLLED = 25;
const CONCURRENT_WRITES = 64;
/** Handlers that do not heed their signal are left behind after this. */
const ABANDON_GRACE_MS = 1_000;
/** Rounds in which others may be named to take over from a worker that stops. */
const SUCCESSION_ROUNDS = 4;

/**
 * Keeps a worker's share of the shards: puts a shard worker to each lease that becomes ours, tells others
 * that we live, and sees to it that every shard of the streams has a lease.
 */
export class Supervisor implements Holdings {
  readonly #options: SupervisorOptions;
  readonly #membership: Membership;
  /** Aborts when nothing new is to be taken on. */
  readonly #stopping = new AbortController();
  /** Ends the loops, once nothing is held any more. */
  readonly #stopped = new AbortController();
  readonly #sources = new Map<string, Source>();
  readonly #charges = new Map<string, Charge>();
  /** Handlers that outlive their lease, by lease key. */
  readonly #lingering = new Map<string, Promise<void>>();
  /** Leases that will be ours once their owners have let go. */
  readonly #expected = new Set<string>();
  /** Leases in our name that are about to be held. */
  readonly #adopting = new Set<string>();
  #isPaused = false;
  #loops: Promise<void>[] = [];
  /** What went wrong last, by what was tried. */
  readonly #troubles = new Map<string, string>();

  constructor(options: SupervisorOptions, sources: readonly StreamSource[]) {
    this.#options = options;
    this.#membership = new Membership({ ...options, relistMs: options.auditIntervalMs }, this);
    for (const source of sources) this.#enter(source);
  }

  /** Joins the fleet, takes the first leases, and goes on by itself; leaves it again if that fails. */
  async start(): Promise<void> {
    try {
      await this.#start();
    } catch (error) {
      // A member that does nothing would be given leases.
      await this.stop(0);
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { table, failoverMs, auditIntervalMs } = this.#options;
    const { signal } = this.#stopping;
    await table.prepare(signal);
    for (const { audit } of this.#sources.values()) await audit.identify(signal);
    this.#tellStreams();
    await this.#membership.start(signal);
    const { signal: stopped } = this.#stopped;
    this.#loops = [
      this.#every(
        'renewing',
        () => failoverMs / 3,
        stopped,
        () => this.#renew(),
      ),
    ];
    await this.#membership.round(signal);
    await this.#auditAll();
    await this.#membership.round(signal);
    const pollMs = (): number => HAND_OVER_POLL_MS;
    this.#loops.push(
      this.#every(
        'assignment',
        () => this.#roundMs,
        stopped,
        () => this.#round(),
      ),
      this.#every('hand-over', pollMs, signal, () => this.#collectExpected()),
      this.#every(
        'audit',
        () => auditIntervalMs,
        signal,
        () => this.#audit(),
      ),
    );
  }

  /** Gives every shard away once its handlers are done, at the latest when their time is over. */
  async stop(drainTimeoutMs: number = this.#options.drainTimeoutMs): Promise<void> {
    const { clock } = this.#options;
    this.#stopping.abort(new Error('the consumer is stopping'));
    await this.#findSuccessors();
    for (const { worker } of this.#charges.values())
      worker.drain('the consumer is stopping', drainTimeoutMs);
    const timer = clock.schedule(drainTimeoutMs + ABANDON_GRACE_MS, () => {
      for (const { held } of this.#charges.values()) held.abandon();
    });
    await Promise.all([...this.#charges.values()].map(({ done }) => done));
    timer.cancel();
    this.#stopped.abort(new Error('the consumer has stopped'));
    await Promise.all(this.#loops);
    // Whoever cannot be told finds out by our silence.
    await this.#membership.leave().catch(() => {});
  }

  /** Reads one more stream. */
  async addStream(source: StreamSource): Promise<void> {
    await this.#enter(source).audit.identify(this.#stopping.signal);
    this.#tellStreams();
    await this.#membership.beat();
    await this.#auditAll();
    await this.#membership.round(this.#stopping.signal);
  }

  /** Gives the shards of a stream away and reads it no more. */
  async removeStream(name: string): Promise<void> {
    const source = this.#sources.get(name);
    if (!source) return;
    this.#sources.delete(name);
    this.#tellStreams();
    await this.#membership.beat();
    const { streamId } = source.audit;
    const charges = [...this.#charges.values()].filter(
      ({ held }) => streamId !== undefined && held.lease.streamId === streamId,
    );
    for (const { worker } of charges) worker.drain('its stream is not read any more');
    await Promise.all(charges.map(({ done }) => done));
    source.client.close();
  }

  /** Deletes the leases of a stream: whoever reads it again begins anew. */
  async forgetStream(name: string): Promise<void> {
    const { store, fleet } = this.#options;
    const { leases } = await fleet.list(true);
    const former = leases.filter(({ streamId }) => streamId?.split(':')[1] === name);
    await inBatches(former, CONCURRENT_WRITES, ({ leaseKey }) => store.delete(leaseKey));
    await this.#membership.announce();
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
      ({ held }) => shardId === undefined || held.lease.shardId === shardId,
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
    const shards = this.shards;
    if (shards.some(({ pendingRecords }) => pendingRecords > 0)) return false;
    if ([...this.#sources.values()].some(({ shard }) => shard.bound?.isExhausted)) return true;
    return (
      shards.every(({ state }) => state === 'bounded') &&
      this.#active.every((lease) => {
        const owner = ownerOf(lease);
        return owner === workerId ? this.#charges.has(lease.leaseKey) : owner !== undefined;
      })
    );
  }

  get #active(): readonly Lease[] {
    return this.#membership.leases.filter((lease) => !isFinished(lease) && this.reads(lease));
  }

  get membership(): Pick<Membership, 'mode' | 'leader' | 'lagMs' | 'announce'> {
    return this.#membership;
  }

  get trouble(): string | undefined {
    return [...this.#troubles.values()][0];
  }

  /** Shards this worker owns. */
  get shards(): readonly ShardStatus[] {
    return [...this.#charges.values()].map(({ worker }) => worker.status);
  }

  /** All shards, as they were listed last. */
  get leases(): readonly LeaseStatus[] {
    const { leases } = this.#membership;
    const byKey = new Map(leases.map((lease) => [lease.leaseKey, lease]));
    return leases.map((lease) => describeLease(lease, byKey));
  }

  get lagMs(): number | undefined {
    const lags = this.shards.flatMap(({ millisBehindLatest }) => millisBehindLatest ?? []);
    return lags.length === 0 ? undefined : Math.max(...lags);
  }

  reads(lease: Lease): boolean {
    return this.#sourceOf(lease) !== undefined;
  }

  get heldKeys(): Iterable<string> {
    return this.#charges.keys();
  }

  holds(leaseKey: string): boolean {
    return this.#charges.has(leaseKey);
  }

  async take(lease: Lease, noticeMs = 0): Promise<void> {
    const { store, workerId, clock } = this.#options;
    const sentMs = clock.monotonicMs();
    const taken = await store.take(lease, workerId);
    if (!taken) return;
    await this.begin(taken, sentMs, noticeMs);
    await this.#membership.announce();
  }

  async adopt(lease: Lease): Promise<void> {
    const { store, workerId, clock } = this.#options;
    const { leaseKey } = lease;
    if (this.#charges.has(leaseKey) || this.#adopting.has(leaseKey) || !this.reads(lease)) return;
    // Of two that are on their way, one would write behind the other's back.
    this.#adopting.add(leaseKey);
    try {
      const sentMs = clock.monotonicMs();
      // Renewed at once: how long ago it was given to us, nobody can tell.
      const renewal = await store.renew(lease, workerId);
      if (renewal.kind === 'renewed') await this.begin(renewal.lease, sentMs);
    } finally {
      this.#adopting.delete(leaseKey);
    }
  }

  async passOn(lease: Lease): Promise<void> {
    const { store, workerId } = this.#options;
    // The next round looks again: nothing waits here for a handler that may never end.
    if (this.#lingering.has(lease.leaseKey)) return;
    await store.completeHandOver(lease, workerId);
  }

  expect(leaseKey: string): void {
    if (!this.#charges.has(leaseKey)) this.#expected.add(leaseKey);
  }

  async verify(leaseKey: string): Promise<void> {
    await this.#charges.get(leaseKey)?.held.renew().catch(ignoreLoss);
  }

  seek({ leaseKey, seek, leaseCounter }: Lease): void {
    if (seek) this.#charges.get(leaseKey)?.worker.seek(seek, leaseCounter);
  }

  confirm(sentMs: number): void {
    for (const { held } of this.#charges.values()) held.confirm(sentMs);
  }

  async convert(layout: LeaseLayout, heartbeatSentMs: number): Promise<void> {
    const charges = [...this.#charges.values()].filter(({ held }) => held.lease.layout !== layout);
    await inBatches(charges, CONCURRENT_WRITES, ({ held }) =>
      held.convert(layout, heartbeatSentMs).catch(ignoreLoss),
    );
  }

  abandonNative(): void {
    for (const { held } of this.#charges.values()) {
      if (held.lease.layout === 'native') held.abandon();
    }
  }

  /** Puts a worker to a lease that became ours, or gives it back if we are stopping. */
  async begin(lease: Lease, sentMs: number, noticeMs = 0): Promise<void> {
    const { store, clock, workerId, failoverMs } = this.#options;
    const { leaseKey } = lease;
    const source = this.#sourceOf(lease);
    if (this.#charges.has(leaseKey) || !source) return;
    this.#expected.delete(leaseKey);
    const toldMs = this.#membership.toldMs(lease.layout, sentMs);
    const held = new HeldLease(lease, toldMs, { store, clock, workerId, failoverMs });
    const lingering = this.#lingering.get(leaseKey);
    if (this.#stopping.signal.aborted) {
      // While a handler of an earlier ownership runs it is nobody else's: it expires.
      if (lingering) held.abandon();
      else await held.release().catch(() => held.abandon());
      return;
    }
    publishDiagnostics('shardline:consumer:lease', () => ({
      workerId,
      leaseKey,
      change: noticeMs > 0 ? 'stolen' : 'taken',
    }));
    const worker = new ShardWorker(held, source.shard);
    if (this.#isPaused) worker.pause();
    held.onHandOverRequested((nextOwner, handOverMs) => {
      const drain = (): void => worker.drain(`handing over to ${nextOwner}`, handOverMs);
      // It is read on until the next owner has had time to notice: then it waits for us, not we for it.
      const timer = clock.schedule(lease.layout === 'native' ? this.#roundMs : 0, drain);
      held.signal.addEventListener('abort', () => timer.cancel(), { once: true });
    });
    const isNoticed = noticeMs > 0 ? pause(clock, noticeMs, held.signal) : undefined;
    const isClear = Promise.all([lingering, isNoticed]).then(() => {});
    const done = worker.run(isClear).then(() => {
      this.#charges.delete(leaseKey);
      const handlersDone = worker.handlersDone();
      this.#lingering.set(leaseKey, handlersDone);
      void handlersDone.then(() => {
        if (this.#lingering.get(leaseKey) === handlersDone) this.#lingering.delete(leaseKey);
      });
      // It was given away, or its children wait.
      return this.#membership.announce().catch(() => {});
    });
    this.#charges.set(leaseKey, { held, worker, done });
  }

  /** How long between two looks at the leases. */
  get #roundMs(): number {
    const { assignmentIntervalMs, failoverMs } = this.#options;
    if (assignmentIntervalMs > 0) return assignmentIntervalMs;
    return this.#membership.mode === 'native' ? NATIVE_ROUND_MS : failoverMs;
  }

  #enter(source: StreamSource): Source {
    const { store } = this.#options;
    const entered = { ...source, audit: new StreamAudit({ ...source, store }) };
    this.#sources.set(source.name, entered);
    return entered;
  }

  #sourceOf({ streamId }: Lease): Source | undefined {
    for (const source of this.#sources.values()) {
      if (source.audit.streamId === streamId) return source;
    }
    return undefined;
  }

  #tellStreams(): void {
    const ids = [...this.#sources.values()].flatMap(({ audit }) => audit.streamId ?? []);
    const areSeveral = [...this.#sources.values()].some((source) => source.nameOfSeveral);
    this.#membership.streams = areSeveral || ids.length > 0 ? ids : undefined;
  }

  async #round(): Promise<void> {
    // Beside a KCL nobody needs us any more; in a fleet of ours we may be the leader.
    if (this.#stopping.signal.aborted && this.#membership.mode !== 'native') return;
    await this.#membership.round(this.#stopped.signal);
  }

  /** Lets others be named to take over, so that they begin when we end. */
  async #findSuccessors(): Promise<void> {
    const { clock } = this.#options;
    if (this.#charges.size === 0) return;
    const isAsked = await this.#membership.askForSuccessors().catch(() => false);
    const untilMs = clock.monotonicMs() + SUCCESSION_ROUNDS * this.#roundMs;
    while (isAsked && clock.monotonicMs() < untilMs) {
      const isDone = [...this.#charges.values()].every(({ worker }) => worker.isDraining);
      if (isDone || this.#stopped.signal.aborted) return;
      await pause(clock, HAND_OVER_POLL_MS, this.#stopped.signal);
    }
  }

  async #renew(): Promise<void> {
    // What fails is tried again; if it fails for too long the lease ends by itself.
    const renewals = [...this.#charges.values()]
      .filter(({ held }) => held.lease.layout === 'kcl' || held.isThroughputNews)
      .map(({ held }) => held.renew().catch(ignoreLoss));
    const outcomes = await Promise.allSettled([this.#membership.beat(), ...renewals]);
    const failure = outcomes.find(({ status }) => status === 'rejected');
    if (failure?.status === 'rejected') throw failure.reason as Error;
  }

  /** Looks whether leases that others were asked for are ours now. */
  async #collectExpected(): Promise<void> {
    const { store, workerId } = this.#options;
    const polled = [...this.#expected].slice(0, MAX_POLLED);
    await Promise.all(
      polled.map(async (leaseKey) => {
        // Whoever is looked at goes to the end of the line.
        this.#expected.delete(leaseKey);
        const lease = await store.get(leaseKey).catch(() => 'unknown' as const);
        if (lease === 'unknown') {
          this.#expected.add(leaseKey);
          return;
        }
        // It may have been taken meanwhile, because its owner died.
        if (lease?.leaseOwner !== workerId || isFinished(lease)) return;
        if (lease.checkpointOwner === undefined) await this.adopt(lease);
        else this.expect(leaseKey);
      }),
    );
  }

  /** Finds out which streams the names stand for now, and looks at their leases. */
  #audit(): Promise<void> {
    return this.#auditAll(this.#membership.isCaretaker);
  }

  /**
   * Makes leases for shards that lack one, and removes those nobody needs any more. What goes wrong with
   * one stream does not keep the others from being looked at.
   */
  async #auditAll(isToIdentify = false): Promise<void> {
    const failures: unknown[] = [];
    for (const { audit } of this.#sources.values()) {
      try {
        if (isToIdentify && (await audit.identify(this.#stopping.signal))) this.#tellStreams();
        await this.#auditOne(audit);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  async #auditOne(audit: StreamAudit): Promise<void> {
    const hasLeases = this.#membership.leases.some(({ streamId }) => streamId === audit.streamId);
    if (!this.#membership.isCaretaker && hasLeases) return;
    const { leases } = await this.#options.fleet.list(true);
    const { signal } = this.#stopping;
    if (await audit.look(leases, this.#membership.layout, signal)) {
      await this.#membership.announce();
    }
  }

  /** Repeats `work` until the signal aborts, whatever becomes of it. */
  async #every(
    name: string,
    intervalMs: () => number,
    signal: AbortSignal,
    work: () => Promise<void>,
  ): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      await pause(clock, intervalMs(), signal);
      if (signal.aborted) return;
      try {
        await work();
        this.#troubles.delete(name);
      } catch (error) {
        const reason = isShardlineError(error) ? error.message : awsErrorName(error);
        if (!signal.aborted) this.#troubles.set(name, `${name} failed: ${reason}`);
      }
    }
  }
}

/** What is lost is seen by its own worker. */
function ignoreLoss(error: unknown): void {
  if (!isShardlineError(error, 'LEASE_LOST')) throw error as Error;
}
