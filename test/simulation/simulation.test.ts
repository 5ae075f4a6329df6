import { describe, expect, it } from 'vitest';

import { type HistoryOptions, type HistoryResult, playHistory } from './history.js';

/** Each seed is one history of a fleet; `simulate --from SEED --seeds 1 --timeline` plays it again. */
async function play(
  first: number,
  count: number,
  mode: NonNullable<HistoryOptions['mode']>,
  leases: NonNullable<HistoryOptions['leases']> = 'native',
): Promise<HistoryResult[]> {
  const results: HistoryResult[] = [];
  for (let seed = first; seed < first + count; seed += 1)
    results.push(await playHistory(seed, { mode, leases }));
  return results;
}

function failures(results: readonly HistoryResult[]): string[] {
  return results
    .filter(({ problems }) => problems.length > 0)
    .map(({ seed, timeline }) => `seed ${seed}\n${timeline.join('\n')}`);
}

describe('a fleet in a test tube', () => {
  it('handles every record once, in order, while workers come and go and shards split and merge', async () => {
    const results = await play(1, 100, 'calm');
    expect(failures(results)).toEqual([]);
    expect(results.reduce((sum, { reshards }) => sum + reshards, 0)).toBeGreaterThan(500);
  }, 300_000);

  it('handles every record once though calls and handlers fail, as long as nothing dies and no answer is lost', async () => {
    const results = await play(1, 80, 'rough');
    expect(failures(results)).toEqual([]);
  }, 300_000);

  it('loses nothing, keeps order and never works on a shard twice at a time, whatever dies, freezes or fails', async () => {
    const results = await play(1, 300, 'wild');
    expect(failures(results)).toEqual([]);
    const total = (count: (result: HistoryResult) => number): number =>
      results.reduce((sum, result) => sum + count(result), 0);
    expect(total(({ kills }) => kills)).toBeGreaterThan(400);
    expect(total(({ leaderLosses }) => leaderLosses)).toBeGreaterThan(100);
    expect(total(({ freezes }) => freezes)).toBeGreaterThan(400);
    expect(total(({ stalls }) => stalls)).toBeGreaterThan(300);
    expect(total(({ cuts }) => cuts)).toBeGreaterThan(200);
    expect(total(({ deploys }) => deploys)).toBeGreaterThan(100);
    expect(total(({ nights }) => nights)).toBeGreaterThan(20);
  }, 300_000);

  it('loses nothing and keeps order where shards are stolen as by a KCL 2.x', async () => {
    const results = await play(1, 80, 'wild', 'kcl2');
    expect(failures(results)).toEqual([]);
  }, 300_000);

  it('loses nothing and keeps order while it changes over from one lease mode to the other and back', async () => {
    const results = await play(1, 80, 'wild', 'changing');
    expect(failures(results)).toEqual([]);
    expect(results.reduce((sum, { modeChanges }) => sum + modeChanges, 0)).toBeGreaterThan(100);
  }, 300_000);

  it('plays the same history for the same seed', async () => {
    const [first, second] = [await playHistory(7), await playHistory(7)];
    expect(second).toEqual(first);
  });
});
