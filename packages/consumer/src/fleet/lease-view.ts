import type { Clock } from '@shardline/shared';

import { isFinished, type Lease, ownerOf } from '../lease/lease.js';
import type { FleetStore } from './fleet-store.js';
import type { Holdings } from './holdings.js';
import { LeaseObserver } from './lease-observer.js';

/** The leases of the application as this worker saw them last, and what follows from them for it. */
export class LeaseView {
  readonly observer: LeaseObserver;
  readonly #fleet: FleetStore;
  readonly #clock: Clock;
  readonly #workerId: string;
  #leases: readonly Lease[] = [];
  /** Those that are ours, or will be, or were. */
  #named: readonly Lease[] = [];
  #owners: ReadonlySet<string> = new Set();
  #hasWorkers = false;
  #isFresh = false;
  #listedMs = -Infinity;
  #listings = 0;

  constructor(fleet: FleetStore, workerId: string, failoverMs: number, clock: Clock) {
    this.observer = new LeaseObserver(failoverMs);
    this.#fleet = fleet;
    this.#workerId = workerId;
    this.#clock = clock;
  }

  get leases(): readonly Lease[] {
    return this.#leases;
  }

  /** All that own a lease which is not finished. */
  get owners(): ReadonlySet<string> {
    return this.#owners;
  }

  /** True if there are rows of members of a fleet. */
  get hasWorkers(): boolean {
    return this.#hasWorkers;
  }

  /** How often they were listed: tells one listing from another. */
  get listings(): number {
    return this.#listings;
  }

  /** How long ago they were listed, in milliseconds. */
  get ageMs(): number {
    return this.#clock.monotonicMs() - this.#listedMs;
  }

  /** Lists them anew. @param isConsistent - With all writes that were acknowledged before. */
  async list(isConsistent: boolean): Promise<void> {
    const { leases, workers } = await this.#fleet.list(isConsistent);
    this.#hasWorkers = workers.length > 0;
    this.#listedMs = this.#clock.monotonicMs();
    this.#listings += 1;
    this.#leases = leases;
    this.#named = leases.filter(
      ({ leaseOwner, checkpointOwner }) =>
        leaseOwner === this.#workerId || checkpointOwner === this.#workerId,
    );
    this.#owners = new Set(
      leases.flatMap((lease) => (isFinished(lease) ? [] : (ownerOf(lease) ?? []))),
    );
    this.#isFresh = true;
    this.observer.observe(leases, this.#listedMs);
  }

  /** Sees to leases that are ours by name, are asked of us, or are to be read from elsewhere. */
  async notice(holdings: Holdings): Promise<void> {
    const tasks: Promise<void>[] = [];
    if (this.#isFresh) tasks.push(...this.#compare(holdings));
    this.#isFresh = false;
    for (const lease of this.#named) {
      const { leaseKey, leaseOwner, checkpointOwner } = lease;
      if (holdings.holds(leaseKey) || isFinished(lease)) continue;
      if (leaseOwner !== this.#workerId) tasks.push(holdings.passOn(lease));
      else if (checkpointOwner === undefined) tasks.push(holdings.adopt(lease));
      else holdings.expect(leaseKey);
    }
    await Promise.all(tasks);
  }

  /** What a new listing says of the leases we hold. */
  #compare(holdings: Holdings): Promise<void>[] {
    const listed = new Map<string, Lease>();
    for (const lease of this.#leases) {
      if (!holdings.holds(lease.leaseKey)) continue;
      listed.set(lease.leaseKey, lease);
      if (lease.seek) holdings.seek(lease);
    }
    const tasks: Promise<void>[] = [];
    for (const leaseKey of holdings.heldKeys) {
      const lease = listed.get(leaseKey);
      // Nobody renews a native lease: this is how we learn that it is asked of us, or lost.
      const isAsked = lease?.checkpointOwner !== undefined || lease?.leaseOwner !== this.#workerId;
      if (isAsked && lease?.layout !== 'kcl') tasks.push(holdings.verify(leaseKey));
    }
    return tasks;
  }
}
