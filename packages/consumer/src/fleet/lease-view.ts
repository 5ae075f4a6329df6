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
  #leases: readonly Lease[] = [];
  #listedMs = -Infinity;

  constructor(fleet: FleetStore, failoverMs: number, clock: Clock) {
    this.observer = new LeaseObserver(failoverMs);
    this.#fleet = fleet;
    this.#clock = clock;
  }

  get leases(): readonly Lease[] {
    return this.#leases;
  }

  /** How long ago they were listed, in milliseconds. */
  get ageMs(): number {
    return this.#clock.monotonicMs() - this.#listedMs;
  }

  /** Lists them anew. @param isConsistent - With all writes that were acknowledged before. */
  async list(isConsistent: boolean): Promise<void> {
    const { leases } = await this.#fleet.list(isConsistent);
    this.#listedMs = this.#clock.monotonicMs();
    this.#leases = leases;
    this.observer.observe(leases, this.#listedMs);
  }

  /** Sees to leases that are ours by name, are asked of us, or are to be read from elsewhere. */
  async notice(workerId: string, holdings: Holdings): Promise<void> {
    const tasks: Promise<void>[] = [];
    const listed = new Set(this.#leases.map(({ leaseKey }) => leaseKey));
    for (const key of holdings.heldKeys) if (!listed.has(key)) tasks.push(holdings.verify(key));
    for (const lease of this.#leases) {
      const { leaseKey, leaseOwner, checkpointOwner, layout } = lease;
      if (holdings.holds(leaseKey)) {
        if (lease.seek) holdings.seek(lease);
        // Nobody renews it: this is how we learn of it.
        const isAsked = checkpointOwner !== undefined || ownerOf(lease) !== workerId;
        if (layout === 'native' && isAsked) tasks.push(holdings.verify(leaseKey));
      } else if (leaseOwner === workerId && !isFinished(lease)) {
        if (checkpointOwner === undefined) tasks.push(holdings.adopt(lease));
        else holdings.expect(leaseKey);
      } else if (checkpointOwner === workerId) tasks.push(holdings.passOn(lease));
    }
    await Promise.all(tasks);
  }
}
