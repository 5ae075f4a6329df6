import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { KinesisClient } from '@aws-sdk/client-kinesis';
import { Consumer } from '@shardline/consumer';
import { Producer } from '@shardline/producer';
import { seededRandom } from '@shardline/shared/testing';

import { inputLines } from '../../examples/demo/input.js';
import { percentile } from '../../examples/demo/ledger.js';
import { printTable } from '../../examples/demo/screen.js';
import { STREAM } from './messages.js';
import { freePort } from './proxy.js';
import { reshardOnce } from './reshard.js';

/**
 * One process that puts and handles mixed traffic for a long time while the stream is resharded: what it
 * holds must not grow. The server is a process of its own.
 */

const { values, positionals: files } = parseArgs({
  options: { minutes: { type: 'string', default: '10' } },
  allowPositionals: true,
});
const RECORDS_PER_SECOND = 500;
const RESHARD_EVERY_MS = 20_000;
const SAMPLE_EVERY_MS = 2_000;
/** What is in flight when a sample is taken, and what V8 keeps. */
const TOLERANCE_BYTES = 6 * 2 ** 20;

interface Sample {
  readonly heapBytes: number;
  readonly externalBytes: number;
  readonly sockets: number;
  readonly timers: number;
  readonly listeners: number;
}

const dataFolder = await mkdtemp(join(tmpdir(), 'shardline-soak-'));
const ports = { kinesis: await freePort(), dynamodb: await freePort() };
const server = fork(fileURLToPath(new URL('./server.ts', import.meta.url)), {
  execArgv: ['--no-warnings', '--conditions=@shardline/source', '--import', 'tsx'],
  env: { ...process.env, CHAOS_CHILD: JSON.stringify({ name: 'server', ports, dataFolder }) },
});
await new Promise<void>((resolve) => server.once('message', () => resolve()));
const config = (port: number) => ({
  endpoint: `http://127.0.0.1:${port}`,
  region: 'us-east-1',
  credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
});
const clientConfig = config(ports.kinesis);
const client = new KinesisClient(clientConfig);

const random = seededRandom(1);
const received = new Map<string, Set<number>>();
const consumers = (['polling', 'fanOut', 'auto'] as const).map((retrieval) => {
  const own = new Set<number>();
  received.set(retrieval, own);
  return new Consumer({
    streamName: STREAM,
    applicationName: `soak-${retrieval}`,
    retrieval,
    fanOutBytesPerSecond: 2_000,
    clientConfig,
    dynamodbConfig: config(ports.dynamodb),
    initialPosition: 'TRIM_HORIZON',
    concurrency: 8,
    auditIntervalMs: 5_000,
    assignmentIntervalMs: 500,
    handler: {
      processRecord: ({ data }) => {
        const n = Number(data.toString().split(' ', 1)[0]);
        if (n >= forgottenTo) own.add(n);
      },
    },
  });
});
await Promise.all(consumers.map((consumer) => consumer.start()));
const producers = [
  new Producer({ streamName: STREAM, clientConfig, compression: 'brotli' }),
  new Producer({ streamName: STREAM, clientConfig, ordering: 'strict' }),
  new Producer({ streamName: STREAM, clientConfig, aggregation: false }),
];

const samples: Sample[] = [];
const startedMs = performance.now();
const endMs = Number(values.minutes) * 60_000;
const elapsedMs = (): number => performance.now() - startedMs;
let put = 0;
let failed = 0;
let reshards = 0;
let nextReshardMs = RESHARD_EVERY_MS;
let nextSampleMs = 0;
let lost = 0;
/** Every consumer has everything before this number, and what is behind it is forgotten. */
let forgottenTo = 0;

while (elapsedMs() < endMs) {
  for await (const { key, line } of inputLines(files)) {
    if (elapsedMs() >= endMs) break;
    producers[put % producers.length]
      ?.put({ partitionKey: key, data: `${put} ${line}` })
      .catch(() => (failed += 1));
    put += 1;
    if (put % 50 !== 0) continue;
    await pause((50 * 1_000) / RECORDS_PER_SECOND);
    if (elapsedMs() > nextReshardMs) await reshard();
    if (elapsedMs() > nextSampleMs) await takeSample();
  }
}
await Promise.all(producers.map((producer) => producer.close()));
await waitFor(put);
await Promise.all(consumers.map((consumer) => consumer.close()));
client.destroy();
server.kill('SIGTERM');
await new Promise((resolve) => server.once('exit', resolve));
await rm(dataFolder, { recursive: true, force: true });
process.exit(report() ? 0 : 1);

async function reshard(): Promise<void> {
  nextReshardMs += RESHARD_EVERY_MS;
  if (await reshardOnce(client, STREAM, random)) reshards += 1;
}

async function takeSample(): Promise<void> {
  nextSampleMs += SAMPLE_EVERY_MS;
  await waitFor(put - RECORDS_PER_SECOND * 5);
  for (let pass = 0; pass < 2; pass += 1) globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  const resources = process.getActiveResourcesInfo();
  const count = (name: string): number => resources.filter((each) => each === name).length;
  samples.push({
    heapBytes: heapUsed,
    externalBytes: external,
    sockets: count('TCPSocketWrap'),
    timers: count('Timeout'),
    listeners: process.eventNames().reduce((sum, name) => sum + process.listenerCount(name), 0),
  });
}

/** Waits until every consumer has every record before this one, then forgets those. */
async function waitFor(number: number): Promise<void> {
  const deadlineMs = performance.now() + 60_000;
  for (const own of received.values()) {
    for (let n = forgottenTo; n < number; n += 1) {
      while (!own.has(n) && performance.now() < deadlineMs) await pause(20);
      if (!own.has(n)) lost += 1;
    }
  }
  for (const own of received.values()) for (const n of own) if (n < number) own.delete(n);
  forgottenTo = Math.max(forgottenTo, number);
}

/** @returns Whether nothing grew and nothing was lost. */
function report(): boolean {
  // The first third warms up.
  const third = Math.floor(samples.length / 3);
  const early = samples.slice(third, 2 * third);
  const late = samples.slice(2 * third);
  const medians = (of: readonly Sample[], name: keyof Sample): number =>
    percentile(
      of.map((sample) => sample[name]),
      0.5,
    );
  const rows = (['heapBytes', 'externalBytes', 'sockets', 'timers', 'listeners'] as const).map(
    (name) => {
      const [before, after] = [medians(early, name), medians(late, name)];
      const allowed = name.endsWith('Bytes') ? TOLERANCE_BYTES : Math.max(6, before * 0.25);
      return { name, before, after, isFlat: after - before <= allowed };
    },
  );
  printTable([
    ['minutes', String(values.minutes)],
    ['records put', String(put)],
    ['reshards', String(reshards)],
    ['refused', String(failed)],
    ['lost', String(lost)],
    ...rows.map(({ name, before, after, isFlat }): [string, string] => [
      `${name}, middle and last third`,
      `${before.toLocaleString('en-US')} ${after.toLocaleString('en-US')} ${isFlat ? 'flat' : 'GREW'}`,
    ]),
  ]);
  return lost === 0 && failed === 0 && rows.every(({ isFlat }) => isFlat);
}
