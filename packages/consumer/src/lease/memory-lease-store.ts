import type { LeaseStore, Renewal } from './lease-store.js';
import { isSameProgress, type Lease, ownerOf, type Progress, type SeekTarget } from './lease.js';

/** Leases in this process, under the conditions a table would check. */
export class MemoryLeaseStore implements LeaseStore {
  readonly #leases = new Map<string, Lease>();

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  list(): Promise<readonly Lease[]> {
    return Promise.resolve([...this.#leases.values()]);
  }

  get(leaseKey: string): Promise<Lease | undefined> {
    return Promise.resolve(this.#leases.get(leaseKey));
  }

  create(lease: Lease): Promise<boolean> {
    if (this.#leases.has(lease.leaseKey)) return Promise.resolve(false);
    this.#leases.set(lease.leaseKey, lease);
    return Promise.resolve(true);
  }

  renew(lease: Lease, workerId: string): Promise<Renewal> {
    const current = this.#leases.get(lease.leaseKey);
    if (!current) return Promise.resolve({ kind: 'lost' });
    const isNewHandOver = current.checkpointOwner !== undefined && !lease.checkpointOwner;
    if (current.leaseCounter === lease.leaseCounter && !isNewHandOver) {
      return Promise.resolve({ kind: 'renewed', lease: this.#write(current, {}) });
    }
    return Promise.resolve(renewalAfterRefusal(lease, current, workerId));
  }

  take(lease: Lease, workerId: string): Promise<Lease | undefined> {
    const current = this.#leases.get(lease.leaseKey);
    if (!current) return Promise.resolve(undefined);
    if (current.leaseCounter !== lease.leaseCounter) {
      return Promise.resolve(isOwnWrite(lease, current, workerId) ? current : undefined);
    }
    return Promise.resolve(
      this.#write(current, {
        leaseOwner: workerId,
        checkpointOwner: undefined,
        ownerSwitchesSinceCheckpoint: current.ownerSwitchesSinceCheckpoint + 1,
      }),
    );
  }

  requestHandOver(lease: Lease, nextOwner: string): Promise<boolean> {
    const current = this.#leases.get(lease.leaseKey);
    if (current?.leaseOwner !== lease.leaseOwner || !current || current.checkpointOwner) {
      return Promise.resolve(false);
    }
    this.#leases.set(lease.leaseKey, {
      ...current,
      leaseOwner: nextOwner,
      checkpointOwner: current.leaseOwner,
    });
    return Promise.resolve(true);
  }

  completeHandOver(lease: Lease, workerId: string): Promise<boolean> {
    const current = this.#leases.get(lease.leaseKey);
    if (current?.leaseCounter !== lease.leaseCounter || current?.checkpointOwner !== workerId) {
      return Promise.resolve(false);
    }
    this.#write(current, { checkpointOwner: undefined });
    return Promise.resolve(true);
  }

  release(lease: Lease, workerId: string): Promise<boolean> {
    const current = this.#leases.get(lease.leaseKey);
    if (
      !current ||
      current.leaseCounter !== lease.leaseCounter ||
      current.leaseOwner !== workerId
    ) {
      return Promise.resolve(false);
    }
    this.#write(current, { leaseOwner: undefined });
    return Promise.resolve(true);
  }

  checkpoint(lease: Lease, workerId: string, progress: Progress): Promise<Lease | undefined> {
    return Promise.resolve(
      this.#progress(lease, workerId, { ...progress, ownerSwitchesSinceCheckpoint: 0 }),
    );
  }

  requestSeek(leaseKey: string, target: SeekTarget): Promise<boolean> {
    const current = this.#leases.get(leaseKey);
    if (current) this.#leases.set(leaseKey, { ...current, seek: target });
    return Promise.resolve(current !== undefined);
  }

  seek(lease: Lease, workerId: string | undefined, progress: Progress): Promise<Lease | undefined> {
    return Promise.resolve(this.#progress(lease, workerId, { ...progress, seek: undefined }));
  }

  setChildren(leaseKey: string, childShardIds: readonly string[]): Promise<void> {
    const current = this.#leases.get(leaseKey);
    if (current) this.#leases.set(leaseKey, { ...current, childShardIds });
    return Promise.resolve();
  }

  delete(leaseKey: string): Promise<void> {
    this.#leases.delete(leaseKey);
    return Promise.resolve();
  }

  close(): void {}

  #progress(
    lease: Lease,
    workerId: string | undefined,
    change: Progress & Partial<Lease>,
  ): Lease | undefined {
    const current = this.#leases.get(lease.leaseKey);
    if (!current) return undefined;
    if (current.leaseCounter === lease.leaseCounter) return this.#write(current, change);
    return isOwnWrite(lease, current, workerId) && isSameProgress(current, change)
      ? current
      : undefined;
  }

  #write(current: Lease, change: Partial<Lease>): Lease {
    const lease = { ...current, ...change, leaseCounter: current.leaseCounter + 1 };
    this.#leases.set(lease.leaseKey, lease);
    return lease;
  }
}

/** True if what stands in the store is what our own write, whose answer was lost, put there. */
export function isOwnWrite(before: Lease, current: Lease, workerId: string | undefined): boolean {
  return current.leaseCounter === before.leaseCounter + 1 && ownerOf(current) === workerId;
}

/** What a renewal that was refused means, given what stands in the store. */
export function renewalAfterRefusal(lease: Lease, current: Lease, workerId: string): Renewal {
  const isUnchanged = current.leaseCounter === lease.leaseCounter;
  if (ownerOf(current) !== workerId || (!isUnchanged && !isOwnWrite(lease, current, workerId))) {
    return { kind: 'lost' };
  }
  const isNewHandOver = current.checkpointOwner !== undefined && !lease.checkpointOwner;
  return { kind: isNewHandOver ? 'handOverRequested' : 'renewed', lease: current };
}
