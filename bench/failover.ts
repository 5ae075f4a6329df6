import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { startLocal } from '@shardline/local';
import { Producer } from '@shardline/producer';

import { note } from './harness.js';

const SHARDS = 4;
const FAILOVER_MS = 3_000;
const RUNS = 3;

interface Handled {
  readonly worker: number;
  readonly shardId: string;
  readonly atMs: number;
}

/**
 * How long shards go without a reader: at a cold start, when a worker stops, and when it is killed. Workers are
 * processes, records come all the time, and a gap is the time between two records handled of one shard.
 */
export async function failoverBench(): Promise<void> {
  console.log(
    `\nfailover, ms, ${SHARDS} shards, failover time ${FAILOVER_MS} ms, workers as processes, ${RUNS} runs`,
  );
  const found = { cold: [] as number[], stopped: [] as number[], killed: [] as number[] };
  for (let run = 0; run < RUNS; run += 1) {
    const local = await startLocal({ streams: [{ name: 'bench', shards: SHARDS }] });
    const producer = new Producer({ streamName: 'bench', clientConfig: local.kinesis });
    const handled: Handled[] = [];
    let isOver = false;
    const putting = (async () => {
      for (let number = 0; !isOver; number += 1) {
        void producer.put({ partitionKey: `key-${number}`, data: 'x' });
        await pause(5);
      }
    })();
    const start = (worker: number): ChildProcess => {
      const config = JSON.stringify({
        kinesis: local.kinesis,
        dynamodb: local.dynamodb,
        failoverMs: FAILOVER_MS,
      });
      const child = fork(
        fileURLToPath(new URL('./failover-worker.ts', import.meta.url)),
        [config],
        {
          execArgv: process.execArgv,
        },
      );
      child.on('message', (shardId: string) =>
        handled.push({ worker, shardId, atMs: performance.now() }),
      );
      return child;
    };
    const owns = (worker: number, count: number): boolean => {
      const recent = handled.filter(({ atMs }) => atMs > performance.now() - 500);
      const owners = new Map(recent.map((each) => [each.shardId, each.worker]));
      return [...owners.values()].filter((owner) => owner === worker).length === count;
    };
    const startedMs = performance.now();
    const first = start(1);
    while (handled.length === 0) await pause(5);
    found.cold.push((handled[0]?.atMs ?? 0) - startedMs);
    const second = start(2);
    while (!owns(2, SHARDS / 2)) await pause(50);
    await pause(1_000);
    const stoppedMs = performance.now();
    first.send('stop');
    while (!owns(2, SHARDS)) await pause(50);
    found.stopped.push(widestGap(handled, stoppedMs));
    const third = start(3);
    while (!owns(3, SHARDS / 2)) await pause(50);
    await pause(1_000);
    const killedMs = performance.now();
    second.kill('SIGKILL');
    while (!owns(3, SHARDS)) await pause(50);
    found.killed.push(widestGap(handled, killedMs));
    isOver = true;
    await putting;
    third.kill('SIGKILL');
    await Promise.all([once(third, 'exit'), producer.close()]);
    await local.close();
  }
  print('cold start of a process to its first record handled', found.cold);
  print('widest gap in a shard when its worker stops', found.stopped);
  print('widest gap in a shard when its worker is killed', found.killed);
}

/** The longest time since a moment in which nothing of a shard was handled. */
function widestGap(handled: readonly Handled[], sinceMs: number): number {
  const last = new Map<string, number>();
  let widest = 0;
  for (const { shardId, atMs } of handled) {
    const before = last.get(shardId);
    if (before !== undefined && atMs > sinceMs) widest = Math.max(widest, atMs - before);
    last.set(shardId, atMs);
  }
  return widest;
}

function print(what: string, samples: readonly number[]): void {
  const figures = samples.map((ms) => Math.round(ms).toLocaleString('en-US').padStart(8));
  console.log(`  ${what.padEnd(64)} ${figures.join(' ')}`);
  note('failover', { what, samples });
}
