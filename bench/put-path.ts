import { createHash, randomUUID } from 'node:crypto';

import { Producer } from '@shardline/producer';
import { RecordAggregator } from 'aws-kinesis-agg';

import { fastClock } from './fast-clock.js';
import { compareApart, type LoneContender, type Run } from './harness.js';
import { offerAll } from './offer-all.js';
import { ProtobufjsAggregator } from './protobufjs-codec.js';
import { ShardsInMemory } from './shards-in-memory.js';

const RECORDS = 200_000;
/** No key comes twice in an aggregate, and the keys themselves take no part of the memory's time. */
const DIFFERENT_KEYS = 30_000;
const PUTS_AT_A_TIME = 3_000;
const SHARDS = 16;
const SIZES = [50, 100, 1_024, 10_240];
const LARGEST_RUN_BYTES = 100_000_000;
const AGGREGATE_BYTES = 51_200;
const SPEED = 500;

/** Hash, route, aggregate and hand over to a stream that answers after 10 ms. */
export async function putPathBench(): Promise<void> {
  for (const bytes of [100, 1_024]) {
    await compareApart(
      `put-path, ${bytes} B, unique 36-byte keys, ${SHARDS} shards`,
      'user record',
      import.meta.url,
      peers,
      { bytes },
    );
  }
  await compareApart(
    'put-path, 100 B, by number of shards',
    'user record',
    import.meta.url,
    byShardCount,
    {},
  );
  await compareApart(
    `put-path, by size of the data and by keys, ${SHARDS} shards`,
    'user record',
    import.meta.url,
    bySize,
    {},
  );
}

export function peers({ bytes }: { readonly bytes: number }): readonly LoneContender[] {
  const withKeys = (run: (keys: readonly string[], data: Buffer) => number) => (): Run => {
    const keys = keysOf(DIFFERENT_KEYS);
    const data = Buffer.alloc(bytes, 'x');
    return () => run(keys, data);
  };
  return [
    { name: 'shardline offer', isOurs: true, start: withProducer(SHARDS, bytes, offerAll) },
    {
      name: 'shardline put, a promise a record',
      start: withProducer(SHARDS, bytes, putAll),
    },
    {
      name: `shardline putMany, ${PUTS_AT_A_TIME} at a time`,
      start: withProducer(SHARDS, bytes, putManyAll),
    },
    { name: 'aws-kinesis-agg, createHash and BigInt routing', start: withKeys(aggregateByShard) },
    {
      name: 'protobufjs, createHash and BigInt routing',
      start: withKeys(aggregateWithProtobufjs),
    },
    {
      name: 'limit: one MD5 over keys and data',
      start: overBytes(bytes, (piece) => createHash('md5').update(piece).digest()),
    },
    {
      name: 'limit: one copy of keys and data',
      start: () => {
        const copied = Buffer.alloc(AGGREGATE_BYTES);
        return overBytes(bytes, (piece) => copied.set(piece))();
      },
    },
  ];
}

export function byShardCount(): readonly LoneContender[] {
  return [1, 16, 1_000, 10_000].map((shards) => ({
    name: `shardline offer, ${shards} shards`,
    isOurs: shards === 1,
    start: withProducer(shards, 100, offerAll),
  }));
}

/** Unique keys, and a hundred of them, by size of the data. */
export function bySize(): readonly LoneContender[] {
  return SIZES.flatMap((bytes) =>
    [DIFFERENT_KEYS, 100].map((different) => ({
      name: `shardline offer, ${bytes} B, ${different === 100 ? '100 keys' : 'unique keys'}`,
      isOurs: bytes === 100 && different === DIFFERENT_KEYS,
      start: withProducer(SHARDS, bytes, offerAll, different),
    })),
  );
}

async function putAll(producer: Producer, keys: readonly string[], data: Buffer): Promise<number> {
  let puts: Promise<unknown>[] = [];
  for (const partitionKey of keys) {
    puts.push(producer.put({ partitionKey, data }));
    if (puts.length === PUTS_AT_A_TIME) {
      await Promise.all(puts);
      puts = [];
    }
  }
  await producer.flush();
  return keys.length;
}

async function putManyAll(
  producer: Producer,
  keys: readonly string[],
  data: Buffer,
): Promise<number> {
  for (let from = 0; from < keys.length; from += PUTS_AT_A_TIME) {
    const some = keys.slice(from, from + PUTS_AT_A_TIME);
    await producer.putMany(some.map((partitionKey) => ({ partitionKey, data })));
  }
  await producer.flush();
  return keys.length;
}

/** Work for one producer in all runs, as a service has one. */
function withProducer(
  shards: number,
  bytes: number,
  work: (producer: Producer, keys: readonly string[], data: Buffer) => Promise<number>,
  differentKeys = DIFFERENT_KEYS,
): () => Promise<Run> {
  return async () => {
    const producer = await makeProducer(shards);
    const keys = keysOf(differentKeys).slice(0, LARGEST_RUN_BYTES / bytes);
    const data = Buffer.alloc(bytes, 'x');
    return () => work(producer, keys, data);
  };
}

/** Something for as many bytes as all records have, an aggregate's at a time. */
function overBytes(bytes: number, work: (piece: Buffer) => unknown): () => Run {
  return () => {
    const piece = Buffer.alloc(AGGREGATE_BYTES, 'x');
    return () => {
      for (let done = 0; done < RECORDS * (bytes + 40); done += AGGREGATE_BYTES) work(piece);
      return RECORDS;
    };
  };
}

/** One that knows its shards. */
export async function makeProducer(shards: number): Promise<Producer> {
  const producer = new Producer(
    {
      streamName: 'bench',
      onOutcome: () => {},
      recordTtlMs: 86_400_000,
      // 100 ms of real time.
      lingerMs: 100 * SPEED,
      clock: fastClock(SPEED),
    },
    new ShardsInMemory(shards),
  );
  await producer.put({ partitionKey: 'first', data: 'x' });
  return producer;
}

function aggregateWithProtobufjs(keys: readonly string[], data: Buffer): number {
  const width = 2n ** 128n / BigInt(SHARDS);
  const open = Array.from({ length: SHARDS }, () => new ProtobufjsAggregator(AGGREGATE_BYTES));
  for (const partitionKey of keys) {
    const hash = BigInt(`0x${createHash('md5').update(partitionKey).digest('hex')}`);
    open[Math.min(Number(hash / width), SHARDS - 1)]?.add(partitionKey, data);
  }
  for (const aggregator of open) aggregator.build();
  return keys.length;
}

/** What a caller of the package has to write to keep to one shard an aggregate. */
function aggregateByShard(keys: readonly string[], data: Buffer): number {
  const width = 2n ** 128n / BigInt(SHARDS);
  const open = Array.from({ length: SHARDS }, () => new RecordAggregator());
  const sizes = open.map(() => 0);
  for (const partitionKey of keys) {
    const hash = BigInt(`0x${createHash('md5').update(partitionKey).digest('hex')}`);
    const shard = Math.min(Number(hash / width), SHARDS - 1);
    const aggregator = open[shard] as RecordAggregator;
    const record = { partitionKey, data };
    let bytes = aggregator.calculateUserRecordSize(record);
    if ((sizes[shard] ?? 0) + bytes > AGGREGATE_BYTES) {
      aggregator.build();
      sizes[shard] = 0;
      bytes = aggregator.calculateUserRecordSize(record);
    }
    aggregator.addUserRecord(record);
    sizes[shard] = (sizes[shard] ?? 0) + bytes;
  }
  for (const aggregator of open) aggregator.build();
  return keys.length;
}

function keysOf(different: number): readonly string[] {
  const keys = Array.from({ length: different }, () => randomUUID());
  return Array.from({ length: RECORDS }, (_, index) => keys[index % different] as string);
}
