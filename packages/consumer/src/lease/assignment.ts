import { isFinished, type Lease } from './lease.js';

export interface AssignmentInput {
  readonly leases: readonly Lease[];
  readonly workerId: string;
  /** Most leases this worker takes. */
  readonly maxLeases: number;
  /** True for leases whose owner has not been heard of for the failover time. */
  readonly isExpired: (lease: Lease) => boolean;
  /** True for leases that have stood still for so long that somebody must take them, whatever the shares. */
  readonly isOrphaned: (lease: Lease) => boolean;
  /** A number that differs from worker to worker for one lease: workers begin at different ones. */
  readonly rank: (leaseKey: string) => number;
}

/** What one worker does in one round. */
export interface AssignmentPlan {
  /** Unowned or expired leases to take. */
  readonly take: readonly Lease[];
  /** Leases to ask their owners for. */
  readonly request: readonly Lease[];
}

/**
 * Decides what a worker takes and asks for. A shard moves from a living worker only if that has at
 * least two more than this one, so that equal and almost equal loads stay as they are.
 */
export function planAssignment(input: AssignmentInput): AssignmentPlan {
  const { workerId, maxLeases, isExpired, isOrphaned, rank } = input;
  const active = input.leases.filter((lease) => !isFinished(lease));
  const available: Lease[] = [];
  // During a hand-over a lease counts for its next owner: what was asked for is not asked for twice.
  const byOwner = new Map<string, Lease[]>([[workerId, []]]);
  for (const lease of active) {
    if (lease.leaseOwner === undefined || isExpired(lease)) available.push(lease);
    else byOwner.set(lease.leaseOwner, [...(byOwner.get(lease.leaseOwner) ?? []), lease]);
  }
  let mine = byOwner.get(workerId)?.length ?? 0;
  const target = Math.min(Math.ceil(active.length / byOwner.size), maxLeases);
  const byRank = (a: Lease, b: Lease): number => rank(a.leaseKey) - rank(b.leaseKey);
  const share = Math.max(target - mine, 0);
  const room = Math.max(maxLeases - mine, 0);
  // A share may belong to a worker that only seems to live: what nobody took for long is anybody's.
  const take = available
    .sort(byRank)
    .filter((lease, index) => index < share || isOrphaned(lease))
    .slice(0, room);
  mine += take.length;

  byOwner.delete(workerId);
  const donors = [...byOwner.values()].map((leases) => ({
    count: leases.length,
    movable: leases.filter((lease) => lease.checkpointOwner === undefined).sort(byRank),
  }));
  const request: Lease[] = [];
  // What is free is shared out first; the living are asked when nothing free is left.
  while (take.length === available.length && mine < maxLeases) {
    const donor = donors
      .filter(({ movable }) => movable.length > 0)
      .reduce<(typeof donors)[number] | undefined>(
        (best, each) => (best && best.count >= each.count ? best : each),
        undefined,
      );
    if (!donor || donor.count - mine < 2) break;
    request.push(donor.movable.shift() as Lease);
    donor.count -= 1;
    mine += 1;
  }
  return { take, request };
}
