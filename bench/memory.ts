import { Producer, type ProducerOptions } from '@shardline/producer';

import { note } from './harness.js';
import { ShardsInMemory } from './shards-in-memory.js';

const RECORDS = { 100: 200_000, 1_024: 50_000 } as const;
const KEYS = 10_000;

/** A stream whose answers never come: all that is put stays in the producer until it is closed. */
class SilentStream extends ShardsInMemory {
  override putRecords(_: unknown, signal: AbortSignal): Promise<never> {
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
  }
}

/** What a producer holds for a record that waits, besides its bytes. */
export async function memoryBench(): Promise<void> {
  console.log(
    '\nmemory of a record that waits in a producer, 16 shards; bytes besides data and key',
  );
  console.log(
    `  ${''.padEnd(52)} ${['heap', 'buffers', 'together'].map((name) => name.padStart(10)).join(' ')}`,
  );
  for (const bytes of [100, 1_024] as const) {
    await measure(`offer, ${bytes} B`, bytes, {}, false);
    await measure(`put, a promise a record, ${bytes} B`, bytes, {}, true);
    await measure(`offer, ${bytes} B, aggregation: false`, bytes, { aggregation: false }, false);
  }
}

async function measure(
  what: string,
  bytes: 100 | 1_024,
  options: Partial<ProducerOptions>,
  isPut: boolean,
): Promise<void> {
  const count = RECORDS[bytes];
  const keys = Array.from(
    { length: KEYS },
    (_, index) => `customer-${String(index).padStart(27, '0')}`,
  );
  const data = Buffer.alloc(bytes, 'x');
  const producer = new Producer(
    { streamName: 'bench', onOutcome: () => {}, maxBufferBytes: 2 ** 29, ...options },
    new SilentStream(16),
  );
  producer.offer({ partitionKey: 'first', data });
  // The shards are listed now.
  await new Promise((resolve) => setImmediate(resolve));
  const promises: Promise<unknown>[] = [];
  const before = memory();
  for (let index = 0; index < count; index += 1) {
    const record = { partitionKey: keys[index % KEYS] as string, data };
    if (isPut) promises.push(producer.put(record).catch(() => {}));
    else if (!producer.offer(record)) throw new Error('the buffer is too small for this bench');
  }
  const after = memory();
  const own = 36 + bytes;
  const heap = (after.heap - before.heap) / count;
  const buffers = (after.buffers - before.buffers) / count;
  const figures = [heap, buffers, heap + buffers - own];
  console.log(
    `  ${what.padEnd(52)} ${figures.map((figure) => figure.toFixed(0).padStart(10)).join(' ')}`,
  );
  note('memory', { what, heapBytes: heap, bufferBytes: buffers, overheadBytes: figures[2] });
  await producer.close({ timeoutMs: 0 });
  await Promise.all(promises);
}

function memory(): { readonly heap: number; readonly buffers: number } {
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { heap: heapUsed, buffers: arrayBuffers };
}
