import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { type Lease, newLease } from '../../src/lease/lease.js';
import {
  type InitialPosition,
  missingLeases,
  removableLeases,
  type Shard,
} from '../../src/shard/shard-sync.js';

function shard(id: number, parents: readonly number[], isOpen: boolean): Shard {
  return {
    shardId: String(id),
    parentShardIds: parents.map(String),
    isOpen,
    range: { start: 0n, end: 1n },
    startingSequenceNumber: String(1_000 + id),
  };
}

const ORIGIN = { streamId: undefined, streamEpochSeconds: undefined, layout: 'kcl' } as const;

function lease(id: number | string, fields: Partial<Lease> = {}): Lease {
  const checkpoint = { sequenceNumber: '5', subSequenceNumber: 0 };
  return {
    ...newLease(ORIGIN, {
      shardId: String(id),
      checkpoint,
      parentShardIds: [],
      hashRange: undefined,
    }),
    ...fields,
  };
}

const timestamp = { timestamp: new Date(0) };

/** 0 and 1 merged into 6, 2 and 3 into 7, 6 and 7 into 8; 5 split into 9 and 10; 4 untouched. */
const EXAMPLE = [
  shard(0, [], false),
  shard(1, [], false),
  shard(2, [], false),
  shard(3, [], false),
  shard(4, [], true),
  shard(5, [], false),
  shard(6, [0, 1], false),
  shard(7, [2, 3], false),
  shard(8, [6, 7], true),
  shard(9, [5], true),
  shard(10, [5], true),
];

describe('missingLeases', () => {
  it.each([
    ['LATEST', ['6 LATEST']],
    ['TRIM_HORIZON', ['0 TRIM_HORIZON', '1 TRIM_HORIZON']],
    [timestamp, ['0 AT_TIMESTAMP', '1 AT_TIMESTAMP']],
  ] as [InitialPosition, string[]][])(
    "gives the KCL's own example for %j",
    (position, expected) => {
      const missing = missingLeases(EXAMPLE, [lease(4), lease(5), lease(7)], position, ORIGIN);
      expect(
        missing.map(({ leaseKey, checkpoint }) => `${leaseKey} ${checkpoint.sequenceNumber}`),
      ).toEqual(expected);
    },
  );

  it('is empty once every lineage is covered', () => {
    const leases = [lease(4), lease(5), lease(7), lease(6)];
    for (const position of ['LATEST', 'TRIM_HORIZON', timestamp] as InitialPosition[]) {
      expect(missingLeases(EXAMPLE, leases, position, ORIGIN)).toEqual([]);
    }
  });

  it('does not make a lease for a child while its parent is leased', () => {
    const shards = [shard(0, [], false), shard(1, [0], true), shard(2, [0], true)];
    expect(missingLeases(shards, [lease(0)], 'LATEST', ORIGIN)).toEqual([]);
  });

  it('makes up for a child that was lost after its parent was removed', () => {
    const shards = [shard(0, [], false), shard(1, [0], true), shard(2, [0], true)];
    const missing = missingLeases(shards, [lease(2)], 'LATEST', ORIGIN);
    expect(missing.map(({ leaseKey }) => leaseKey)).toEqual(['1']);
  });

  it('covers each lineage by one generation, never a parent with its own child', () => {
    const anyHistory = fc.array(fc.tuple(fc.boolean(), fc.nat(), fc.nat()), { maxLength: 25 });
    fc.assert(
      fc.property(
        anyHistory,
        fc.constantFrom<InitialPosition>('LATEST', 'TRIM_HORIZON', timestamp),
        fc.integer(),
        (history, position, seed) => {
          const shards = new Map<number, { parents: number[]; isOpen: boolean }>(
            [0, 1, 2].map((id) => [id, { parents: [], isOpen: true }]),
          );
          const close = (id: number): void => {
            const known = shards.get(id);
            if (known) known.isOpen = false;
          };
          for (const [isMerge, a, b] of history) {
            const open = [...shards].filter(([, { isOpen }]) => isOpen).map(([id]) => id);
            const first = open[a % open.length] as number;
            const second = open[b % open.length] as number;
            if (isMerge && first !== second) {
              shards.set(shards.size, { parents: [first, second], isOpen: true });
              close(second);
            } else {
              shards.set(shards.size, { parents: [first], isOpen: true });
              shards.set(shards.size, { parents: [first], isOpen: true });
            }
            close(first);
          }
          const listed = [...shards].map(([id, { parents, isOpen }]) => shard(id, parents, isOpen));
          // Leases of some generation are there: an open shard here and there, never two of one line.
          const leases = listed
            .filter(({ isOpen }, index) => isOpen && (seed >> (index % 30)) % 2 === 0)
            .map(({ shardId }) => lease(shardId));
          const all = [...leases, ...missingLeases(listed, leases, position, ORIGIN)];
          const keys = new Set(all.map(({ leaseKey }) => leaseKey));
          expect(keys.size).toBe(all.length);
          const covers = (id: string): boolean =>
            keys.has(id) ||
            (shards.get(Number(id))?.parents ?? []).some((parent) => covers(String(parent)));
          const uncovered = listed.filter(({ shardId, isOpen }) => isOpen && !covers(shardId));
          expect(uncovered).toEqual([]);
          expect(missingLeases(listed, all, position, ORIGIN)).toEqual([]);
        },
      ),
    );
  });
});

describe('removableLeases', () => {
  const end = { sequenceNumber: 'SHARD_END', subSequenceNumber: 0 };
  const begun = { sequenceNumber: '7', subSequenceNumber: 0 };
  const fresh = { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 };
  const names = (leases: readonly Lease[], listed: readonly Shard[] = []): string[] =>
    removableLeases(leases, listed).map(({ leaseKey }) => leaseKey);

  it('are finished, with children that have begun and no parents left', () => {
    const parent = lease('p', { checkpoint: end, childShardIds: ['a', 'b'] });
    expect(
      names([parent, lease('a', { checkpoint: begun }), lease('b', { checkpoint: begun })]),
    ).toEqual(['p']);
    expect(
      names([parent, lease('a', { checkpoint: begun }), lease('b', { checkpoint: fresh })]),
    ).toEqual([]);
    expect(names([parent, lease('a', { checkpoint: begun })])).toEqual([]);
    const grandparent = lease('g', { checkpoint: end, childShardIds: ['p'] });
    const child = { ...parent, parentShardIds: ['g'] };
    expect(
      names([
        grandparent,
        child,
        lease('a', { checkpoint: begun }),
        lease('b', { checkpoint: begun }),
      ]),
    ).toEqual(['g']);
    expect(names([{ ...parent, checkpoint: begun }])).toEqual([]);
    const all = [parent, lease('a', { checkpoint: begun }), lease('b', { checkpoint: begun })];
    expect(names(all, [{ ...shard(0, [], false), shardId: 'p' }])).toEqual([]);
  });
});
