import type { Lease, Progress, SeekTarget } from './lease.js';

/** What became of a renewal. */
export type Renewal =
  | { readonly kind: 'renewed'; readonly lease: Lease }
  /** Still ours, not yet renewed: another worker waits for it. */
  | { readonly kind: 'handOverRequested'; readonly lease: Lease }
  | { readonly kind: 'lost' };

/**
 * Where leases are kept. Every method is one conditional write or read; a condition that fails is a
 * result, not an error. A write whose answer was lost is recognised as ours when it is tried again.
 */
export interface LeaseStore {
  /** Creates what is missing and resolves when it can be used. */
  prepare(signal: AbortSignal): Promise<void>;
  /** All leases; may miss the latest writes of others. */
  list(): Promise<readonly Lease[]>;
  /** One lease, with all writes that were acknowledged. */
  get(leaseKey: string): Promise<Lease | undefined>;
  /** False if there is one already. */
  create(lease: Lease): Promise<boolean>;
  /** Adds one to the counter, if it is what we think it is. */
  renew(lease: Lease, workerId: string): Promise<Renewal>;
  /** Makes a worker the owner, if the counter is what we think it is. Undefined if it is not. */
  take(lease: Lease, workerId: string): Promise<Lease | undefined>;
  /** Asks the owner for the shard. False if it is not the owner, or somebody else asked before. */
  requestHandOver(lease: Lease, nextOwner: string): Promise<boolean>;
  /** Ends a hand-over: the next owner owns it. False if the lease is not ours any more. */
  completeHandOver(lease: Lease, workerId: string): Promise<boolean>;
  /** Gives the shard to nobody. False if the lease is not ours any more, or somebody asked for it. */
  release(lease: Lease, workerId: string): Promise<boolean>;
  /** Stores how far its owner is, and counts as a renewal. Undefined if the lease is not ours any more. */
  checkpoint(lease: Lease, workerId: string, progress: Progress): Promise<Lease | undefined>;
  /** Asks whoever reads the shard, now or next, to go on elsewhere. False if there is no such lease. */
  requestSeek(leaseKey: string, target: SeekTarget): Promise<boolean>;
  /**
   * Moves the position anywhere, back too, and takes back what was asked for by
   * {@link requestSeek}; counts as a renewal. Undefined if the counter is not what we think it is.
   *
   * @param workerId - Of the owner; undefined if it has none.
   */
  seek(lease: Lease, workerId: string | undefined, progress: Progress): Promise<Lease | undefined>;
  /** Notes the children of a shard; no condition but that the lease exists. */
  setChildren(leaseKey: string, childShardIds: readonly string[]): Promise<void>;
  delete(leaseKey: string): Promise<void>;
  close(): void;
}
