import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { planAssignment } from '../../src/lease/assignment.js';
import { type Lease, newLease } from '../../src/lease/lease.js';

function lease(leaseKey: string, leaseOwner?: string, checkpointOwner?: string): Lease {
  const checkpoint = { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 };
  return {
    ...newLease({ leaseKey, checkpoint, parentShardIds: [], hashRange: undefined }),
    leaseOwner,
    checkpointOwner,
  };
}

const rankFor = (workerId: string) => (leaseKey: string) =>
  Array.from(`${workerId}${leaseKey}`).reduce(
    (hash, character) => (hash * 31 + character.charCodeAt(0)) % 1_000_003,
    7,
  );

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
    rank: rankFor(workerId),
  });
}

/** Plays rounds in which every worker carries out its plan; requests are granted at once. */
function settle(
  leases: readonly Lease[],
  workers: readonly string[],
  expired: readonly string[] = [],
) {
  const owners = new Map(leases.map((each) => [each.leaseKey, each.leaseOwner]));
  let moves = 0;
  let rounds = 0;
  for (let quiet = false; !quiet && rounds < 50; rounds += 1) {
    quiet = true;
    for (const worker of workers) {
      const now = leases.map((each) => lease(each.leaseKey, owners.get(each.leaseKey)));
      const { take, request } = plan(now, worker, expired);
      for (const { leaseKey } of [...take, ...request]) owners.set(leaseKey, worker);
      moves += take.length + request.length;
      if (take.length + request.length > 0) quiet = false;
    }
  }
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
      expect(plan(leases, worker)).toEqual({ take: [], request: [] });
  });

  it('gives a new worker its share in one round', () => {
    const leases = keys(12).map((key, index) => lease(key, index < 6 ? 'a' : 'b'));
    expect(plan(leases, 'c').request).toHaveLength(4);
  });

  it('takes what is free before it asks the living', () => {
    const leases = [...keys(4).map((key) => lease(key, 'a')), lease('free-1'), lease('free-2')];
    expect(plan(leases, 'b')).toMatchObject({ take: [{}, {}], request: [{}] });
    const many = [
      ...keys(4).map((key) => lease(key, 'a')),
      ...keys(4).map((key) => lease(`free-${key}`)),
    ];
    expect(plan(many, 'b').take).toHaveLength(4);
    expect(plan(many, 'b').request).toEqual([]);
  });

  it('counts a lease in hand-over for its next owner, and does not ask for it again', () => {
    const leases = keys(4).map((key, index) =>
      index < 2 ? lease(key, 'b', 'a') : lease(key, 'a'),
    );
    expect(plan(leases, 'b')).toEqual({ take: [], request: [] });
  });

  it('leaves finished shards alone', () => {
    const finished = {
      ...lease('done'),
      checkpoint: { sequenceNumber: 'SHARD_END', subSequenceNumber: 0 },
    };
    expect(plan([finished], 'a')).toEqual({ take: [], request: [] });
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
    expect(
      plan(
        keys(10).map((key) => lease(key, 'b')),
        'a',
        [],
        2,
      ).request,
    ).toHaveLength(2);
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
