import fc from 'fast-check';
import murmurhash from 'murmurhash3js-revisited';
import { describe, expect, it } from 'vitest';

import { leaderOf, planAssignment } from '../../src/lease/assignment.js';
import { type Lease, newLease } from '../../src/lease/lease.js';

function lease(leaseKey: string, leaseOwner?: string, checkpointOwner?: string): Lease {
  const checkpoint = { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 };
  return {
    ...newLease({ leaseKey, checkpoint, parentShardIds: [], hashRange: undefined }),
    leaseOwner,
    checkpointOwner,
  };
}

const rank = (text: string): number => murmurhash.x86.hash32(Buffer.from(text));

function plan(
  leases: readonly Lease[],
  workerId: string,
  expired: readonly string[] = [],
  maxLeases = 1_000,
  orphaned: readonly string[] = [],
) {
  return planAssignment({
    leases,
    workerId,
    maxLeases,
    isExpired: ({ leaseOwner, checkpointOwner }) =>
      expired.includes(checkpointOwner ?? leaseOwner ?? ''),
    isOrphaned: ({ leaseKey }) => orphaned.includes(leaseKey),
    rank,
  });
}

/** Plays rounds in which every worker carries out its plan; requests are granted at once. */
function settle(
  leases: readonly Lease[],
  workers: readonly string[],
  expired: readonly string[] = [],
) {
  const now = [...leases];
  const places = new Map(now.map(({ leaseKey }, index) => [leaseKey, index]));
  const give = (leaseKey: string, owner: string): void => {
    now[places.get(leaseKey) as number] = lease(leaseKey, owner);
  };
  let moves = 0;
  let rounds = 0;
  for (let quiet = false; !quiet && rounds < 50; rounds += 1) {
    quiet = true;
    for (const worker of workers) {
      const plans = plan(now, worker, expired);
      for (const { leaseKey } of plans.take) give(leaseKey, worker);
      for (const { lease: moved, to } of plans.moves) give(moved.leaseKey, to);
      moves += plans.moves.length;
      if (plans.take.length + plans.moves.length > 0) quiet = false;
    }
  }
  const owners = new Map(now.map(({ leaseKey, leaseOwner }) => [leaseKey, leaseOwner]));
  const counts = workers.map(
    (worker) => [...owners.values()].filter((owner) => owner === worker).length,
  );
  return { owners, counts, moves, rounds };
}

const keys = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `shard-${index}`);

describe('planAssignment', () => {
  it('ends with every lease owned and counts that differ by one at most, from any beginning', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(undefined, 'a', 'b', 'c', 'd', 'dead'), {
          minLength: 1,
          maxLength: 80,
        }),
        fc.subarray(['a', 'b', 'c', 'd'], { minLength: 1 }),
        (owners, workers) => {
          const gone = ['a', 'b', 'c', 'd', 'dead'].filter((worker) => !workers.includes(worker));
          const leases = owners.map((owner, index) => lease(`shard-${index}`, owner));
          const { owners: after, counts, rounds } = settle(leases, workers, gone);
          expect(
            [...after.values()].every((owner) => owner !== undefined && workers.includes(owner)),
          ).toBe(true);
          expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
          expect(rounds).toBeLessThanOrEqual(6);
        },
      ),
    );
  });

  it('moves nothing when counts are equal or differ by one', () => {
    const leases = keys(7).map((key, index) => lease(key, ['a', 'b', 'c'][index % 3]));
    for (const worker of ['a', 'b', 'c'])
      expect(plan(leases, worker)).toEqual({ take: [], moves: [] });
  });

  it('lets a newcomer ask for one lease, and the leader give it the rest of its share at once', () => {
    const leases = keys(12).map((key, index) => lease(key, index < 6 ? 'a' : 'b'));
    const [asked] = plan(leases, 'c').moves;
    expect(plan(leases, 'c').moves).toHaveLength(1);
    expect(asked?.to).toBe('c');
    const known = leases.map((each) =>
      each === asked?.lease ? lease(each.leaseKey, 'c', each.leaseOwner) : each,
    );
    const leader = leaderOf(known, () => false, rank) ?? '';
    expect(plan(known, leader).moves.map(({ to }) => to)).toEqual(['c', 'c', 'c']);
    const others = ['a', 'b', 'c'].filter((worker) => worker !== leader);
    for (const worker of others) expect(plan(known, worker).moves).toEqual([]);
  });

  it('has another leader when the leases of the first have expired', () => {
    const leases = keys(6).map((key, index) => lease(key, ['a', 'b', 'c'][index % 3]));
    const first = leaderOf(leases, () => false, rank);
    const second = leaderOf(leases, ({ leaseOwner }) => leaseOwner === first, rank);
    expect(['a', 'b', 'c']).toContain(second);
    expect(second).not.toBe(first);
    expect(leaderOf([lease('free')], () => false, rank)).toBeUndefined();
  });

  it('owns 10,000 shards with 100 workers within three rounds, and moves only what balance needs', () => {
    const workers = Array.from({ length: 100 }, (_, index) => `worker-${index}`);
    const shards = keys(10_000);
    const start = settle(
      shards.map((key) => lease(key)),
      workers,
    );
    expect(start.rounds).toBeLessThanOrEqual(3);
    expect(start.counts.every((count) => count === 100)).toBe(true);
    const more = [...workers, ...Array.from({ length: 10 }, (_, index) => `new-${index}`)];
    const grown = settle(
      shards.map((key) => lease(key, start.owners.get(key))),
      more,
    );
    expect(Math.max(...grown.counts) - Math.min(...grown.counts)).toBeLessThanOrEqual(1);
    // Ten newcomers with 90 or 91 each, and no other move.
    expect(grown.moves).toBeLessThanOrEqual(10 * 91);
    const gone = 'worker-7';
    const healed = settle(
      shards.map((key) => lease(key, grown.owners.get(key))),
      more.filter((worker) => worker !== gone),
      [gone],
    );
    expect(Math.max(...healed.counts) - Math.min(...healed.counts)).toBeLessThanOrEqual(1);
    expect(healed.rounds).toBeLessThanOrEqual(3);
  }, 60_000);

  it('takes what is free before it asks the living', () => {
    const leases = [...keys(4).map((key) => lease(key, 'a')), lease('free-1'), lease('free-2')];
    expect(plan(leases, 'b')).toMatchObject({ take: [{}, {}], moves: [] });
    const many = [
      ...keys(4).map((key) => lease(key, 'a')),
      ...keys(4).map((key) => lease(`free-${key}`)),
    ];
    expect(plan(many, 'b').take).toHaveLength(4);
    expect(plan(many, 'b').moves).toEqual([]);
  });

  it('counts a lease in hand-over for its next owner, and does not ask for it again', () => {
    const leases = keys(4).map((key, index) =>
      index < 2 ? lease(key, 'b', 'a') : lease(key, 'a'),
    );
    expect(plan(leases, 'b')).toEqual({ take: [], moves: [] });
  });

  it('leaves finished shards alone', () => {
    const finished = {
      ...lease('done'),
      checkpoint: { sequenceNumber: 'SHARD_END', subSequenceNumber: 0 },
    };
    expect(plan([finished], 'a')).toEqual({ take: [], moves: [] });
  });

  it('keeps to its cap', () => {
    expect(
      plan(
        keys(10).map((key) => lease(key)),
        'a',
        [],
        3,
      ).take,
    ).toHaveLength(3);
    const full = [...keys(10).map((key) => lease(key, 'b')), lease('x', 'a')];
    const leader = leaderOf(full, () => false, rank) ?? '';
    expect(plan(full, leader, [], 2).moves.map(({ to }) => to)).toEqual(['a']);
  });

  it('lets different workers begin at different leases', () => {
    const leases = keys(40).map((key) => lease(key));
    const first = (worker: string): string[] =>
      plan([...leases, lease('x', 'a'), lease('y', 'b')], worker)
        .take.slice(0, 5)
        .map(({ leaseKey }) => leaseKey);
    expect(first('a')).not.toEqual(first('b'));
  });

  it('takes what nobody took for long beyond its share, but not beyond its cap', () => {
    const leases = [
      ...keys(4).map((key, index) => lease(key, ['a', 'a', 'b', 'b'][index])),
      lease('left-1', 'dead'),
      lease('left-2', 'dead'),
      // A worker that was asked for and died before it got anything counts until then.
      lease('asked', 'dying', 'a'),
    ];
    expect(plan(leases, 'a', ['dead']).take).toHaveLength(1);
    expect(plan(leases, 'a', ['dead'], 1_000, ['left-1', 'left-2']).take).toHaveLength(2);
    expect(plan(leases, 'a', ['dead'], 3, ['left-1', 'left-2']).take).toHaveLength(1);
  });
});
