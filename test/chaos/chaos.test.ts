import { expect, it } from 'vitest';

import { runChaos } from './run-chaos.js';

it('loses nothing and keeps order while real processes are killed, stopped, cut off and replaced', async () => {
  const notes: string[] = [];
  const report = await runChaos({
    minutes: 0.6,
    files: [],
    seed: 1,
    onNote: (what) => notes.push(what),
  });
  expect({ ...report, notes }).toMatchObject({ lost: 0, orderViolations: 0, refused: [] });
  expect(report.acknowledged).toBeGreaterThan(3_000);
  expect(report.faults.size).toBeGreaterThan(4);
}, 200_000);
