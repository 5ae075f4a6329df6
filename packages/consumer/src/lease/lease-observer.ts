import type { Lease } from './lease.js';

interface Sighting {
  readonly counter: number;
  /** When the counter was first seen at this value, on the monotonic clock. */
  readonly changedMs: number;
}

/**
 * Tells which leases have expired, by watching their counters on this machine's monotonic clock: the
 * clocks of other machines are never compared.
 */
export class LeaseObserver {
  readonly #failoverMs: number;
  #seen = new Map<string, Sighting>();

  constructor(failoverMs: number) {
    this.#failoverMs = failoverMs;
  }

  /** Takes note of a listing. @param listedMs - When it was complete. */
  observe(leases: readonly Lease[], listedMs: number): void {
    const seen = new Map<string, Sighting>();
    for (const { leaseKey, leaseCounter } of leases) {
      const before = this.#seen.get(leaseKey);
      const isChanged = before?.counter !== leaseCounter;
      seen.set(
        leaseKey,
        isChanged || !before ? { counter: leaseCounter, changedMs: listedMs } : before,
      );
    }
    this.#seen = seen;
  }

  /** True if the counter has stood still for longer than the failover time. */
  isExpired(lease: Lease, nowMs: number): boolean {
    return this.#stillMs(lease, nowMs) > this.#failoverMs;
  }

  /** True if the counter has stood still for so long that others had time enough to take the lease. */
  isOrphaned(lease: Lease, nowMs: number): boolean {
    return this.#stillMs(lease, nowMs) > 3 * this.#failoverMs;
  }

  #stillMs({ leaseKey }: Lease, nowMs: number): number {
    return nowMs - (this.#seen.get(leaseKey)?.changedMs ?? nowMs);
  }
}
