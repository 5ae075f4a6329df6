import type { Random } from '@shardline/shared';

import { isFinished, type Lease, ownerOf } from '../lease/lease.js';

export interface TakingInput {
  readonly leases: readonly Lease[];
  readonly workerId: string;
  /** Most leases this worker takes. */
  readonly maxLeases: number;
  /** True for leases that stand still for longer than the failover time. */
  readonly isExpired: (lease: Lease) => boolean;
  /** True for leases that have stood still for so long that somebody must take them, whatever the shares. */
  readonly isOrphaned: (lease: Lease) => boolean;
  readonly random: Random;
}

/** What a worker takes in one round. */
export interface TakingPlan {
  /** Nobody has them. */
  readonly free: readonly Lease[];
  /** Their owners live. */
  readonly stolen: readonly Lease[];
}

/** Most leases stolen in one round, as the KCL's default. */
const MAX_STOLEN = 1;

/**
 * Which leases a worker takes in one round beside workers of a KCL 2.x, which know nothing of leaders and
 * hand-overs: its share of what is free, and when nothing is, one lease of the fullest worker, which learns
 * of it at its next renewal. Unlike the KCL's it does not take everything at once from an empty table.
 */
export function planTakes(input: TakingInput): TakingPlan {
  const { workerId, maxLeases, isExpired, isOrphaned, random } = input;
  const active = input.leases.filter((lease) => !isFinished(lease) && lease.layout === 'kcl');
  const free: Lease[] = [];
  const shares = new Map<string, Lease[]>([[workerId, []]]);
  for (const lease of active) {
    const owner = ownerOf(lease);
    if (owner === undefined || isExpired(lease)) free.push(lease);
    else shares.set(owner, [...(shares.get(owner) ?? []), lease]);
  }
  const mine = shares.get(workerId)?.length ?? 0;
  const target = Math.min(Math.ceil(active.length / shares.size), maxLeases);
  const needed = Math.max(target - mine, 0);
  const room = Math.max(maxLeases - mine, 0);
  if (free.length > 0) {
    const taken = shuffled(free, random)
      .filter((lease, index) => index < needed || isOrphaned(lease))
      .slice(0, room);
    return { free: taken, stolen: [] };
  }
  if (needed === 0) return { free: [], stolen: [] };
  const [fullest = []] = [...shares.values()].sort((a, b) => b.length - a.length);
  const surplus = Math.min(needed, fullest.length - target);
  // A worker that lacks more than one takes one from a fullest worker that has just its share.
  const count = surplus > 0 ? Math.min(surplus, MAX_STOLEN) : needed > 1 ? 1 : 0;
  const isFull = fullest.length >= target;
  return { free: [], stolen: isFull ? shuffled(fullest, random).slice(0, count) : [] };
}

function shuffled<Item>(items: readonly Item[], random: Random): Item[] {
  const result = [...items];
  for (let last = result.length - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [result[last], result[other]] = [result[other] as Item, result[last] as Item];
  }
  return result;
}
