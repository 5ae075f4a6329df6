import fc from 'fast-check';
import murmurhash from 'murmurhash3js-revisited';
import { describe, expect, it } from 'vitest';

import { type Candidate, type Move, planFleet } from '../../src/fleet/assignment.js';
import { type Lease, newLease } from '../../src/lease/lease.js';

function lease(shardId: string, leaseOwner?: string, changes: Partial<Lease> = {}): Lease {
  const checkpoint = { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 };
  return {
    ...newLease(
      { streamId: changes.streamId, streamEpochSeconds: undefined, layout: 'native' },
      { shardId, checkpoint, parentShardIds: [], hashRange: undefined },
    ),
    leaseOwner,
    ...changes,
  };
}

const worker = (workerId: string, changes: Partial<Candidate> = {}): Candidate => ({
  workerId,
  maxLeases: 1_000_000,
  isLeaving: false,
  streams: undefined,
  ...changes,
});

const rank = (text: string): number => murmurhash.x86.hash32(Buffer.from(text));

function plan(
  leases: readonly Lease[],
  workers: readonly Candidate[],
  { isSettled = false }: { isSettled?: boolean } = {},
) {
  const living = new Set(workers.map(({ workerId }) => workerId));
  return planFleet({
    leases,
    workers,
    isExpired: ({ leaseOwner, checkpointOwner }) =>
      !living.has(checkpointOwner ?? leaseOwner ?? ''),
    isSettled,
    rank,
  });
}

/** The leases after a plan was carried out to its end. */
function after(leases: readonly Lease[], moves: readonly Move[]): Lease[] {
  const to = new Map(moves.map((move) => [move.lease.leaseKey, move.to]));
  return leases.map((each) => ({
    ...each,
    leaseOwner: to.get(each.leaseKey) ?? each.leaseOwner,
    checkpointOwner: undefined,
  }));
}

function countsOf(leases: readonly Lease[], workers: readonly Candidate[]): number[] {
  const counts = new Map(workers.map(({ workerId }) => [workerId, 0]));
  for (const { leaseOwner = '' } of leases) {
    counts.set(leaseOwner, (counts.get(leaseOwner) ?? 0) + 1);
  }
  return workers.map(({ workerId }) => counts.get(workerId) ?? 0);
}

function loadsOf(leases: readonly Lease[], workers: readonly Candidate[]): number[] {
  return workers.map(({ workerId }) =>
    leases
      .filter(({ leaseOwner }) => leaseOwner === workerId)
      .reduce((sum, { throughputKBps = 0 }) => sum + throughputKBps, 0),
  );
}

const spread = (numbers: readonly number[]): number => Math.max(...numbers) - Math.min(...numbers);

const keys = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `shard-${index}`);

const [a, b, c] = [worker('a'), worker('b'), worker('c')];

const anyFleet = fc.record({
  leases: fc.array(
    fc.record({
      owner: fc.constantFrom(undefined, 'a', 'b', 'c', 'd', 'dead'),
      throughputKBps: fc.option(fc.integer({ min: 0, max: 2_000 }), { nil: undefined }),
    }),
    { minLength: 1, maxLength: 80 },
  ),
  workers: fc.subarray(['a', 'b', 'c', 'd'], { minLength: 1 }),
});

describe('planFleet', () => {
  it('ends in one round with every lease owned and counts that differ by one at most, and then rests', () => {
    fc.assert(
      fc.property(anyFleet, ({ leases, workers: ids }) => {
        const workers = ids.map((id) => worker(id));
        const before = leases.map(({ owner, throughputKBps }, index) =>
          lease(`shard-${index}`, owner, { throughputKBps }),
        );
        const first = plan(before, workers);
        const settled = after(before, [...first.assign, ...first.moves]);
        expect(settled.every(({ leaseOwner = '' }) => ids.includes(leaseOwner))).toBe(true);
        expect(spread(countsOf(settled, workers))).toBeLessThanOrEqual(1);
        expect(plan(settled, workers)).toEqual({ assign: [], moves: [] });
        // No lease is moved that balance does not need: what is free goes where it lacks.
        const most = Math.ceil(before.length / workers.length);
        const tooMany = countsOf(before, workers).map((count) => Math.max(0, count - most));
        const tooFew = countsOf(after(before, first.assign), workers).map((count) =>
          Math.max(0, Math.floor(before.length / workers.length) - count),
        );
        const sum = (numbers: readonly number[]): number => numbers.reduce((x, y) => x + y, 0);
        expect(first.moves.length).toBeLessThanOrEqual(Math.max(sum(tooMany), sum(tooFew)));
      }),
    );
  });

  it('comes to rest when it balances by throughput, too, and never makes the fullest fuller', () => {
    fc.assert(
      fc.property(anyFleet, ({ leases, workers: ids }) => {
        const workers = ids.map((id) => worker(id));
        let now = leases.map(({ throughputKBps = 0 }, index) =>
          lease(`shard-${index}`, ids[index % ids.length], { throughputKBps }),
        );
        const first = loadsOf(now, workers);
        for (let round = 0; ; round += 1) {
          const { assign, moves } = plan(now, workers, { isSettled: true });
          expect(assign).toEqual([]);
          if (moves.length === 0) break;
          const before = Math.max(...loadsOf(now, workers));
          now = after(now, moves);
          expect(Math.max(...loadsOf(now, workers))).toBeLessThanOrEqual(before + 1e-6);
          expect(spread(countsOf(now, workers))).toBeLessThanOrEqual(1);
          expect(round).toBeLessThan(50);
        }
        expect(spread(loadsOf(now, workers))).toBeLessThanOrEqual(spread(first) + 1e-6);
      }),
    );
  });

  it('exchanges a busy lease for a quiet one when a worker is far above the mean', () => {
    const leases = [
      lease('hot-1', 'a', { throughputKBps: 900 }),
      lease('hot-2', 'a', { throughputKBps: 900 }),
      lease('cold-1', 'b', { throughputKBps: 10 }),
      lease('cold-2', 'b', { throughputKBps: 10 }),
    ];
    const { moves } = plan(leases, [a, b], { isSettled: true });
    expect(moves).toHaveLength(2);
    expect(loadsOf(after(leases, moves), [a, b])).toEqual([910, 910]);
  });

  it('moves nothing for throughput that is low, nearly equal, or not yet measured since the last moves', () => {
    const low = [
      lease('1', 'a', { throughputKBps: 30 }),
      lease('2', 'b', { throughputKBps: 0 }),
      lease('3', 'a', { throughputKBps: 30 }),
      lease('4', 'b', { throughputKBps: 0 }),
    ];
    expect(plan(low, [a, b], { isSettled: true }).moves).toEqual([]);
    const equal = low.map((each, index) => ({ ...each, throughputKBps: 500 + index * 10 }));
    expect(plan(equal, [a, b], { isSettled: true }).moves).toEqual([]);
    const uneven = low.map((each) => ({
      ...each,
      throughputKBps: (each.throughputKBps ?? 0) * 50,
    }));
    expect(plan(uneven, [a, b], { isSettled: false }).moves).toEqual([]);
    expect(plan(uneven, [a, b], { isSettled: true }).moves).toHaveLength(2);
  });

  it('gives a newcomer its whole share at once', () => {
    const leases = keys(12).map((key, index) => lease(key, index < 6 ? 'a' : 'b'));
    const { assign, moves } = plan(leases, [a, b, c]);
    expect(assign).toEqual([]);
    expect(moves.map(({ to }) => to)).toEqual(['c', 'c', 'c', 'c']);
  });

  it('finds successors for all a leaving worker has, and gives it nothing', () => {
    const leases = [...keys(4).map((key) => lease(key, 'a')), lease('free'), lease('x', 'b')];
    const { assign, moves } = plan(leases, [worker('a', { isLeaving: true }), b, c]);
    expect(moves).toHaveLength(4);
    expect([...assign, ...moves].every(({ to }) => to !== 'a')).toBe(true);
    expect(countsOf(after(leases, [...assign, ...moves]), [b, c])).toEqual([3, 3]);
    expect(plan(leases, [worker('a', { isLeaving: true })]).moves).toEqual([]);
  });

  it('counts a lease in hand-over for its next owner, and does not ask for it again', () => {
    const leases = keys(4).map((key, index) =>
      index < 2 ? lease(key, 'b', { checkpointOwner: 'a' }) : lease(key, 'a'),
    );
    expect(plan(leases, [a, b])).toEqual({ assign: [], moves: [] });
  });

  it('takes a lease out of a hand-over whose owner has died', () => {
    const { assign } = plan([lease('s', 'b', { checkpointOwner: 'dead' })], [a, b]);
    expect(assign).toHaveLength(1);
  });

  it('leaves finished shards alone', () => {
    const checkpoint = { sequenceNumber: 'SHARD_END', subSequenceNumber: 0 };
    expect(plan([lease('done', undefined, { checkpoint })], [a])).toEqual({
      assign: [],
      moves: [],
    });
  });

  it('keeps to caps, and to the streams a worker reads', () => {
    const free = keys(10).map((key) => lease(key));
    const small = worker('a', { maxLeases: 3 });
    expect(countsOf(after(free, plan(free, [small, b]).assign), [small, b])).toEqual([3, 7]);
    expect(plan(free, [small]).assign).toHaveLength(3);
    const ofStream = keys(4).map((key) => lease(key, undefined, { streamId: '1:orders:1' }));
    const reader = worker('b', { streams: ['1:orders:1'] });
    const other = worker('a', { streams: ['1:other:1'] });
    expect(plan(ofStream, [other, reader]).assign.every(({ to }) => to === 'b')).toBe(true);
    const held = ofStream.map((each) => ({ ...each, leaseOwner: 'b' }));
    expect(plan(held, [other, reader]).moves).toEqual([]);
    // Given before its owner said that it does not read the stream any more.
    const misplaced = [{ ...held[0], leaseOwner: 'a' } as Lease, ...held.slice(1)];
    expect(plan(misplaced, [other, reader]).moves.map(({ to }) => to)).toEqual(['b']);
    expect(plan(misplaced, [other]).moves).toEqual([]);
  });

  it('owns 10,000 shards with 100 workers in one round, and moves only what balance needs', () => {
    const workers = Array.from({ length: 100 }, (_, index) => worker(`worker-${index}`));
    const shards = keys(10_000).map((key) => lease(key));
    const start = plan(shards, workers);
    expect(start.assign).toHaveLength(10_000);
    const owned = after(shards, start.assign);
    expect(spread(countsOf(owned, workers))).toBe(0);
    const more = [...workers, ...Array.from({ length: 10 }, (_, index) => worker(`new-${index}`))];
    const grown = plan(owned, more);
    // Ten newcomers with 90 or 91 each, and no other move.
    expect(grown.moves.length).toBeLessThanOrEqual(10 * 91);
    expect(grown.moves.every(({ to }) => to.startsWith('new-'))).toBe(true);
    const settled = after(owned, grown.moves);
    expect(spread(countsOf(settled, more))).toBeLessThanOrEqual(1);
    const left = more.filter(({ workerId }) => workerId !== 'worker-7');
    const healed = plan(settled, left);
    expect(healed.moves).toEqual([]);
    expect(spread(countsOf(after(settled, healed.assign), left))).toBeLessThanOrEqual(1);
  }, 60_000);
});
