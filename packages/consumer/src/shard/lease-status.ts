import type { Position } from '@shardline/shared';

import { isFinished, type Lease, leaseKeyOf, ownerOf } from '../lease/lease.js';

/** A shard of the application as the table tells of it, whoever reads it. */
export interface LeaseStatus {
  readonly shardId: string;
  /** If the application reads several streams: `account:name:creationSeconds`. */
  readonly streamId: string | undefined;
  readonly owner: string | undefined;
  /** During a hand-over, who gets it. */
  readonly nextOwner: string | undefined;
  readonly state: 'unowned' | 'waitingForParent' | 'owned' | 'handingOver' | 'finished';
  /** Why it is in that state. */
  readonly reason: string;
  /** Up to where all records are handled, as stored. */
  readonly position: Position;
  /** As measured by its owner, in KiB a second. */
  readonly throughputKBps: number | undefined;
  readonly isFinished: boolean;
}

/** @param leases - All leases by their keys. */
export function describeLease(lease: Lease, leases: ReadonlyMap<string, Lease>): LeaseStatus {
  const { shardId, streamId, checkpoint, throughputKBps } = lease;
  const owner = ownerOf(lease);
  const nextOwner = lease.checkpointOwner === undefined ? undefined : lease.leaseOwner;
  const openParent = lease.parentShardIds.find((id) => {
    const parent = leases.get(leaseKeyOf(streamId, id));
    return parent !== undefined && !isFinished(parent);
  });
  const about = { shardId, streamId, owner, nextOwner, position: checkpoint, throughputKBps };
  const is = (state: LeaseStatus['state'], reason: string): LeaseStatus => ({
    ...about,
    state,
    reason,
    isFinished: state === 'finished',
  });
  if (isFinished(lease)) return is('finished', 'all its records are handled');
  if (nextOwner !== undefined) return is('handingOver', `handing over to ${nextOwner}`);
  if (openParent !== undefined) {
    return is('waitingForParent', `parent ${openParent} is not finished`);
  }
  if (owner === undefined) return is('unowned', 'nobody reads it yet');
  return is('owned', `read by ${owner}`);
}
