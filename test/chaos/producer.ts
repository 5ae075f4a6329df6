import { setTimeout as pause } from 'node:timers/promises';

import { Producer } from '@shardline/producer';

import { inputLines } from '../../examples/demo/input.js';
import { childConfig, STREAM, tell } from './messages.js';

const LINES_PER_SECOND = 400;
const BATCH_LINES = 20;

const { kinesis, files, firstNumber, name } = childConfig();
const producer = new Producer({
  streamName: STREAM,
  clientConfig: kinesis,
  ordering: 'strict',
  compression: 'brotli',
  whenRefused: 'wait',
  recordTtlMs: 600_000,
});

let next = firstNumber;
let isStopping = false;
let stored: number[] = [];

process.once('SIGTERM', () => (isStopping = true));
process.once('disconnect', () => process.exit());

const telling = setInterval(() => void tellStored(), 50);

while (!isStopping) {
  // The files over and over, for as long as it takes.
  for await (const { key, line } of inputLines(files)) {
    if (isStopping) break;
    const n = next;
    next += 1;
    // Keys of one process: in order are those of one producer.
    const partitionKey = `${name} ${key}`;
    producer.put({ partitionKey, data: JSON.stringify({ n, line }) }).then(
      () => void stored.push(n),
      (error: unknown) => void tell({ kind: 'refused', reason: String(error) }),
    );
    if (n % BATCH_LINES === 0) await pause((1_000 * BATCH_LINES) / LINES_PER_SECOND);
  }
}
await producer.close();
clearInterval(telling);
await tellStored();
await tell({ kind: 'drained', nextNumber: next });
process.disconnect();

async function tellStored(): Promise<void> {
  if (stored.length === 0) return;
  const numbers = stored;
  stored = [];
  await tell({ kind: 'acknowledged', numbers });
}
