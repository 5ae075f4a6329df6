import type { Lease } from '../lease/lease.js';
import type { WorkerRow } from './fleet-store.js';

interface Sighting {
  readonly mark: string;
  /** When the mark was first seen, on the monotonic clock. */
  readonly changedMs: number;
}

/**
 * Tells which leases and workers have expired, by watching their counters on this machine's monotonic
 * clock: the clocks of other machines are never compared.
 */
export class LeaseObserver {
  readonly #failoverMs: number;
  #leases = new Map<string, Sighting>();
  #workers = new Map<string, Sighting>();

  constructor(failoverMs: number) {
    this.#failoverMs = failoverMs;
  }

  /** Takes note of all leases. @param listedMs - When the listing was complete. */
  observe(leases: readonly Lease[], listedMs: number): void {
    this.#leases = new Map(
      leases.map(({ leaseKey, leaseCounter, layout }) => [
        leaseKey,
        seen(this.#leases.get(leaseKey), `${layout} ${leaseCounter}`, listedMs),
      ]),
    );
  }

  /** Takes note of workers, and forgets all others. @param listedMs - When the listing was complete. */
  observeWorkers(workers: readonly WorkerRow[], listedMs: number): void {
    this.#workers = new Map(
      workers.map((worker) => [
        worker.workerId,
        seen(this.#workers.get(worker.workerId), markOf(worker), listedMs),
      ]),
    );
  }

  /** True if the row of a lease has stood still for longer than the failover time. */
  isExpired({ leaseKey }: Lease, nowMs: number): boolean {
    return age(this.#leases.get(leaseKey), nowMs) > this.#failoverMs;
  }

  /**
   * True if a lease has stood still for so long that others had time enough to take it.
   *
   * @param enoughMs - How long that is.
   */
  isOrphaned({ leaseKey }: Lease, nowMs: number, enoughMs = 3 * this.#failoverMs): boolean {
    return age(this.#leases.get(leaseKey), nowMs) > enoughMs;
  }

  /** True if a worker's heartbeat is still what it was longer ago than the failover time. */
  isDead(worker: WorkerRow, nowMs: number): boolean {
    const sighting = this.#workers.get(worker.workerId);
    return sighting?.mark === markOf(worker) && age(sighting, nowMs) > this.#failoverMs;
  }
}

function markOf({ incarnation, heartbeat }: WorkerRow): string {
  return `${incarnation} ${heartbeat}`;
}

function seen(before: Sighting | undefined, mark: string, nowMs: number): Sighting {
  return before?.mark === mark ? before : { mark, changedMs: nowMs };
}

/** What was never seen has just changed. */
function age(sighting: Sighting | undefined, nowMs: number): number {
  return sighting ? nowMs - sighting.changedMs : 0;
}
