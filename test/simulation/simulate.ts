import { parseArgs } from 'node:util';

import { playHistory } from './history.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    from: { type: 'string', default: '1' },
    calm: { type: 'boolean', default: false },
    rough: { type: 'boolean', default: false },
    leases: { type: 'string', default: 'native' },
    timeline: { type: 'boolean', default: false },
  },
});
const mode = values.calm ? 'calm' : values.rough ? 'rough' : 'wild';
const leases = values.leases as 'native' | 'kcl2' | 'changing';
const count = Number(values.seeds);
const first = Number(values.from);
let failed = 0;
let healedMs = 0;
let duplicates = 0;
let stored = 0;
const trouble = {
  kills: 0,
  leaderLosses: 0,
  modeChanges: 0,
  freezes: 0,
  stalls: 0,
  cuts: 0,
  deploys: 0,
  nights: 0,
  reshards: 0,
};
for (let seed = first; seed < first + count; seed += 1) {
  const result = await playHistory(seed, { mode, leases });
  healedMs = Math.max(healedMs, result.healedMs);
  duplicates += result.duplicates;
  stored += result.stored;
  for (const kind of Object.keys(trouble) as (keyof typeof trouble)[]) {
    trouble[kind] += result[kind];
  }
  if (result.problems.length > 0) failed += 1;
  if (result.problems.length > 0 || values.timeline) {
    console.log(`\nseed ${seed}\n${result.timeline.join('\n')}`);
    console.log(
      `replay: simulate --from ${seed} --seeds 1${mode === 'wild' ? '' : ` --${mode}`} --leases ${leases} --timeline`,
    );
  }
}
console.log(
  `\n${Object.entries(trouble)
    .map(([kind, count]) => `${count} ${kind}`)
    .join(', ')}`,
);
console.log(`${stored} records, ${duplicates} handled again, healed within ${healedMs} ms`);
console.log(`${count} histories, ${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
