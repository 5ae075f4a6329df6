import { access } from 'node:fs/promises';
import { parseArgs } from 'node:util';

import { percentile } from '../../examples/demo/ledger.js';
import { printTable } from '../../examples/demo/screen.js';
import { FAILOVER_MS } from './messages.js';
import { runChaos } from './run-chaos.js';

const { values, positionals: files } = parseArgs({
  options: {
    minutes: { type: 'string', default: '2' },
    seed: { type: 'string', default: String(Date.now() % 100_000) },
  },
  allowPositionals: true,
});
for (const file of files) {
  await access(file).catch(() => {
    console.error(`no such file: ${file}`);
    process.exit(2);
  });
}
console.log(`seed ${values.seed}`);
const report = await runChaos({
  minutes: Number(values.minutes),
  files,
  seed: Number(values.seed),
  onNote: (what) => console.log(what),
});
const { faults, takeOversMs, refused } = report;
const count = (value: number): string => value.toLocaleString('en-US');
printTable([
  ...[...faults].map(([what, times]): [string, string] => [what, count(times)]),
  ['', ''],
  ['acknowledged', count(report.acknowledged)],
  ['received', count(report.received)],
  ['duplicates', count(report.duplicates)],
  ['refused', `${refused.length} ${refused[0] ?? ''}`],
  ['order violations per key', count(report.orderViolations)],
  [
    `take-over after SIGKILL, failover time ${FAILOVER_MS} ms`,
    takeOversMs.length > 0
      ? `p50 ${Math.round(percentile(takeOversMs, 0.5))} ms, max ${Math.round(Math.max(...takeOversMs))} ms, ${takeOversMs.length} shards`
      : 'none',
  ],
  ['losses', count(report.lost)],
]);
process.exit(report.lost + report.orderViolations + refused.length === 0 ? 0 : 1);
