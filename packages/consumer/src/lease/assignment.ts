import { isFinished, type Lease, ownerOf } from './lease.js';

export interface AssignmentInput {
  readonly leases: readonly Lease[];
  readonly workerId: string;
  /** Most leases one worker takes. */
  readonly maxLeases: number;
  /** True for leases whose owner has not been heard of for the failover time. */
  readonly isExpired: (lease: Lease) => boolean;
  /** True for leases that have stood still for so long that somebody must take them, whatever the shares. */
  readonly isOrphaned: (lease: Lease) => boolean;
  /** Any number that is always the same for the same text: what decides where nothing else does. */
  readonly rank: (text: string) => number;
}

/** A lease that is to go from its living owner to another. */
interface Move {
  readonly lease: Lease;
  readonly to: string;
}

/** What one worker does in one round. */
export interface AssignmentPlan {
  /** Unowned or expired leases to take. */
  readonly take: readonly Lease[];
  /** Leases whose owners are asked to hand them over. */
  readonly moves: readonly Move[];
}

/** Leases by who has them, or will once their hand-over ends. */
type Shares = Map<string, Lease[]>;

/**
 * Decides what a worker does about the leases. Everybody takes its share of what is free. From the
 * living to the living the leader alone moves leases, all that balance needs at once, and none between
 * shares that are equal or differ by one. A newcomer, of whom no lease tells yet, asks for a single one:
 * then the leader knows of it.
 */
export function planAssignment(input: AssignmentInput): AssignmentPlan {
  const { workerId, maxLeases, isExpired, isOrphaned, rank } = input;
  const active = input.leases.filter((lease) => !isFinished(lease));
  const available: Lease[] = [];
  const shares: Shares = new Map([[workerId, []]]);
  for (const lease of active) {
    if (lease.leaseOwner === undefined || isExpired(lease)) available.push(lease);
    else {
      const share = shares.get(lease.leaseOwner);
      if (share) share.push(lease);
      else shares.set(lease.leaseOwner, [lease]);
    }
  }
  const mine = shares.get(workerId)?.length ?? 0;
  const target = Math.min(Math.ceil(active.length / shares.size), maxLeases);
  const share = Math.max(target - mine, 0);
  const room = Math.max(maxLeases - mine, 0);
  // Workers begin at different leases. A share may belong to a worker that only seems to live: what
  // nobody took for long is anybody's.
  const take = inOrder(available, ({ leaseKey }) => rank(`${workerId} ${leaseKey}`))
    .filter((lease, index) => index < share || isOrphaned(lease))
    .slice(0, room);
  // What is free is shared out first; the living are asked when nothing free is left.
  if (take.length < available.length) return { take, moves: [] };
  shares.get(workerId)?.push(...take);
  if (leaderOf(active, isExpired, rank) === workerId) {
    return { take, moves: planMoves(shares, maxLeases, rank) };
  }
  const isNewcomer = mine + take.length === 0 && maxLeases > 0;
  return { take, moves: isNewcomer ? planMoves(shares, 1, rank, workerId) : [] };
}

/**
 * The worker that balances the fleet: of all whose leases tell that they live, the one of the lowest
 * rank. One that dies ceases to be it when its leases expire; two that see different listings for a
 * moment may both act, which the conditions of the writes make harmless.
 */
export function leaderOf(
  leases: readonly Lease[],
  isExpired: (lease: Lease) => boolean,
  rank: (text: string) => number,
): string | undefined {
  const living = new Set<string>();
  for (const lease of leases) {
    const owner = ownerOf(lease);
    if (owner !== undefined && !isFinished(lease) && !isExpired(lease)) living.add(owner);
  }
  return [...living].sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))[0];
}

/**
 * Moves from the fullest to the emptiest until they differ by one at most.
 *
 * @param only - The only worker that gets any; else all do.
 */
function planMoves(
  shares: Shares,
  maxLeases: number,
  rank: (text: string) => number,
  only?: string,
): Move[] {
  const loads = [...shares].map(([workerId, leases]) => ({
    workerId,
    /** Of workers with equally many, always the same comes first. */
    order: rank(workerId),
    count: leases.length,
    movable: inOrder(
      leases.filter(
        (lease) => lease.checkpointOwner === undefined && lease.leaseOwner === workerId,
      ),
      ({ leaseKey }) => rank(leaseKey),
    ),
  }));
  const moves: Move[] = [];
  for (;;) {
    const from = least(
      loads.filter(({ movable }) => movable.length > 0),
      ({ count }) => -count,
    );
    const to = least(
      loads.filter(({ workerId, count }) => count < maxLeases && (only ?? workerId) === workerId),
      ({ count }) => count,
    );
    if (!from || !to || from.count - to.count < 2) return moves;
    moves.push({ lease: from.movable.shift() as Lease, to: to.workerId });
    from.count -= 1;
    to.count += 1;
  }
}

/** Sorted by a number that is asked for once an item. */
function inOrder<Item>(items: readonly Item[], numberOf: (item: Item) => number): Item[] {
  return items
    .map((item) => ({ item, number: numberOf(item) }))
    .sort((a, b) => a.number - b.number)
    .map(({ item }) => item);
}

/** The one of the lowest number, and of those the one of the lowest order. */
function least<Load extends { readonly order: number }>(
  loads: readonly Load[],
  numberOf: (load: Load) => number,
): Load | undefined {
  let best: Load | undefined;
  for (const load of loads) {
    const difference = best ? numberOf(load) - numberOf(best) || load.order - best.order : -1;
    if (difference < 0) best = load;
  }
  return best;
}
