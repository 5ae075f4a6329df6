import { compareSequenceNumbers, type HashRange, type Position } from '@shardline/shared';

import { isFinished, type Lease, type LeaseOrigin, newLease } from '../lease/lease.js';

/** A shard as the service lists it. */
export interface Shard {
  readonly shardId: string;
  readonly range: HashRange;
  readonly parentShardIds: readonly string[];
  readonly isOpen: boolean;
  readonly startingSequenceNumber: string;
}

/** Where an application begins that has no position yet. */
export type InitialPosition = 'TRIM_HORIZON' | 'LATEST' | { readonly timestamp: Date };

/** The position of a lease that has read nothing yet. */
function initialCheckpoint(position: InitialPosition): Position {
  const sequenceNumber = typeof position === 'string' ? position : 'AT_TIMESTAMP';
  return { sequenceNumber, subSequenceNumber: 0 };
}

/** The first leases of an application: one for each shard that the position's filter lists. */
export function firstLeases(
  shards: readonly Shard[],
  position: InitialPosition,
  origin: LeaseOrigin,
): Lease[] {
  return shards.map((shard) => leaseFor(shard, initialCheckpoint(position), origin));
}

/**
 * Leases that are missing beside those there are: exactly one generation of each lineage, never a
 * parent together with its own child. Later generations appear when their parents end.
 *
 * @param shards - All listed shards, open and closed.
 */
export function missingLeases(
  shards: readonly Shard[],
  leases: readonly Lease[],
  position: InitialPosition,
  origin: LeaseOrigin,
): Lease[] {
  const listed = new Map(shards.map((shard) => [shard.shardId, shard]));
  const leased = new Set(leases.map(({ shardId }) => shardId));
  const initial = initialCheckpoint(position);
  const isLatest = position === 'LATEST';
  const isTimestamp = typeof position !== 'string';
  const wanted = new Set<string>();
  const created = new Map<string, Lease>();
  const memo = new Map<string, boolean>();

  const create = (shard: Shard, checkpoint: Position): void => {
    if (!created.has(shard.shardId))
      created.set(shard.shardId, leaseFor(shard, checkpoint, origin));
  };

  /** True if the shard is leased or descends from one that is, or that will be. */
  const visit = (shardId: string): boolean => {
    const known = memo.get(shardId);
    if (known !== undefined) return known;
    const result = visitOnce(shardId);
    memo.set(shardId, result);
    return result;
  };
  const visitOnce = (shardId: string): boolean => {
    const shard = listed.get(shardId);
    if (!shard) return false;
    if (leased.has(shardId)) return true;
    const parents = shard.parentShardIds.flatMap((id) => listed.get(id) ?? []);
    const covered = new Set(
      parents.filter(({ shardId: id }) => visit(id) || wanted.has(id)).map(({ shardId: id }) => id),
    );
    if (covered.size === 0) {
      if (!isLatest) wanted.add(shardId);
      return false;
    }
    for (const parent of parents) {
      if (leased.has(parent.shardId)) continue;
      const isCovered = covered.has(parent.shardId);
      if (isCovered && !wanted.has(parent.shardId)) continue;
      const checkpoint =
        isCovered && !isTimestamp
          ? { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 }
          : initial;
      create(parent, checkpoint);
    }
    return true;
  };

  for (const shard of shards) {
    if (shard.isOpen && !leased.has(shard.shardId) && !visit(shard.shardId)) create(shard, initial);
  }
  return [...created.values()].sort((a, b) => {
    const [first, second] = [listed.get(a.shardId), listed.get(b.shardId)];
    return compareStarts(first?.startingSequenceNumber ?? '', second?.startingSequenceNumber ?? '');
  });
}

/** Leases of the children of a shard that has been read to its end. */
export function childLeases(
  children: readonly Omit<Shard, 'isOpen' | 'startingSequenceNumber'>[],
  origin: LeaseOrigin,
): Lease[] {
  return children.map((child) =>
    leaseFor(child, { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 }, origin),
  );
}

/**
 * Finished leases that nobody needs any more: the stream has forgotten their shards, their children have
 * begun, and no parent of theirs is left that would look for them. While a shard is listed its lease
 * stays: a worker that was stopped in the middle of a look at the shards could make it anew and have the
 * shard read again.
 *
 * @param shards - All listed shards.
 */
export function removableLeases(leases: readonly Lease[], shards: readonly Shard[]): Lease[] {
  const listed = new Set(shards.map(({ shardId }) => shardId));
  const byId = new Map(leases.map((lease) => [lease.shardId, lease]));
  return leases.filter((lease) => {
    if (!isFinished(lease) || lease.childShardIds.length === 0) return false;
    if (listed.has(lease.shardId)) return false;
    const haveBegun = lease.childShardIds.every((id) => {
      const child = byId.get(id);
      return child && !['TRIM_HORIZON', 'AT_TIMESTAMP'].includes(child.checkpoint.sequenceNumber);
    });
    return haveBegun && !lease.parentShardIds.some((id) => byId.has(id));
  });
}

/**
 * Unfinished leases of shards that the stream has forgotten, such as after a worker fleet was away for
 * longer than the retention: nothing of them can be read any more, and their children wait for them. A
 * shard that was just born may be missing from a listing, too, but it is younger than all that are listed.
 */
export function forgottenLeases(leases: readonly Lease[], shards: readonly Shard[]): Lease[] {
  const listed = new Set(shards.map(({ shardId }) => shardId));
  return leases.filter(
    (lease) =>
      !isFinished(lease) &&
      !listed.has(lease.shardId) &&
      shards.some(({ shardId }) => compareShardIds(shardId, lease.shardId) > 0),
  );
}

/**
 * Leases of a stream of the same name that was deleted before this one was created: their positions say
 * nothing of it.
 */
export function formerLeases(leases: readonly Lease[], epochSeconds: number): Lease[] {
  return leases.filter(
    ({ streamEpochSeconds }) =>
      streamEpochSeconds !== undefined && streamEpochSeconds !== epochSeconds,
  );
}

/** Younger shards have greater numbers; ids of another form compare as text. */
export function compareShardIds(a: string, b: string): number {
  const [first, second] = [a.split('-').at(-1) ?? '', b.split('-').at(-1) ?? ''];
  if (!/^\d+$/.test(first) || !/^\d+$/.test(second)) return a < b ? -1 : a > b ? 1 : 0;
  return compareSequenceNumbers(first, second);
}

function leaseFor(
  shard: Pick<Shard, 'shardId' | 'parentShardIds' | 'range'>,
  checkpoint: Position,
  origin: LeaseOrigin,
): Lease {
  return newLease(origin, {
    shardId: shard.shardId,
    checkpoint,
    parentShardIds: shard.parentShardIds,
    hashRange: shard.range,
  });
}

function compareStarts(a: string, b: string): number {
  return a.length - b.length || (a < b ? -1 : a > b ? 1 : 0);
}
