import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

/** Does some work and tells how much. */
export type Run = () => Promise<number> | number;

/** One way to do the work. */
export interface Contender {
  readonly name: string;
  /** The one the others are compared with. */
  readonly isOurs?: boolean;
  readonly run: Run;
}

/** One way to do the work, in a process of its own. */
export interface LoneContender extends Omit<Contender, 'run'> {
  /** Makes what the runs share. Called there, and nothing else is. */
  readonly start: () => Promise<Run> | Run;
}

/** What a process needs to know to be a contender. */
export interface Role {
  /** URL of a module, and the name of a function in it that makes contenders of a setting. */
  readonly module: string;
  readonly contendersOf: string;
  readonly setting: unknown;
  readonly index: number;
}

/** What a run took per unit of work. */
export interface Sample {
  readonly cpuNs: number;
  readonly wallNs: number;
}

export interface Row {
  readonly name: string;
  /** Medians over the runs, per unit of work. */
  readonly cpuNs: number;
  /** Of the best run: what others do on the machine only adds. */
  readonly leastCpuNs: number;
  readonly wallNs: number;
  readonly perSecond: number;
  /** (greatest - least) / median of the CPU time. */
  readonly spread: number;
}

const RUNS = 5;
/** Before them, at least so many and so long. */
const WARM_UPS = 2;
const WARM_UP_MS = 1_500;
const CORES = cpus().length;
const notes: object[] = [];
const results: { bench: string; unit: string; rows: readonly Row[] }[] = [];

/** Runs the contenders in turn, several times, and prints what a unit of work costs each. */
export function compare(
  bench: string,
  unit: string,
  contenders: readonly Contender[],
): Promise<readonly Row[]> {
  const samplers = contenders.map(({ name, isOurs = false, run }) => ({
    name,
    isOurs,
    sample: () => measure(run),
  }));
  return inTurn(bench, unit, samplers);
}

/**
 * As {@link compare}, each contender in a process of its own: none pays for another's garbage, and V8 knows of
 * none what it learned of another.
 *
 * @param module - URL of the module that exports `contendersOf` by its name.
 * @param setting - Anything that JSON can carry.
 */
export async function compareApart<Setting>(
  bench: string,
  unit: string,
  module: string,
  contendersOf: (setting: Setting) => readonly LoneContender[],
  setting: Setting,
): Promise<readonly Row[]> {
  const samplers = contendersOf(setting).map(({ name, isOurs = false }, index) => ({
    name,
    isOurs,
    ...spawnContender({ module, contendersOf: contendersOf.name, setting, index }),
  }));
  for (const { ready } of samplers) await ready;
  const rows = await inTurn(bench, unit, samplers, CORES);
  for (const { stop } of samplers) await stop();
  return rows;
}

function spawnContender(role: Role): {
  readonly ready: Promise<unknown>;
  readonly sample: () => Promise<Sample>;
  readonly stop: () => Promise<unknown>;
} {
  const path = fileURLToPath(new URL('./contender.ts', import.meta.url));
  const child = fork(path, [JSON.stringify(role)]);
  const gone = new AbortController();
  child.once('exit', () => gone.abort(new Error(`a contender ended early: ${role.contendersOf}`)));
  const answer = (): Promise<unknown[]> => once(child, 'message', { signal: gone.signal });
  return {
    ready: answer(),
    sample: async () => {
      child.send('run');
      const [sample] = (await answer()) as [Sample];
      return sample;
    },
    stop: () => {
      child.disconnect();
      return once(child, 'exit');
    },
  };
}

/** Does what V8 compiles anew, until it is done with that. */
async function warmUp(samplers: Iterable<Sampler>): Promise<void> {
  for (const { sample } of samplers) {
    const startedMs = performance.now();
    for (let run = 0; run < WARM_UPS || performance.now() - startedMs < WARM_UP_MS; run += 1) {
      await sample();
    }
  }
}

interface Sampler {
  readonly name: string;
  readonly isOurs: boolean;
  readonly sample: () => Promise<Sample>;
}

/** Runs work and tells what a unit of it took. */
export async function measure(run: Run): Promise<Sample> {
  const cpu = process.cpuUsage();
  const started = process.hrtime.bigint();
  const done = await run();
  const wallNs = Number(process.hrtime.bigint() - started) / done;
  const { user, system } = process.cpuUsage(cpu);
  return { cpuNs: ((user + system) * 1_000) / done, wallNs };
}

async function inTurn(
  bench: string,
  unit: string,
  samplers: readonly Sampler[],
  warmUpsAtATime = 1,
): Promise<readonly Row[]> {
  const samples = samplers.map((): Sample[] => []);
  const cold = samplers.values();
  await Promise.all(Array.from({ length: warmUpsAtATime }, () => warmUp(cold)));
  // In turn, so that a noisy moment hits all.
  for (let run = 0; run < RUNS; run += 1) {
    for (const [index, { sample }] of samplers.entries()) samples[index]?.push(await sample());
  }
  const rows = samplers.map(({ name }, index): Row => {
    const list = samples[index] ?? [];
    const cpu = list.map(({ cpuNs }) => cpuNs);
    const cpuNs = median(cpu);
    const wallNs = median(list.map((sample) => sample.wallNs));
    const leastCpuNs = Math.min(...cpu);
    const spread = (Math.max(...cpu) - leastCpuNs) / cpuNs;
    return { name, cpuNs, leastCpuNs, wallNs, perSecond: 1e9 / wallNs, spread };
  });
  print(bench, unit, rows, samplers.find(({ isOurs }) => isOurs)?.name);
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
  const columns = ['CPU ns', 'best run', 'wall ns', 'per second', 'spread'];
  const heads = columns.map((column) => column.padStart(10)).join(' ');
  console.log(`\n${bench}`);
  console.log(`  ${'per '.concat(unit).padEnd(52)} ${heads}  against ours, by best runs`);
  for (const row of rows) {
    const { cpuNs, leastCpuNs, wallNs, perSecond, spread } = row;
    const ratio =
      own && own !== row
        ? `${(cpuNs / own.cpuNs).toFixed(2)} x, ${(leastCpuNs / own.leastCpuNs).toFixed(2)} x`
        : '';
    const figures = [cpuNs, leastCpuNs, wallNs, perSecond].map(figure).join(' ');
    console.log(
      `  ${row.name.padEnd(52)} ${figures} ${`${(spread * 100).toFixed(0)} %`.padStart(10)}  ${ratio}`,
    );
  }
}

function figure(value: number): string {
  const text = value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toFixed(1);
  return text.padStart(10);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >>> 1] ?? 0;
}
