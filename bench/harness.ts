import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';

/** One way to do the work: does `count` of it, or tells how much it did. */
export interface Contender {
  readonly name: string;
  /** The one the others are compared with. */
  readonly isOurs?: boolean;
  /** Before each run, and no part of it. */
  readonly prepare?: () => Promise<void>;
  readonly run: () => Promise<number> | number;
}

export interface Row {
  readonly name: string;
  /** Medians over the runs, per unit of work. */
  readonly cpuNs: number;
  readonly wallNs: number;
  readonly perSecond: number;
  /** (greatest - least) / median of the CPU time. */
  readonly spread: number;
}

const RUNS = 5;
const WARM_UPS = 2;
const notes: object[] = [];
const results: { bench: string; unit: string; rows: readonly Row[] }[] = [];

/** Runs the contenders in turn, several times, and prints what a unit of work costs each. */
export async function compare(
  bench: string,
  unit: string,
  contenders: readonly Contender[],
): Promise<readonly Row[]> {
  const samples = new Map<string, { cpuNs: number; wallNs: number }[]>();
  // The first rounds warm up. In turn, so that a noisy moment hits all.
  for (let run = 1 - WARM_UPS; run <= RUNS; run += 1) {
    for (const { name, prepare, run: work } of contenders) {
      await prepare?.();
      const cpu = process.cpuUsage();
      const started = process.hrtime.bigint();
      const done = await work();
      const wallNs = Number(process.hrtime.bigint() - started) / done;
      const { user, system } = process.cpuUsage(cpu);
      if (run <= 0) continue;
      const list = samples.get(name) ?? [];
      list.push({ cpuNs: ((user + system) * 1000) / done, wallNs });
      samples.set(name, list);
    }
  }
  const rows = contenders.map(({ name }): Row => {
    const list = samples.get(name) ?? [];
    const cpuNs = median(list.map((sample) => sample.cpuNs));
    const wallNs = median(list.map((sample) => sample.wallNs));
    const cpu = list.map((sample) => sample.cpuNs);
    const spread = (Math.max(...cpu) - Math.min(...cpu)) / cpuNs;
    return { name, cpuNs, wallNs, perSecond: 1e9 / wallNs, spread };
  });
  print(bench, unit, rows, contenders.find(({ isOurs }) => isOurs)?.name);
  results.push({ bench, unit, rows });
  return rows;
}

/** Keeps figures that are no times for the results. */
export function note(bench: string, figures: object): void {
  notes.push({ bench, ...figures });
}

/** Where and with what the figures were taken. */
export function environment(): string {
  const commit = execFileSync('git', ['rev-parse', '--short', 'HEAD']).toString().trim();
  const { model = 'unknown processor' } = cpus()[0] ?? {};
  return `Node ${process.version}, ${cpus().length} x ${model.trim()}, commit ${commit}, medians of ${RUNS} runs`;
}

export function writeResults(path: string): void {
  writeFileSync(
    path,
    `${JSON.stringify({ environment: environment(), results, notes }, null, 2)}\n`,
  );
}

function print(bench: string, unit: string, rows: readonly Row[], ours: string | undefined): void {
  const own = rows.find(({ name }) => name === ours);
  console.log(`\n${bench}`);
  console.log(
    `  ${'per '.concat(unit).padEnd(52)} ${'CPU ns'.padStart(10)} ${'wall ns'.padStart(10)} ${'per second'.padStart(12)} ${'spread'.padStart(7)}  CPU against ours`,
  );
  for (const row of rows) {
    const ratio = own && own !== row ? `${(row.cpuNs / own.cpuNs).toFixed(2)} x` : '';
    console.log(
      `  ${row.name.padEnd(52)} ${figure(row.cpuNs)} ${figure(row.wallNs)} ${figure(row.perSecond, 12)} ${`${(row.spread * 100).toFixed(0)} %`.padStart(7)}  ${ratio}`,
    );
  }
}

function figure(value: number, width = 10): string {
  const text = value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toFixed(1);
  return text.padStart(width);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >>> 1] ?? 0;
}
