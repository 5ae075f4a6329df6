import type { HashRange, Position } from '@shardline/shared';

/** One row of the lease table: who reads a shard, and how far it was read. */
export interface Lease {
  readonly leaseKey: string;
  /** Grows by one with every write of its owner or a taker: the only fencing token. */
  readonly leaseCounter: number;
  /** Absent if nobody owns the shard. During a hand-over the next owner. */
  readonly leaseOwner: string | undefined;
  /** Present during a hand-over: who still owns the shard. */
  readonly checkpointOwner: string | undefined;
  readonly ownerSwitchesSinceCheckpoint: number;
  readonly checkpoint: Position;
  /** Shards that must be finished before this one is started. */
  readonly parentShardIds: readonly string[];
  readonly childShardIds: readonly string[];
  readonly hashRange: HashRange | undefined;
}

/** Who reads the shard now. */
export function ownerOf(lease: Lease): string | undefined {
  return lease.checkpointOwner ?? lease.leaseOwner;
}

/** True if every record of the shard has been handled. */
export function isFinished(lease: Lease): boolean {
  return lease.checkpoint.sequenceNumber === 'SHARD_END';
}

/** A lease as it is first written. */
export function newLease(
  fields: Pick<Lease, 'leaseKey' | 'checkpoint' | 'parentShardIds' | 'hashRange'>,
): Lease {
  return {
    ...fields,
    leaseCounter: 0,
    leaseOwner: undefined,
    checkpointOwner: undefined,
    ownerSwitchesSinceCheckpoint: 0,
    childShardIds: [],
  };
}
