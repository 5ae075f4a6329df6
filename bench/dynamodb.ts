import { Consumer, type LeaseTable, MemoryLeaseTable, type Row } from '@shardline/consumer';
import { MAX_HASH_KEY } from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';

import { note } from './harness.js';

const KB = 1_024;
const SETTLE_MS = 60_000;
const MEASURE_MS = 120_000;
const FAILOVER_MS = 10_000;
/** On demand, us-east-1, US dollars for a million units. */
const WRITE_PRICE = 0.625;
const READ_PRICE = 0.125;

const FLEETS = [
  { workers: 1, shards: 10 },
  { workers: 4, shards: 100 },
  { workers: 20, shards: 100 },
  { workers: 4, shards: 400 },
];

/** What a lease table costs an hour: request units by DynamoDB's rules, in virtual time. */
export async function dynamodbBench(): Promise<void> {
  console.log(
    '\ndynamodb: request units an hour, failover time 10 s, one checkpoint a second where busy',
  );
  console.log(
    `  ${'fleet'.padEnd(54)} ${'writes'.padStart(12)} ${'reads'.padStart(12)} ${'USD'.padStart(9)}  of shard and hour`,
  );
  for (const fleet of FLEETS) {
    print(fleet, 'native, idle', await measure(fleet, 'native', false));
    print(fleet, 'native, busy', await measure(fleet, 'native', true));
    print(fleet, 'kcl2, idle', await measure(fleet, 'kcl2', false));
    print(fleet, 'KCL 2.x by its constants, idle', kcl2Units(fleet));
  }
}

interface Units {
  readonly writes: number;
  readonly reads: number;
}

/** The units of an hour, from some minutes of a fleet at rest. */
async function measure(
  { workers, shards }: { readonly workers: number; readonly shards: number },
  leaseMode: 'native' | 'kcl2',
  isBusy: boolean,
): Promise<Units> {
  const clock = new ManualClock();
  const meter = new Meter(new MemoryLeaseTable());
  const consumers = Array.from(
    { length: workers },
    (_, index) =>
      new Consumer(
        {
          streamName: 'orders',
          applicationName: 'billing',
          workerId: `worker-${String(index).padStart(4, '0')}`,
          leaseTable: meter.table,
          leaseMode,
          failoverMs: FAILOVER_MS,
          initialPosition: 'TRIM_HORIZON',
          clock,
          random: seededRandom(index),
          handler: { processBatch: () => {} },
        },
        portOf(shards, isBusy),
      ),
  );
  for (const consumer of consumers) await consumer.start();
  await clock.advance(SETTLE_MS);
  meter.reset();
  await clock.advance(MEASURE_MS);
  const { writes, reads } = meter;
  const closed = Promise.all(consumers.map((consumer) => consumer.close()));
  await clock.advance(120_000);
  await closed;
  const hours = MEASURE_MS / 3_600_000;
  return { writes: writes / hours, reads: reads / hours };
}

/** A renewal of every lease each third of the failover time, and a scan by every worker each 20 s. */
function kcl2Units({
  workers,
  shards,
}: {
  readonly workers: number;
  readonly shards: number;
}): Units {
  const rowBytes = 400;
  const scan = Math.max(1, Math.ceil((shards * rowBytes) / (4 * KB))) / 2;
  return {
    writes: (3_600_000 / (FAILOVER_MS / 3 - 25)) * shards,
    reads: (3_600_000 / (2 * (FAILOVER_MS + 25))) * workers * scan,
  };
}

function print(
  { workers, shards }: { readonly workers: number; readonly shards: number },
  what: string,
  { writes, reads }: Units,
): void {
  const fleet = `${workers} workers, ${shards} shards, ${what}`;
  const usd = (writes * WRITE_PRICE + reads * READ_PRICE) / 1e6;
  const whole = (value: number): string => Math.round(value).toLocaleString('en-US').padStart(12);
  const share = `${(writes / shards).toFixed(1)} writes, ${(reads / shards).toFixed(1)} reads`;
  console.log(
    `  ${fleet.padEnd(54)} ${whole(writes)} ${whole(reads)} ${usd.toFixed(5).padStart(9)}  ${share}`,
  );
  note('dynamodb', { workers, shards, what, writes, reads, usd });
}

/** Counts the units a table's calls would take of DynamoDB. */
class Meter {
  writes = 0;
  reads = 0;
  readonly table: LeaseTable;

  constructor(table: MemoryLeaseTable) {
    const reading = (rows: readonly (Row | undefined)[], isConsistent: boolean): void => {
      for (const row of rows) this.reads += units(row, 4 * KB) * (isConsistent ? 1 : 0.5);
    };
    this.table = {
      prepare: () => table.prepare(),
      scan: async (prefix, isConsistent) => {
        const rows = await table.scan(prefix);
        const bytes = rows.reduce((sum, row) => sum + sizeOf(row), 0);
        this.reads += Math.max(1, Math.ceil(bytes / (4 * KB))) * (isConsistent ? 1 : 0.5);
        return rows;
      },
      get: async (key) => {
        const row = await table.get(key);
        reading([row], true);
        return row;
      },
      getMany: async (keys) => {
        const rows = await table.getMany(keys);
        reading(rows, false);
        return rows;
      },
      create: async (row) => {
        this.writes += units(row, KB);
        return table.create(row);
      },
      update: async (key, change, conditions) => {
        const before = await table.get(key);
        const outcome = await table.update(key, change, conditions);
        this.writes += Math.max(units(before, KB), units(outcome.row, KB));
        return outcome;
      },
      delete: async (key, conditions) => {
        this.writes += units(await table.get(key), KB);
        return table.delete(key, conditions);
      },
      close: () => {},
    };
  }

  reset(): void {
    this.writes = 0;
    this.reads = 0;
  }
}

function units(row: Row | undefined, unitBytes: number): number {
  return Math.max(1, Math.ceil((row ? sizeOf(row) : 0) / unitBytes));
}

/** By the documented rule: names and values in UTF-8, numbers in about half their digits. */
function sizeOf(row: Row): number {
  let bytes = 0;
  for (const [name, value] of Object.entries(row)) {
    bytes += name.length;
    if (value.S !== undefined) bytes += Buffer.byteLength(value.S);
    else if (value.N !== undefined) bytes += Math.ceil(value.N.length / 2) + 1;
    else if (value.SS) bytes += value.SS.reduce((sum, each) => sum + Buffer.byteLength(each), 3);
    else bytes += 1;
  }
  return bytes;
}

/** A stream of many shards, with a record at every read or none. */
function portOf(
  count: number,
  isBusy: boolean,
): NonNullable<ConstructorParameters<typeof Consumer>[1]> {
  const width = (MAX_HASH_KEY + 1n) / BigInt(count);
  let sequence = 1_000_000_000_000;
  const records = () => [
    { Data: Buffer.from('x'), PartitionKey: 'k', SequenceNumber: String((sequence += 1)) },
  ];
  return {
    describe: () => Promise.resolve({ accountId: '000000000000', createdAtSeconds: 1 }),
    listShards: () =>
      Promise.resolve(
        Array.from({ length: count }, (_, index) => ({
          shardId: `shardId-${String(index).padStart(12, '0')}`,
          range: { start: BigInt(index) * width, end: (BigInt(index) + 1n) * width - 1n },
          parentShardIds: [],
          isOpen: true,
          startingSequenceNumber: String(index),
        })),
      ),
    getIterator: () => Promise.resolve({ iterator: 'first', notBeforeMs: 0 }),
    getRecords: () =>
      Promise.resolve({
        records: isBusy ? records() : [],
        millisBehindLatest: 0,
        nextIterator: 'next',
        childShards: undefined,
      }),
    subscribe: () => Promise.reject(new Error('it is polled')),
    consumerArn: () => Promise.reject(new Error('it is polled')),
    removeConsumer: () => Promise.resolve(),
    close: () => {},
  };
}
