import { access } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';

import { startLocal } from '@shardline/local';
import type { ProducerStats } from '@shardline/producer';

import { Fleet, type Member } from './fleet.js';
import { Ledger, percentile } from './ledger.js';
import type { ChildMessage } from './messages.js';
import { printTable, Screen, type ShardLine } from './screen.js';

/**
 * Runs a producer and two workers as processes of their own against a local Kinesis, kills one worker
 * and splits a shard while data flows, and counts at the receiving end what arrived.
 */

const STREAM = 'demo';
const LINES_PER_SECOND = 600;
/** A PutRecords call takes as long as over a network. */
const PUT_LATENCY_MS = 15;
/** One kill and one split are due when so many lines were sent. */
const KILL_AFTER_LINES = 2_500;
const SPLIT_AFTER_LINES = 5_000;
const REPLACE_AFTER_MS = 5_000;
/** With nothing new for so long, what is missing is lost. */
const GIVE_UP_MS = 15_000;
const PAYLOAD_UNIT_BYTES = 25 * 1024;

const files = process.argv.slice(2);
for (const file of files) {
  await access(file).catch(() => {
    console.error(`no such file: ${file}`);
    process.exit(2);
  });
}

const local = await startLocal({ streams: [{ name: STREAM, shards: 4 }] });
local.faults.inject({
  operation: 'PutRecords',
  times: Infinity,
  fault: { kind: 'delay', delayMs: PUT_LATENCY_MS },
});
const ledger = new Ledger();
const screen = new Screen();
const startedMs = performance.now();
const elapsedMs = (): number => performance.now() - startedMs;

let produced: ProducerStats | undefined;
let failedPuts = 0;
let lastNewsMs = 0;
let storedBytes = 0;
let payloadUnits = 0;
local.engine.onStored(({ record }) => {
  const bytes = record.Data.length + Buffer.byteLength(record.PartitionKey ?? '');
  storedBytes += Math.ceil(record.Data.length / 3) * 4 + bytes - record.Data.length;
  payloadUnits += Math.ceil(bytes / PAYLOAD_UNIT_BYTES);
});

const fleet = new Fleet(
  { ...local, streamName: STREAM, files, linesPerSecond: LINES_PER_SECOND },
  (member, message) => onMessage(member, message),
);

function onMessage(member: Member, message: ChildMessage): void {
  if (message.kind === 'sent') {
    ledger.addSent(message.numbers, message.requestBytes);
  } else if (message.kind === 'produced') {
    produced = message.stats;
    failedPuts = message.failed;
  } else if (message.kind === 'arrivals') {
    ledger.addArrivals(member.name, message.arrivals, elapsedMs());
  } else {
    return;
  }
  lastNewsMs = elapsedMs();
}

process.once('SIGINT', () => {
  fleet.killAll();
  process.exit(130);
});

console.log(`\n  Kinesis at ${local.kinesis.endpoint}, DynamoDB at ${local.dynamodb.endpoint}`);
console.log(`  ${files.length > 0 ? files.join(' ') : 'made-up click events'}\n`);

fleet.start('worker', 'poller', 'polling');
const victim = fleet.start('worker', 'fan-out', 'fanOut');
fleet.start('producer', 'producer', 'polling');

const events = playEvents();
while (!isComplete() && elapsedMs() - lastNewsMs < GIVE_UP_MS) {
  screen.draw({
    elapsedMs: elapsedMs(),
    sent: ledger.sent,
    received: ledger.received,
    isSending: !produced,
    shards: shardLines(),
  });
  await pause(100);
}
await events;
await fleet.stop();
await local.close();
process.exitCode = report() ? 0 : 1;

/** What goes wrong while data flows. */
async function playEvents(): Promise<void> {
  await sentOrDone(KILL_AFTER_LINES);
  const orphans = victim.status?.shards.map(({ shardId }) => shardId) ?? [];
  victim.process.kill('SIGKILL');
  ledger.addKill(victim.name, orphans, elapsedMs());
  screen.note(`worker '${victim.name}' killed with SIGKILL; it owned ${shortNames(orphans)}`);
  const replaceAtMs = elapsedMs() + REPLACE_AFTER_MS;

  await sentOrDone(SPLIT_AFTER_LINES);
  const [shard] = local.engine.execute('ListShards', { StreamName: STREAM })['Shards'] as {
    ShardId: string;
    HashKeyRange: { StartingHashKey: string; EndingHashKey: string };
  }[];
  if (shard) {
    const { StartingHashKey: start, EndingHashKey: end } = shard.HashKeyRange;
    const middle = (BigInt(start) + BigInt(end)) / 2n;
    local.engine.execute('SplitShard', {
      StreamName: STREAM,
      ShardToSplit: shard.ShardId,
      NewStartingHashKey: middle.toString(),
    });
    screen.note(`shard ${shortNames([shard.ShardId])} split in two`);
  }

  await pause(Math.max(replaceAtMs - elapsedMs(), 0));
  fleet.start('worker', 'fan-out-2', 'fanOut');
  screen.note("worker 'fan-out-2' started in its place; it asks for its share of the shards");
}

async function sentOrDone(lines: number): Promise<void> {
  while (ledger.sent < lines && !produced) await pause(20);
}

function isComplete(): boolean {
  return produced !== undefined && ledger.received >= ledger.sent;
}

function shardLines(): ShardLine[] {
  return fleet.members
    .filter(({ isRunning }) => isRunning)
    .flatMap(({ name, status }) =>
      (status?.shards ?? []).map(({ shardId, state, reason, millisBehindLatest }) => ({
        shardId,
        owner: name,
        state: reason === 'reading' ? state : `${state}: ${reason}`,
        lagMs: millisBehindLatest,
      })),
    )
    .sort((a, b) => (a.shardId < b.shardId ? -1 : 1));
}

/** @returns Whether everything arrived, in order. */
function report(): boolean {
  const { sent, received, duplicates, lost, orderViolations, latenciesMs, takeOversMs } = ledger;
  const calm = latenciesMs.slice(0, ledger.latenciesBeforeKill);
  const { compression, kinesisRecords = 0, requests = 0 } = produced ?? {};
  const compressed = compression ? compression.rawBytes - compression.sealedBytes : 0;
  // On the wire data are base64.
  const aggregated = ledger.requestBytes - storedBytes - Math.ceil((compressed * 4) / 3);
  const ms = (value: number): string => `${Math.round(value)} ms`;
  printTable([
    ['user records sent', count(sent)],
    [
      'Kinesis records',
      `${count(kinesisRecords)} (${(sent / Math.max(kinesisRecords, 1)).toFixed(1)} user records each)`,
    ],
    ['PutRecords calls', count(requests)],
    ['request bytes without aggregation', count(ledger.requestBytes)],
    ['  saved by aggregation', count(aggregated)],
    ['  saved by compression', count(Math.ceil((compressed * 4) / 3))],
    ['  left', count(storedBytes)],
    ['PUT payload units', `${count(payloadUnits)} (${count(sent)} without aggregation)`],
    ['received', count(received)],
    ['duplicates', `${count(duplicates)} (handled by the killed worker after its last checkpoint)`],
    ['lost', count(lost + failedPuts)],
    ['order violations per key', count(orderViolations)],
    [
      'take-over after SIGKILL',
      takeOversMs.length > 0
        ? `${ms(Math.max(...takeOversMs))} (failover time 3000 ms)`
        : 'nothing to take over',
    ],
    [
      'put to handler, before the kill',
      `p50 ${ms(percentile(calm, 0.5))}, p99 ${ms(percentile(calm, 0.99))}`,
    ],
    [
      'put to handler, in all',
      `p50 ${ms(percentile(latenciesMs, 0.5))}, p99 ${ms(percentile(latenciesMs, 0.99))}`,
    ],
    ['time', `${(elapsedMs() / 1000).toFixed(1)} s`],
  ]);
  return (
    produced !== undefined &&
    lost + failedPuts === 0 &&
    orderViolations === 0 &&
    ledger.unknown === 0
  );
}

function count(value: number): string {
  return value.toLocaleString('en-US');
}

function shortNames(shardIds: readonly string[]): string {
  return shardIds.map((shardId) => `…${shardId.slice(-2)}`).join(' ') || 'nothing';
}
