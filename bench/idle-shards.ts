import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

import { Consumer, MemoryLeaseTable } from '@shardline/consumer';

import { compare } from './harness.js';
import { startLocalServer } from './local.js';

const SHARDS = 2_000;
const MEASURE_MS = 2_000;

/** What a shard costs a worker while nothing happens: memory once, and CPU for every second. */
export async function idleShardsBench(): Promise<void> {
  const { child, clientConfig } = await startLocalServer(SHARDS);
  for (const retrieval of ['polling', 'fanOut'] as const) {
    const before = memory();
    const consumer = new Consumer({
      streamName: 'bench',
      applicationName: `idle-${retrieval}`,
      retrieval,
      leaseTable: new MemoryLeaseTable(),
      initialPosition: 'TRIM_HORIZON',
      clientConfig,
      handler: { processRecord: () => {} },
    });
    await consumer.ready();
    // Pollers slow down at a tip that stays silent.
    await pause(5_000);
    const after = memory();
    await compare(`${SHARDS} idle shards in one worker by ${retrieval}`, 'shard and second', [
      {
        name: `${Math.round((after.heap - before.heap) / SHARDS / 1_000)} KB of heap, ${Math.round((after.rss - before.rss) / SHARDS / 1_000)} KB of memory a shard`,
        run: async () => {
          const startedMs = performance.now();
          await pause(MEASURE_MS);
          return (SHARDS * (performance.now() - startedMs)) / 1_000;
        },
      },
    ]);
    await consumer.close();
  }
  child.kill();
  await once(child, 'exit');
}

function memory(): { readonly heap: number; readonly rss: number } {
  globalThis.gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  return { heap: heapUsed, rss };
}
