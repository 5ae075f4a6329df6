import { isFinished, type Lease } from '../lease/lease.js';

/** A worker that leases may be given to. */
export interface Candidate {
  readonly workerId: string;
  /** Most leases it takes. */
  readonly maxLeases: number;
  /** True if it wants to be rid of all it has. */
  readonly isLeaving: boolean;
  /** Streams it reads; undefined if the application has one stream. */
  readonly streams: readonly string[] | undefined;
}

export interface FleetInput {
  readonly leases: readonly Lease[];
  /** All that live. */
  readonly workers: readonly Candidate[];
  /** True for leases whose owners have not been heard of for the failover time. */
  readonly isExpired: (lease: Lease) => boolean;
  /** True if the measured throughput of the leases has had time to settle since leases were last moved. */
  readonly isSettled: boolean;
  /** Any number that is always the same for the same text: what decides where nothing else does. */
  readonly rank: (text: string) => number;
}

/** A lease and who is to have it. */
export interface Move {
  readonly lease: Lease;
  readonly to: string;
}

/** What the leader of a fleet does in one round. */
export interface FleetPlan {
  /** Leases nobody has, or whose owners are dead, to give to somebody. */
  readonly assign: readonly Move[];
  /** Leases whose owners are asked to hand them over. */
  readonly moves: readonly Move[];
}

/** Most hand-overs asked for in one round. */
const MAX_MOVES = 1_000;
/** Leases change places for the sake of throughput only if a worker is this far above the mean. */
const THROUGHPUT_TOLERANCE = 1.2;
/** A mean below this is no load: nothing is moved for it. Unit: KiB a second. */
const IDLE_KBPS = 64;
/** Most leases of one worker that are compared with those of another. */
const MAX_COMPARED = 200;
/** Most pairs of workers that exchange leases for the sake of throughput in one round. */
const MAX_EXCHANGES = 8;

interface Load {
  readonly worker: Candidate;
  /** Of workers that are alike in all else, always the same comes first. */
  readonly order: number;
  /** Leases it has, or will have once their hand-overs end. */
  count: number;
  throughputKBps: number;
  /** What it can be asked for. */
  readonly movable: Lease[];
}

/**
 * Decides who has which lease, for the whole fleet. Everything free is given away; from the living to
 * the living goes what balance needs, all of it at once: first by number, to a difference of one at most,
 * and then, when nothing else moves and the load is worth it, by throughput, one lease for another. Equal
 * input gives equal plans, and a balanced fleet an empty one.
 */
export function planFleet(input: FleetInput): FleetPlan {
  const { workers, isExpired, rank } = input;
  const active = input.leases.filter((lease) => !isFinished(lease));
  const usualKBps = usualThroughput(active);
  const loads = workers.map((worker): Load => ({
    worker,
    order: rank(worker.workerId),
    count: 0,
    throughputKBps: 0,
    movable: [],
  }));
  const byId = new Map(loads.map((load) => [load.worker.workerId, load]));
  const free: Lease[] = [];
  for (const lease of active) {
    const owner = lease.leaseOwner;
    if (owner === undefined || isExpired(lease)) {
      free.push(lease);
      continue;
    }
    const load = byId.get(owner);
    if (!load) continue;
    load.count += 1;
    load.throughputKBps += lease.throughputKBps ?? usualKBps;
    if (lease.checkpointOwner === undefined) load.movable.push(lease);
  }
  for (const { movable } of loads) sortByRank(movable, rank);
  const assign = deal(sortByRank(free, rank), loads, usualKBps);
  const moves = [...clearMisplaced(loads, usualKBps), ...evenCounts(loads, usualKBps)];
  const isBusy = assign.length + moves.length > 0;
  if (isBusy || !input.isSettled || active.some((lease) => lease.checkpointOwner !== undefined)) {
    return { assign, moves: moves.slice(0, MAX_MOVES) };
  }
  return { assign, moves: exchange(loads, usualKBps) };
}

/** What a lease counts for whose throughput nobody has measured. */
function usualThroughput(leases: readonly Lease[]): number {
  const known = leases.flatMap(({ throughputKBps }) => throughputKBps ?? []);
  return known.length === 0 ? 0 : known.reduce((sum, each) => sum + each, 0) / known.length;
}

/** Gives free leases to those with the fewest. */
function deal(free: readonly Lease[], loads: readonly Load[], usualKBps: number): Move[] {
  return free.flatMap((lease) => {
    const to = least(loads.filter((load) => takes(load, lease)));
    return to ? [give(lease, to, usualKBps)] : [];
  });
}

/** Finds new owners for what leaving workers have, and for leases of streams their owners do not read. */
function clearMisplaced(loads: readonly Load[], usualKBps: number): Move[] {
  const moves: Move[] = [];
  for (const from of loads) {
    const { worker, movable } = from;
    const misplaced = movable.filter((lease) => worker.isLeaving || !reads(worker, lease));
    for (const lease of misplaced) {
      movable.splice(movable.indexOf(lease), 1);
      const to = least(loads.filter((load) => takes(load, lease)));
      if (to) moves.push(give(lease, to, usualKBps, from));
    }
  }
  return moves;
}

/** Moves from the fullest to the emptiest until they differ by one at most. */
function evenCounts(loads: readonly Load[], usualKBps: number): Move[] {
  const moves: Move[] = [];
  const givers = loads.filter(({ worker, movable }) => !worker.isLeaving && movable.length > 0);
  for (;;) {
    const from = least(
      givers.filter(({ movable }) => movable.length > 0),
      -1,
    );
    if (!from) return moves;
    const to = least(loads.filter((load) => canTake(load) && from.count - load.count >= 2));
    const lease = to && takeFitting(from, to);
    if (!lease) {
      const index = givers.indexOf(from);
      givers.splice(index, 1);
      continue;
    }
    moves.push(give(lease, to, usualKBps, from));
  }
}

/** Of what one can give and the other takes, the lease that brings their throughputs closest. */
function takeFitting(from: Load, to: Load): Lease | undefined {
  const wanted = (from.throughputKBps - to.throughputKBps) / 2;
  let best = -1;
  let bestMiss = Infinity;
  for (const [index, lease] of from.movable.entries()) {
    if (!reads(to.worker, lease)) continue;
    const miss = Math.abs((lease.throughputKBps ?? wanted) - wanted);
    if (miss < bestMiss) [best, bestMiss] = [index, miss];
    // Without measured loads the first is as good as any.
    if (wanted === 0 && bestMiss === 0) break;
  }
  return best < 0 ? undefined : from.movable.splice(best, 1)[0];
}

/**
 * Lets workers far above the mean throughput exchange a lease with one below it, so that neither gets
 * more leases, where that brings the two a good part closer.
 */
function exchange(loads: readonly Load[], usualKBps: number): Move[] {
  const staying = loads.filter(({ worker }) => !worker.isLeaving);
  const total = staying.reduce((sum, { throughputKBps }) => sum + throughputKBps, 0);
  const mean = total / staying.length;
  if (!(mean >= IDLE_KBPS)) return [];
  const sorted = staying.sort((a, b) => b.throughputKBps - a.throughputKBps || a.order - b.order);
  const moves: Move[] = [];
  for (let pair = 0; pair < Math.min(MAX_EXCHANGES, Math.floor(sorted.length / 2)); pair += 1) {
    const [high, low] = [sorted[pair] as Load, sorted[sorted.length - 1 - pair] as Load];
    if (high.throughputKBps < mean * THROUGHPUT_TOLERANCE) break;
    const found = bestExchange(high, low, usualKBps, mean);
    if (!found) continue;
    moves.push({ lease: found.given, to: low.worker.workerId });
    if (found.back) moves.push({ lease: found.back, to: high.worker.workerId });
  }
  return moves;
}

function bestExchange(
  high: Load,
  low: Load,
  usualKBps: number,
  mean: number,
): { readonly given: Lease; readonly back: Lease | undefined } | undefined {
  const loadOf = (lease: Lease): number => lease.throughputKBps ?? usualKBps;
  const gap = high.throughputKBps - low.throughputKBps;
  // A single lease too many on the high side may go without one in return.
  const returns = high.count > low.count ? [undefined] : low.movable.slice(0, MAX_COMPARED);
  let best: { readonly given: Lease; readonly back: Lease | undefined } | undefined;
  let bestLeft = gap - mean * (THROUGHPUT_TOLERANCE - 1);
  for (const given of high.movable.slice(0, MAX_COMPARED)) {
    if (!canTakeInReturn(low, given, high.count > low.count)) continue;
    for (const back of returns) {
      if (back && !reads(high.worker, back)) continue;
      const left = Math.abs(gap - 2 * (loadOf(given) - (back ? loadOf(back) : 0)));
      if (left < bestLeft) [best, bestLeft] = [{ given, back }, left];
    }
  }
  return best;
}

function canTakeInReturn(load: Load, lease: Lease, isOneMore: boolean): boolean {
  return reads(load.worker, lease) && (!isOneMore || canTake(load));
}

function give(lease: Lease, to: Load, usualKBps: number, from?: Load): Move {
  const load = lease.throughputKBps ?? usualKBps;
  to.count += 1;
  to.throughputKBps += load;
  if (from) {
    from.count -= 1;
    from.throughputKBps -= load;
  }
  return { lease, to: to.worker.workerId };
}

function takes(load: Load, lease: Lease): boolean {
  return canTake(load) && reads(load.worker, lease);
}

function canTake({ worker, count }: Load): boolean {
  return !worker.isLeaving && count < worker.maxLeases;
}

/** True if a worker reads the stream a lease is of. */
function reads({ streams }: Candidate, { streamId }: Lease): boolean {
  return streamId === undefined || streams === undefined || streams.includes(streamId);
}

/** The one with the fewest leases, and of those with the least throughput; with -1 with the most. */
function least(loads: readonly Load[], sign: 1 | -1 = 1): Load | undefined {
  let best: Load | undefined;
  for (const load of loads) {
    const difference = best
      ? sign * (load.count - best.count) ||
        sign * (load.throughputKBps - best.throughputKBps) ||
        load.order - best.order
      : -1;
    if (difference < 0) best = load;
  }
  return best;
}

function sortByRank(leases: Lease[], rank: (text: string) => number): Lease[] {
  const ranks = new Map(leases.map((lease) => [lease, rank(lease.leaseKey)]));
  return leases.sort((a, b) => (ranks.get(a) ?? 0) - (ranks.get(b) ?? 0));
}
