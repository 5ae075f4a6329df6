import { setTimeout as pause } from 'node:timers/promises';

import { Producer } from '@shardline/producer';

import { type InputLine, inputLines } from './input.js';
import { childConfig, type Payload, tell } from './messages.js';

/** What an entry of a PutRecords request has besides its data and key. */
const ENTRY_BYTES = '{"Data":"","PartitionKey":""},'.length;
/** Lines that come in one go, as from a log file that is followed. */
const BATCH_LINES = 20;

const { kinesis, streamName, files, linesPerSecond } = childConfig();
const producer = new Producer({
  streamName,
  clientConfig: kinesis,
  ordering: 'strict',
  compression: 'brotli',
});

let failed = 0;
let n = 0;
const startedAt = Date.now();
let batch: InputLine[] = [];

for await (const line of inputLines(files)) {
  batch.push(line);
  if (batch.length < BATCH_LINES) continue;
  await send(batch.splice(0));
  const aheadMs = (n / linesPerSecond) * 1000 - (Date.now() - startedAt);
  if (aheadMs > 0) await pause(aheadMs);
}
await send(batch);
await producer.close();
await tell({ kind: 'produced', stats: producer.stats(), failed });
process.disconnect();

async function send(lines: readonly InputLine[]): Promise<void> {
  const numbers = lines.map((_, index) => n + index);
  const payloads = lines.map(({ line }, index) =>
    JSON.stringify({ n: n + index, sentAt: Date.now(), line } satisfies Payload),
  );
  n += lines.length;
  const requestBytes = payloads.reduce((sum, payload, index) => {
    const keyBytes = Buffer.byteLength(lines[index]?.key ?? '');
    return sum + Math.ceil(Buffer.byteLength(payload) / 3) * 4 + keyBytes + ENTRY_BYTES;
  }, 0);
  // Told before it is put: what was put and told nobody could not be missed.
  await tell({ kind: 'sent', numbers, requestBytes });
  payloads.forEach((data, index) => {
    producer.put({ partitionKey: lines[index]?.key ?? '', data }).catch((error: unknown) => {
      failed += 1;
      console.error(error);
    });
  });
}
