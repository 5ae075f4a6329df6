import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

import { Consumer, MemoryLeaseTable } from '@shardline/consumer';
import { Producer } from '@shardline/producer';

import { note } from './harness.js';
import { startLocalServer } from './local.js';

/** By what a shard takes, 1,000 records a second. */
const LOADS = [
  { what: 'one record each 20 ms', count: 1, everyMs: 20, forMs: 8_000 },
  { what: '80 % of a shard, 800 records a second', count: 8, everyMs: 10, forMs: 5_000 },
];

/** How long a record takes from put to its handler, and to its receipt, through a local Kinesis. */
export async function latencyBench(): Promise<void> {
  console.log('\nlatency, ms, producer and consumer in this process, default options, one shard');
  console.log(
    `  ${''.padEnd(64)} ${['p50', 'p99', 'p99.9', 'max'].map((name) => name.padStart(8)).join(' ')}`,
  );
  for (const retrieval of ['fanOut', 'polling'] as const) {
    for (const load of LOADS) await measure(retrieval, load);
  }
}

async function measure(
  retrieval: 'fanOut' | 'polling',
  load: (typeof LOADS)[number],
): Promise<void> {
  const { child, clientConfig } = await startLocalServer(1);
  const sentMs: number[] = [];
  const toHandler: number[] = [];
  const toReceipt: number[] = [];
  const consumer = new Consumer({
    streamName: 'bench',
    applicationName: 'latency',
    leaseTable: new MemoryLeaseTable(),
    initialPosition: 'TRIM_HORIZON',
    retrieval,
    clientConfig,
    handler: {
      processRecord: ({ data }) => {
        const sent = sentMs[Number(data.toString())];
        if (sent !== undefined) toHandler.push(performance.now() - sent);
      },
    },
  });
  await consumer.ready();
  const producer = new Producer({ streamName: 'bench', clientConfig });
  await producer.put({ partitionKey: 'first', data: 'first' });
  const endMs = performance.now() + load.forMs;
  const puts: Promise<unknown>[] = [];
  while (performance.now() < endMs) {
    for (let each = 0; each < load.count; each += 1) {
      const number = sentMs.length;
      const sent = performance.now();
      sentMs.push(sent);
      const put = producer.put({ partitionKey: `key-${number}`, data: String(number) });
      puts.push(put.then(() => toReceipt.push(performance.now() - sent)));
    }
    await pause(load.everyMs);
  }
  await Promise.all(puts);
  while (toHandler.length < sentMs.length) await pause(20);
  await producer.close();
  await consumer.close();
  child.kill();
  await once(child, 'exit');
  print(`put to handler, ${retrieval}, ${load.what}`, toHandler);
  if (retrieval === 'fanOut') print(`put to receipt, ${load.what}`, toReceipt);
}

function print(what: string, samples: readonly number[]): void {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
  const figures = [at(0.5), at(0.99), at(0.999), at(1)];
  console.log(`  ${what.padEnd(64)} ${figures.map((ms) => ms.toFixed(1).padStart(8)).join(' ')}`);
  note('latency', {
    what,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    p999Ms: at(0.999),
    samples: samples.length,
  });
}
