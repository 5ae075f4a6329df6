import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';

import {
  GetRecordsCommand,
  GetShardIteratorCommand,
  KinesisClient,
  PutRecordsCommand,
} from '@aws-sdk/client-kinesis';
import { Producer } from '@shardline/producer';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import { unpaced } from './fast-clock.js';
import { note } from './harness.js';
import { startLocalServer } from './local.js';
import { offerAll } from './offer-all.js';
import { readAll } from './read-all.js';

const SHARDS = 4;
const RECORDS = 200_000;
const ROUNDS = 3;
const SPEED = 50;

/** How long the event loop is held up at full load. */
export async function pausesBench(): Promise<void> {
  const { child, clientConfig } = await startLocalServer(SHARDS);
  const client = new KinesisClient({ ...clientConfig, requestHandler: new NodeHttpHandler() });
  const keys = Array.from({ length: RECORDS }, () => randomUUID());
  const produce = async (bytes: number, count: number): Promise<void> => {
    await using producer = new Producer({
      streamName: 'bench',
      onOutcome: () => {},
      ...unpaced(SPEED),
      clientConfig,
    });
    const data = Buffer.alloc(bytes, 'a line of a log that repeats itself ');
    await offerAll(producer, keys.slice(0, count), data);
  };
  const consume = (retrieval: 'polling' | 'fanOut'): Promise<void> =>
    readAll(clientConfig, { retrieval }, RECORDS, () => {});
  const Records = keys
    .slice(0, 500)
    .map((PartitionKey) => ({ PartitionKey, Data: Buffer.alloc(10_000, 'x') }));

  console.log(
    '\npauses of the event loop at full load, ms of processor time a turn, collector included',
  );
  console.log(
    `  ${''.padEnd(60)} ${['p50', 'p99', 'p99.9', 'max', 'max, wall'].map((name) => name.padStart(9)).join(' ')}`,
  );
  await measure('shardline producer, 100 B', () => produce(100, RECORDS));
  await measure('shardline consumer, polling, 100 B', () => consume('polling'));
  await measure('shardline consumer, fan-out, 100 B', () => consume('fanOut'));
  await measure('shardline producer, 1 KB', () => produce(1_024, RECORDS / 4));
  await measure('SDK, PutRecords of 5 MB, HTTP/1.1 keep-alive', async () => {
    for (let call = 0; call < 10; call += 1) {
      await client.send(new PutRecordsCommand({ StreamName: 'bench', Records }));
    }
  });
  await measure('SDK, GetRecords of up to 10 MB, HTTP/1.1 keep-alive', async () => {
    let { ShardIterator } = await client.send(
      new GetShardIteratorCommand({
        StreamName: 'bench',
        ShardId: 'shardId-000000000000',
        ShardIteratorType: 'TRIM_HORIZON',
      }),
    );
    for (let call = 0; call < 5; call += 1) {
      const answer = await client.send(new GetRecordsCommand({ ShardIterator }));
      ShardIterator = answer.NextShardIterator;
    }
  });
  client.destroy();
  child.kill();
  await once(child, 'exit');
}

async function measure(what: string, work: () => Promise<unknown>): Promise<void> {
  // Code is slow until it is compiled, and compiling is no work of ours.
  await work();
  const wallMs: number[] = [];
  const ownMs: number[] = [];
  let isDone = false;
  let last = { atMs: performance.now(), ownMs: threadMs() };
  const tick = (): void => {
    const now = { atMs: performance.now(), ownMs: threadMs() };
    wallMs.push(now.atMs - last.atMs);
    ownMs.push(now.ownMs - last.ownMs);
    last = now;
    if (!isDone) setImmediate(tick);
  };
  setImmediate(tick);
  for (let round = 0; round < ROUNDS; round += 1) await work();
  isDone = true;
  const own = ownMs.sort((a, b) => a - b);
  const [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1].map(
    (share) => own[Math.min(Math.floor(share * own.length), own.length - 1)] ?? 0,
  ) as [number, number, number, number];
  const wallMax = wallMs.reduce((most, ms) => Math.max(most, ms), 0);
  console.log(
    `  ${what.padEnd(60)} ${[p50, p99, p999, max, wallMax].map((ms) => ms.toFixed(1).padStart(9)).join(' ')}`,
  );
  note('pauses', { what, p50Ms: p50, p99Ms: p99, p999Ms: p999, maxMs: max, wallMaxMs: wallMax });
}

/** Processor time of this thread, where the system tells it: without what others on the machine took. */
function threadMs(): number {
  if (process.platform !== 'linux') return performance.now();
  return Number(readFileSync('/proc/thread-self/schedstat', 'utf8').split(' ')[0]) / 1e6;
}
