import { seededRandom } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { planTakes } from '../../src/fleet/taking.js';
import { type Lease, newLease } from '../../src/lease/lease.js';

function lease(shardId: string, leaseOwner?: string, changes: Partial<Lease> = {}): Lease {
  const checkpoint = { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 };
  return {
    ...newLease(
      { streamId: undefined, streamEpochSeconds: undefined, layout: 'kcl' },
      { shardId, checkpoint, parentShardIds: [], hashRange: undefined },
    ),
    leaseOwner,
    ...changes,
  };
}

const keys = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `shard-${index}`);

function plan(
  leases: readonly Lease[],
  workerId: string,
  {
    dead = [],
    orphaned = [],
    maxLeases = 1_000,
  }: { dead?: readonly string[]; orphaned?: readonly string[]; maxLeases?: number } = {},
) {
  return planTakes({
    leases,
    workerId,
    maxLeases,
    isExpired: ({ leaseOwner = '' }) => dead.includes(leaseOwner),
    isOrphaned: ({ leaseKey }) => orphaned.includes(leaseKey),
    random: seededRandom(1),
  });
}

describe('planTakes', () => {
  it('ends with every lease owned, and each worker at its share or one less', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(undefined, 'a', 'b', 'c', 'dead'), {
          minLength: 1,
          maxLength: 40,
        }),
        fc.subarray(['a', 'b', 'c'], { minLength: 1 }),
        (owners, workers) => {
          const dead = ['a', 'b', 'c', 'dead'].filter((name) => !workers.includes(name));
          const now = new Map<string, string | undefined>(
            owners.map((owner, index) => [`shard-${index}`, owner]),
          );
          const leases = (): Lease[] => [...now].map(([key, owner]) => lease(key, owner));
          for (let quiet = 0, round = 0; quiet < workers.length; round += 1) {
            expect(round).toBeLessThan(500);
            const worker = workers[round % workers.length] as string;
            const { free, stolen } = plan(leases(), worker, { dead });
            quiet = free.length + stolen.length === 0 ? quiet + 1 : 0;
            for (const { leaseKey } of [...free, ...stolen]) now.set(leaseKey, worker);
          }
          const counts = workers.map(
            (worker) => [...now.values()].filter((owner) => owner === worker).length,
          );
          expect(counts.reduce((sum, count) => sum + count, 0)).toBe(owners.length);
          // As the KCL's: who lacks one alone does not steal from who has just its share.
          expect(Math.max(...counts)).toBeLessThanOrEqual(
            Math.ceil(owners.length / workers.length),
          );
        },
      ),
    );
  });

  it('takes its share of what is free, not everything', () => {
    const leases = keys(8).map((key) => lease(key));
    expect(plan([...leases, lease('x', 'b')], 'a').free).toHaveLength(5);
  });

  it('steals one lease at a time, of the fullest, and only when nothing is free', () => {
    const leases = [...keys(6).map((key) => lease(key, 'b')), lease('y', 'c')];
    const { free, stolen } = plan(leases, 'a');
    expect(free).toEqual([]);
    expect(stolen).toHaveLength(1);
    expect(stolen[0]?.leaseOwner).toBe('b');
    expect(plan([...leases, lease('free')], 'a')).toMatchObject({ free: [{}], stolen: [] });
  });

  it('takes what nobody took for long beyond its share, but not beyond its cap', () => {
    const leases = [
      lease('1', 'a'),
      lease('2', 'b'),
      lease('3', 'b'),
      lease('left-1', 'dead'),
      lease('left-2', 'dead'),
    ];
    const options = { dead: ['dead'], orphaned: ['left-1', 'left-2'] };
    expect(plan(leases, 'b', { dead: ['dead'] }).free).toHaveLength(1);
    expect(plan(leases, 'b', options).free).toHaveLength(2);
    expect(plan(leases, 'b', { ...options, maxLeases: 3 }).free).toHaveLength(1);
  });

  it('leaves native leases and finished shards alone', () => {
    const checkpoint = { sequenceNumber: 'SHARD_END', subSequenceNumber: 0 };
    const leases = [
      lease('n', undefined, { layout: 'native' }),
      lease('f', undefined, { checkpoint }),
    ];
    expect(plan(leases, 'a')).toEqual({ free: [], stolen: [] });
  });
});
