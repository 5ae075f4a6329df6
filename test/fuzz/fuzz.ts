import { parseArgs } from 'node:util';

import { fuzz } from './run-fuzz.js';
import { TARGETS } from './targets.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 100_000) },
  },
});
let failed = 0;
console.log(`seed ${values.seed}`);
for (const target of TARGETS) {
  const forMs = (Number(values.seconds) * 1_000) / TARGETS.length;
  const { inputs, problems } = await fuzz(target, Number(values.seed), forMs);
  failed += problems.length;
  console.log(
    `${target.name.padEnd(16)} ${inputs.toLocaleString('en-US').padStart(10)} inputs, ${problems.length} problems`,
  );
  for (const problem of problems) console.log(problem);
}
process.exit(failed > 0 ? 1 : 0);
