import assert from 'node:assert/strict';

import type { LeaseTable, Row } from '../lease/lease-table.js';

/** One thing a lease table must do. */
export interface ContractCheck {
  readonly title: string;
  /** Throws what is wrong. @param table - An empty one. */
  readonly check: (table: LeaseTable) => Promise<void>;
}

const KEY = 'shardId-000000000000';

function row(leaseKey: string, attributes: Row = {}): Row {
  return { leaseKey: { S: leaseKey }, ...attributes };
}

async function keysOf(table: LeaseTable, prefix = ''): Promise<string[]> {
  const rows = await table.scan(prefix, true);
  return rows.map(({ leaseKey }) => leaseKey?.S ?? '').sort();
}

/**
 * What every lease table must do, for any test runner: give each check an empty table.
 *
 * @example
 * ```ts
 * for (const { title, check } of leaseTableContract) it(title, () => check(new MyTable()));
 * ```
 */
export const leaseTableContract: readonly ContractCheck[] = [
  {
    title: 'creates a row once and gives it back as it was',
    check: async (table) => {
      const first = row(KEY, {
        leaseCounter: { N: '0' },
        parentShardId: { SS: ['a', 'b'] },
        pendingCheckpointState: { B: new Uint8Array([1, 2]) },
        shardlineSeek: { M: { sequenceNumber: { S: '5' } } },
        shardlineLeaving: { BOOL: true },
      });
      assert.equal(await table.create(first), true);
      assert.equal(await table.create(row(KEY, { leaseCounter: { N: '7' } })), false);
      assert.deepEqual(plain(await table.get(KEY)), plain(first));
      assert.equal(await table.get('none'), undefined);
    },
  },
  {
    title: 'changes what it is told to and leaves the rest alone',
    check: async (table) => {
      await table.create(row(KEY, { a: { N: '1' }, b: { S: 'old' }, c: { S: 'kept' } }));
      const { isDone, row: after } = await table.update(
        KEY,
        { set: { b: { S: 'new' } }, remove: ['a', 'nothing'], add: { count: { N: '2' } } },
        {},
      );
      assert.equal(isDone, true);
      const expected = row(KEY, { b: { S: 'new' }, c: { S: 'kept' }, count: { N: '2' } });
      assert.deepEqual(plain(after), plain(expected));
      assert.deepEqual(plain(await table.get(KEY)), plain(expected));
    },
  },
  {
    title: 'adds to numbers and sets, and has no empty set',
    check: async (table) => {
      await table.create(row(KEY, { count: { N: '3' } }));
      await table.update(KEY, { add: { count: { N: '4' }, set: { SS: ['a', 'b'] } } }, {});
      await table.update(KEY, { add: { set: { SS: ['b', 'c'] } } }, {});
      await table.update(KEY, { take: { set: { SS: ['a'] } } }, {});
      const after = await table.get(KEY);
      assert.equal(after?.['count']?.N, '7');
      assert.deepEqual([...(after['set']?.SS ?? [])].sort(), ['b', 'c']);
      await table.update(KEY, { take: { set: { SS: ['b', 'c', 'x'] } } }, {});
      assert.equal((await table.get(KEY))?.['set'], undefined);
    },
  },
  {
    title: 'changes nothing if a condition does not hold, and tells what stands there',
    check: async (table) => {
      await table.create(row(KEY, { leaseCounter: { N: '1' }, leaseOwner: { S: 'a' } }));
      const change = { set: { leaseCounter: { N: '2' } } };
      for (const conditions of [
        { leaseCounter: { N: '0' } },
        { leaseCounter: { N: '1' }, leaseOwner: { S: 'b' } },
        { leaseCounter: { N: '1' }, leaseOwner: 'absent' as const },
        { leaseCounter: { N: '1' }, checkpointOwner: { S: 'a' } },
      ]) {
        const { isDone, row: current } = await table.update(KEY, change, conditions);
        assert.equal(isDone, false);
        assert.equal(current?.['leaseCounter']?.N, '1');
      }
      const holding = { leaseCounter: { N: '1' }, checkpointOwner: 'absent' as const };
      assert.equal((await table.update(KEY, change, holding)).isDone, true);
    },
  },
  {
    title: 'makes no row by a change',
    check: async (table) => {
      const change = { set: { a: { N: '1' } }, add: { b: { N: '1' } } };
      assert.deepEqual(await table.update('none', change, {}), { isDone: false, row: undefined });
      const absent = { leaseOwner: 'absent' as const };
      assert.equal((await table.update('none', change, absent)).isDone, false);
      assert.deepEqual(await keysOf(table), []);
    },
  },
  {
    title: 'lets one of many writers through',
    check: async (table) => {
      await table.create(row(KEY, { leaseCounter: { N: '0' } }));
      const outcomes = await Promise.all(
        Array.from({ length: 8 }, (_, writer) =>
          table.update(
            KEY,
            { set: { leaseCounter: { N: '1' }, leaseOwner: { S: `w${writer}` } } },
            { leaseCounter: { N: '0' } },
          ),
        ),
      );
      const winners = outcomes.filter(({ isDone }) => isDone);
      assert.equal(winners.length, 1);
      const owner = (await table.get(KEY))?.['leaseOwner']?.S;
      assert.equal(winners[0]?.row?.['leaseOwner']?.S, owner);
      for (const { row: current } of outcomes) assert.equal(current?.['leaseOwner']?.S, owner);
    },
  },
  {
    title: 'deletes, with conditions and without',
    check: async (table) => {
      await table.create(row(KEY, { heartbeat: { N: '3' } }));
      assert.equal(await table.delete(KEY, { heartbeat: { N: '2' } }), false);
      assert.deepEqual(await keysOf(table), [KEY]);
      assert.equal(await table.delete(KEY, { heartbeat: { N: '3' } }), true);
      assert.equal(await table.delete(KEY, { heartbeat: { N: '3' } }), true);
      await table.create(row(KEY));
      assert.equal(await table.delete(KEY), true);
      assert.deepEqual(await keysOf(table), []);
    },
  },
  {
    title: 'scans by prefix, and gets several rows at once, whatever their number',
    check: async (table) => {
      const keys = Array.from({ length: 130 }, (_, index) => `a${index}`);
      await Promise.all([...keys, 'b'].map((key) => table.create(row(key))));
      assert.deepEqual(await keysOf(table, 'a'), [...keys].sort());
      assert.deepEqual(await keysOf(table), [...keys, 'b'].sort());
      const found = await table.getMany([...keys, 'none']);
      assert.deepEqual(found.map(({ leaseKey }) => leaseKey?.S ?? '').sort(), [...keys].sort());
      assert.deepEqual(await table.getMany([]), []);
    },
  },
];

/** Sets in one order, bytes as numbers: what two rows have in common whoever made them. */
function plain(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value ?? null, (name, part: unknown) => {
      if (part instanceof Uint8Array) return [...part];
      return name === 'SS' && Array.isArray(part) ? part.map(String).sort() : part;
    }),
  );
}
