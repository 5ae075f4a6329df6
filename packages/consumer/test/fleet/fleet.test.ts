import type { MemoryLeaseTable } from '@shardline/consumer';
import { ManualClock } from '@shardline/shared/testing';
import { describe, expect, it } from 'vitest';

import { FleetStore } from '../../src/fleet/fleet-store.js';
import type { LeaseTable } from '../../src/lease/lease-table.js';
import { countsIn, FAILOVER_MS, Member, tableOf } from './fleet-rig.js';

/** Tells how often each kind of call reached the table. */
function counted(table: LeaseTable): {
  readonly table: LeaseTable;
  readonly calls: Map<string, number>;
} {
  const calls = new Map<string, number>();
  const proxy = new Proxy(table, {
    get: (target, name) => {
      const method = target[name as keyof LeaseTable] as (...args: unknown[]) => unknown;
      if (typeof method !== 'function') return method;
      return (...args: unknown[]) => {
        calls.set(String(name), (calls.get(String(name)) ?? 0) + 1);
        return method.apply(target, args);
      };
    },
  });
  return { table: proxy, calls };
}

const spreadOf = (counts: ReadonlyMap<string, number>, workers: number): number => {
  const numbers = [...counts.values()];
  const least = counts.size < workers ? 0 : Math.min(...numbers);
  return Math.max(...numbers) - least;
};

async function startAll(
  names: readonly string[],
  table: LeaseTable,
  clock: ManualClock,
): Promise<Member[]> {
  const members = names.map((name) => new Member(name, table, clock));
  for (const member of members) await member.start();
  return members;
}

describe('a native fleet in virtual time', () => {
  it('shares 10,000 shards among 100 workers, takes over from the dead, and grows by what balance needs', async () => {
    const clock = new ManualClock();
    const memory = await tableOf(10_000, 'native');
    await new FleetStore(memory).found('native');
    const { table, calls } = counted(memory);
    const names = Array.from({ length: 100 }, (_, index) => `worker-${index}`);
    const members = await startAll(names, table, clock);
    // Three rounds: one in which somebody leads, one in which it deals out, one in which all notice.
    await clock.advance(3_000);
    expect(spreadOf(await countsIn(table), 100)).toBeLessThanOrEqual(1);
    expect(members.reduce((sum, { valid }) => sum + valid.length, 0)).toBe(10_000);

    // A quiet fleet costs its heartbeats and its looks at a row or two, whatever the number of shards.
    await clock.advance(5_000);
    calls.clear();
    await clock.advance(60_000);
    expect(calls.get('update') ?? 0).toBeLessThanOrEqual(100 * 19 + 20);
    expect(calls.get('scan') ?? 0).toBe(0);
    expect(calls.get('get') ?? 0).toBe(0);
    expect(calls.get('getMany') ?? 0).toBeLessThanOrEqual(100 * 2 * 62);

    const more = await startAll(
      Array.from({ length: 10 }, (_, index) => `new-${index}`),
      table,
      clock,
    );
    const before = await countsIn(table);
    await clock.advance(6_000);
    const grown = await countsIn(table);
    expect(spreadOf(grown, 110)).toBeLessThanOrEqual(1);
    const moved = names.reduce(
      (sum, name) => sum + Math.max(0, (before.get(name) ?? 0) - (grown.get(name) ?? 0)),
      0,
    );
    expect(moved).toBeLessThanOrEqual(10 * 91);
    expect(names.every((name) => (grown.get(name) ?? 0) <= (before.get(name) ?? 0))).toBe(true);

    const all = [...members, ...more];
    const leader = all.find(({ membership }) => membership.isCaretaker) as Member;
    const follower = all.find((member) => member !== leader) as Member;
    for (const dead of [follower, leader]) {
      dead.kill();
      const diedMs = clock.monotonicMs();
      while ((await countsIn(table)).has(dead.workerId)) await clock.advance(500);
      // The heartbeat was seen up to a round late, and is looked at once a round.
      expect(clock.monotonicMs() - diedMs).toBeLessThanOrEqual(FAILOVER_MS + 2_000);
      await clock.advance(3_000);
    }
    const living = all.filter((member) => member !== leader && member !== follower);
    expect(spreadOf(await countsIn(table), 108)).toBeLessThanOrEqual(1);
    expect(living.reduce((sum, { valid }) => sum + valid.length, 0)).toBe(10_000);
    expect((await new FleetStore(table).fleet())?.workerIds).toHaveLength(108);
    for (const member of living) member.kill();
  }, 120_000);

  it('hands a shard over within a round, and never has two owners that think it theirs', async () => {
    const clock = new ManualClock();
    const table = await tableOf(20, 'native');
    await new FleetStore(table).found('native');
    const members = await startAll(['a', 'b'], table, clock);
    const overlap = (): string[] => {
      const all = members.flatMap(({ valid }) => valid);
      return all.filter((key, index) => all.indexOf(key) !== index);
    };
    const settle = async (): Promise<void> => {
      for (let step = 0; step < 40; step += 1) {
        await clock.advance(100);
        expect(overlap()).toEqual([]);
      }
    };
    await settle();
    const [c] = await startAll(['c'], table, clock);
    members.push(c as Member);
    await settle();
    expect(spreadOf(await countsIn(table), 3)).toBeLessThanOrEqual(1);
    for (const member of members) member.kill();
  });

  it('refuses a second process of the same name while the first lives, and lets it in when that is dead', async () => {
    const clock = new ManualClock();
    const table = await tableOf(2, 'native');
    await new FleetStore(table).found('native');
    const [first] = await startAll(['a'], table, clock);
    await clock.advance(2_000);
    const second = new Member('a', table, clock);
    const refusal = second.start().catch((error: unknown) => error);
    await clock.advance(FAILOVER_MS);
    expect(await refusal).toMatchObject({ code: 'WORKER_ID_IN_USE', value: 'a' });
    expect(first?.valid).toHaveLength(2);
    first?.kill();
    const third = new Member('a', table, clock);
    let isIn = false;
    void third.start().then(() => (isIn = true));
    await clock.advance(FAILOVER_MS - 1_000);
    expect(isIn).toBe(false);
    await clock.advance(6_000);
    expect(third.valid).toHaveLength(2);
    third.kill();
  });

  it('takes over from a worker that is on no list, and forgets a name that has no worker', async () => {
    const clock = new ManualClock();
    const table = await tableOf(4, 'native');
    const fleet = new FleetStore(table);
    await fleet.found('native');
    const [a, lost] = await startAll(['a', 'lost'], table, clock);
    await clock.advance(3_000);
    expect(lost?.valid).toHaveLength(2);
    lost?.kill();
    await fleet.forget('lost');
    await fleet.enroll('ghost');
    await clock.advance(FAILOVER_MS + 4_000);
    expect(a?.valid).toHaveLength(4);
    expect((await fleet.fleet())?.workerIds).toEqual(['a']);
    expect(await fleet.worker('lost')).toBeUndefined();
    a?.kill();
  });

  it('drops everything when the fleet has given it up, and comes back as a newcomer', async () => {
    const clock = new ManualClock();
    const table = await tableOf(4, 'native');
    await new FleetStore(table).found('native');
    const [a, b] = await startAll(['a', 'b'], table, clock);
    await clock.advance(3_000);
    expect(a?.valid).toHaveLength(2);
    const victim = (a?.membership.isCaretaker ? b : a) as Member;
    const fleet = new FleetStore(table);
    const row = await fleet.worker(victim.workerId);
    const former = [...victim.held.values()];
    // Somebody strikes it off though it lives.
    await table.delete(`Shardline:worker:${row?.workerId}`);
    await clock.advance(4_000);
    expect(former.every(({ signal }) => signal.aborted)).toBe(true);
    await clock.advance(FAILOVER_MS + 4_000);
    expect(spreadOf(await countsIn(table), 2)).toBeLessThanOrEqual(1);
    expect(victim.valid).toHaveLength(2);
    a?.kill();
    b?.kill();
  });
});

describe('a fleet beside a KCL 3.x', () => {
  async function led(version: string): Promise<{ table: MemoryLeaseTable; clock: ManualClock }> {
    const clock = new ManualClock();
    const table = await tableOf(4, 'kcl');
    await table.create({
      leaseKey: { S: 'Migration3.0' },
      entityType: { S: 'CLIENT_VERSION_MIGRATION' },
      cv: { S: version },
    });
    return { table, clock };
  }
  const give = (table: LeaseTable, index: number, owner: string): Promise<unknown> =>
    table.update(
      `shardId-00000000000${index}`,
      { set: { leaseOwner: { S: owner } }, add: { leaseCounter: { N: '1' } } },
      {},
    );

  it('takes nothing by itself, tells that it lives, and holds what the leader names it for', async () => {
    const { table, clock } = await led('CLIENT_VERSION_3X');
    const member = new Member('ours', table, clock);
    await member.start();
    expect(member.membership.mode).toBe('kcl3');
    await clock.advance(30_000);
    expect(member.held.size).toBe(0);
    const row = await table.get('ours');
    expect(row).toMatchObject({ entityType: { S: 'WORKER_METRIC_STATS' }, sup: { N: '1' } });
    expect(Number(row?.['lut']?.N) * 1_000).toBeGreaterThan(clock.now() - 31_000);
    await give(table, 0, 'ours');
    await give(table, 1, 'java');
    await clock.advance(2_000);
    expect(member.valid).toEqual(['shardId-000000000000']);
    // The leader wants it elsewhere: leaseOwner is the next owner, checkpointOwner the one who has it.
    await table.update(
      'shardId-000000000000',
      { set: { leaseOwner: { S: 'java' }, checkpointOwner: { S: 'ours' } } },
      {},
    );
    await clock.advance(FAILOVER_MS / 3 + 500);
    expect(member.held.size).toBe(0);
    const given = await table.get('shardId-000000000000');
    expect(given).toMatchObject({ leaseOwner: { S: 'java' } });
    expect(given).not.toHaveProperty('checkpointOwner');
    await member.membership.leave();
    expect(await table.get('ours')).toBeUndefined();
    member.kill();
  });

  it('asks the index what it is named for, where there is one, and then lists nothing', async () => {
    const { table: memory, clock } = await led('CLIENT_VERSION_3X');
    const { table, calls } = counted(memory);
    const named: string[] = [];
    table.keysOf = () => Promise.resolve(named);
    const expected: string[] = [];
    const member = new Member('ours', table, clock);
    member.expect = (key) => void expected.push(key);
    await member.start();
    await clock.advance(2_000);
    calls.clear();
    named.push('shardId-000000000002');
    await clock.advance(5_000);
    expect(expected).toContain('shardId-000000000002');
    expect(calls.get('scan') ?? 0).toBe(0);
    member.kill();
  });

  it('takes what no leader gives to anybody for minutes', async () => {
    const { table, clock } = await led('CLIENT_VERSION_3X');
    const member = new Member('ours', table, clock);
    await member.start();
    await clock.advance(190_000);
    expect(member.held.size).toBe(0);
    await clock.advance(20_000);
    expect(member.held.size).toBe(4);
    member.kill();
  });

  it('takes and steals until the fleet of the KCL has migrated, and stops when it has', async () => {
    const { table, clock } = await led('CLIENT_VERSION_UPGRADE_FROM_2X');
    const member = new Member('ours', table, clock, { maxLeases: 2 });
    await member.start();
    await clock.advance(2_000);
    expect(member.held.size).toBe(2);
    expect(await table.get('ours')).toBeDefined();
    await table.update('Migration3.0', { set: { cv: { S: 'CLIENT_VERSION_3X' } } }, {});
    await clock.advance(31_000);
    const other = new Member('other', table, clock);
    await other.start();
    await clock.advance(60_000);
    expect(other.held.size).toBe(0);
    expect(member.valid).toHaveLength(2);
    member.kill();
    other.kill();
  });

  it('is not joined as a KCL 2.x, nor as a fleet of our own', async () => {
    const { table, clock } = await led('CLIENT_VERSION_3X');
    for (const leaseMode of ['kcl2', 'native'] as const) {
      await expect(new Member('ours', table, clock, { leaseMode }).start()).rejects.toMatchObject({
        code: 'LEASE_MODE_MISMATCH',
        value: leaseMode,
      });
    }
  });
});
