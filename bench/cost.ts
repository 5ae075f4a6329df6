import { readFileSync } from 'node:fs';

import { Producer, type ProducerOptions } from '@shardline/producer';
import { seededRandom } from '@shardline/shared/testing';

import { fastClock } from './fast-clock.js';
import { note } from './harness.js';
import { ShardsInMemory } from './shards-in-memory.js';

const LINES = 200_000;
const SHARDS = 4;
const SPEED = 20;
/** A PUT payload unit, and what a shard takes a second, by the service's documentation. */
const UNIT_BYTES = 25 * 1_024;
const SHARD_BYTES = 2 ** 20;
const SHARD_RECORDS = 1_000;
/** Provisioned, us-east-1, US dollars for a million PUT payload units. */
const UNIT_PRICE = 0.014;

/** What a million log lines cost at the service: PUT payload units, and shards at a million lines a minute. */
export async function costBench(files: readonly string[]): Promise<void> {
  const lines = files.length > 0 ? linesOf(files) : madeUpLines();
  const bytes = lines.reduce((sum, line) => sum + line.length, 0);
  const source = files.length > 0 ? `of ${files.length} files` : 'made up';
  console.log(
    `\ncost: ${lines.length.toLocaleString('en-US')} log lines ${source}, ${Math.round(bytes / lines.length)} bytes each; for a million lines`,
  );
  console.log(
    `  ${''.padEnd(44)} ${'Kinesis records'.padStart(16)} ${'payload units'.padStart(14)} ${'USD'.padStart(9)} ${'shards'.padStart(8)}`,
  );
  const rows: [string, Partial<ProducerOptions>][] = [
    ['plain, a Kinesis record a line', { aggregation: false }],
    ['aggregated as the KPL does by default', {}],
    ['aggregated and gzip', { compression: 'gzip' }],
    ['aggregated and brotli', { compression: 'brotli' }],
  ];
  let kplUnits = 0;
  for (const [what, options] of rows) {
    const { records, units, sentBytes } = await send(lines, options);
    const scale = 1e6 / lines.length;
    if (what.includes('KPL')) kplUnits = units;
    const shards = Math.max(
      (sentBytes * scale) / 60 / SHARD_BYTES,
      (records * scale) / 60 / SHARD_RECORDS,
    );
    const against =
      kplUnits > 0 && !what.includes('KPL')
        ? `  ${(kplUnits / units).toFixed(1)} x fewer units`
        : '';
    const figure = (value: number, width: number): string =>
      Math.round(value * scale)
        .toLocaleString('en-US')
        .padStart(width);
    console.log(
      `  ${what.padEnd(44)} ${figure(records, 16)} ${figure(units, 14)} ${((units * scale * UNIT_PRICE) / 1e6).toFixed(6).padStart(9)} ${shards.toFixed(2).padStart(8)}${against}`,
    );
    note('cost', { what, records: records * scale, units: units * scale, shards });
  }
}

async function send(
  lines: readonly Buffer[],
  options: Partial<ProducerOptions>,
): Promise<{ readonly records: number; readonly units: number; readonly sentBytes: number }> {
  const sent = { records: 0, units: 0, sentBytes: 0 };
  const port = new ShardsInMemory(SHARDS);
  const put = port.putRecords.bind(port);
  port.putRecords = (entries, ...rest) => {
    for (const { payload, partitionKey } of entries) {
      const bytes = payload.length + partitionKey.length;
      sent.records += 1;
      sent.sentBytes += bytes;
      sent.units += Math.ceil(payload.length / UNIT_BYTES);
    }
    return put(entries, ...rest);
  };
  const producer = new Producer(
    {
      streamName: 'bench',
      onOutcome: () => {},
      recordTtlMs: 86_400_000,
      lingerMs: 1_000 * SPEED,
      clock: fastClock(SPEED),
      ...options,
    },
    port,
  );
  await producer.put({ partitionKey: 'first', data: 'x' });
  Object.assign(sent, { records: 0, units: 0, sentBytes: 0 });
  for (const [index, data] of lines.entries()) {
    while (!producer.offer({ partitionKey: `host-${index % 97}`, data })) await producer.drain();
    // A steady flow: what was compressed tells how large the next aggregates may be.
    if (index % 200 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await producer.close();
  return sent;
}

/** The lines of the files, over and over: each Kinesis record is compressed by itself and sees none twice. */
function linesOf(files: readonly string[]): Buffer[] {
  const lines = files
    .flatMap((file) => readFileSync(file, 'utf8').split('\n'))
    .filter((line) => line !== '')
    .map((line) => Buffer.from(line));
  return Array.from({ length: LINES }, (_, index) => lines[index % lines.length] as Buffer);
}

/** Access logs as servers write them. */
function madeUpLines(): Buffer[] {
  const random = seededRandom(1);
  const pick = <Item>(items: readonly Item[]): Item =>
    items[Math.floor(random() * items.length)] as Item;
  const number = (below: number): number => Math.floor(random() * below);
  return Array.from({ length: LINES }, (_, index) => {
    const time = new Date(1_795_000_000_000 + index * 37).toISOString();
    const agent = pick([
      'Mozilla/5.0 (X11; Linux x86_64)',
      'curl/8.5.0',
      'okhttp/4.12.0',
      'Go-http-client/2.0',
    ]);
    const path = pick(['/api/orders', '/api/users', '/health', '/static/app.js', '/api/search']);
    return Buffer.from(
      `10.${number(256)}.${number(256)}.${number(256)} - - [${time}] "${pick(['GET', 'POST'])} ${path}/${number(1e6)} HTTP/1.1" ${pick([200, 200, 200, 304, 404, 500])} ${number(50_000)} "-" "${agent}" rid=${number(2 ** 32).toString(16)}`,
    );
  });
}
