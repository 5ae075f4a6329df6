import { createHash, randomUUID } from 'node:crypto';

import { Producer } from '@shardline/producer';
import { RecordAggregator } from 'aws-kinesis-agg';

import { fastClock } from './fast-clock.js';
import { compare, type Contender } from './harness.js';
import { offerAll } from './offer-all.js';
import { ProtobufjsAggregator } from './protobufjs-codec.js';
import { ShardsInMemory } from './shards-in-memory.js';

const RECORDS = 200_000;
/** No key comes twice in an aggregate, and the keys themselves take no part of the memory's time. */
const DIFFERENT_KEYS = 30_000;
const PUTS_AT_A_TIME = 3_000;
const SIZES = [50, 100, 1_024, 10_240];
const LARGEST_RUN_BYTES = 100_000_000;
const AGGREGATE_BYTES = 51_200;
const SPEED = 500;

/** Hash, route, aggregate and hand over to a stream that answers after 10 ms. */
export async function putPathBench(): Promise<void> {
  for (const bytes of [100, 1_024]) await comparePeers(bytes, 16);
  await compareShardCounts();
  await compareSizes();
}

async function comparePeers(bytes: number, shards: number): Promise<void> {
  const data = Buffer.alloc(bytes, 'x');
  const keys = keysOf(DIFFERENT_KEYS);
  await compare(`put-path, ${bytes} B, unique 36-byte keys, ${shards} shards`, 'user record', [
    {
      name: 'shardline offer',
      isOurs: true,
      ...withProducer(shards, (producer) => offerAll(producer, keys, data)),
    },
    {
      name: 'shardline put, a promise a record',
      ...withProducer(shards, (producer) => putAll(producer, keys, data)),
    },
    {
      name: `shardline putMany, ${PUTS_AT_A_TIME} at a time`,
      ...withProducer(shards, (producer) => putManyAll(producer, keys, data)),
    },
    {
      name: 'aws-kinesis-agg, createHash and BigInt routing',
      run: () => aggregateByShard(keys, data, shards),
    },
    {
      name: 'protobufjs, createHash and BigInt routing',
      run: () => aggregateWithProtobufjs(keys, data, shards),
    },
    {
      name: 'limit: one MD5 over keys and data',
      run: () => {
        for (let done = 0; done < keys.length * (bytes + 40); done += AGGREGATE_BYTES) {
          createHash('md5').update(aggregateSized).digest();
        }
        return keys.length;
      },
    },
    {
      name: 'limit: one copy of keys and data',
      run: () => {
        for (let done = 0; done < keys.length * (bytes + 40); done += AGGREGATE_BYTES) {
          copied.set(aggregateSized);
        }
        return keys.length;
      },
    },
  ]);
}

async function compareShardCounts(): Promise<void> {
  const data = Buffer.alloc(100, 'x');
  const keys = keysOf(DIFFERENT_KEYS);
  await compare(
    'put-path, 100 B, by number of shards',
    'user record',
    [1, 16, 1_000, 10_000].map((shards) => ({
      name: `shardline offer, ${shards} shards`,
      isOurs: shards === 1,
      ...withProducer(shards, (producer) => offerAll(producer, keys, data)),
    })),
  );
}

/** Unique keys, and a hundred of them, by size of the data. */
async function compareSizes(): Promise<void> {
  const unique = keysOf(DIFFERENT_KEYS);
  const hot = keysOf(100);
  const contenders = SIZES.flatMap((bytes) =>
    [unique, hot].map((keys) => ({
      name: `shardline offer, ${bytes} B, ${keys === hot ? '100 keys' : 'unique keys'}`,
      isOurs: bytes === 100 && keys === unique,
      ...withProducer(16, (producer) =>
        offerAll(
          producer,
          keys.slice(0, Math.min(RECORDS, LARGEST_RUN_BYTES / bytes)),
          Buffer.alloc(bytes, 'x'),
        ),
      ),
    })),
  );
  await compare('put-path, by size of the data and by keys, 16 shards', 'user record', contenders);
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
  await producer.close();
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
  await producer.close();
  return keys.length;
}

/** Work for a producer of its own each time. */
function withProducer(
  shards: number,
  work: (producer: Producer) => Promise<number>,
): Pick<Contender, 'prepare' | 'run'> {
  let producer: Producer;
  return {
    prepare: async () => {
      producer = await makeProducer(shards);
    },
    run: () => work(producer),
  };
}

/** One that knows its shards: that is no part of the path. */
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

const aggregateSized = Buffer.alloc(AGGREGATE_BYTES, 'x');
const copied = Buffer.alloc(AGGREGATE_BYTES);

function aggregateWithProtobufjs(keys: readonly string[], data: Buffer, shards: number): number {
  const width = 2n ** 128n / BigInt(shards);
  const open = Array.from({ length: shards }, () => new ProtobufjsAggregator(AGGREGATE_BYTES));
  for (const partitionKey of keys) {
    const hash = BigInt(`0x${createHash('md5').update(partitionKey).digest('hex')}`);
    open[Math.min(Number(hash / width), shards - 1)]?.add(partitionKey, data);
  }
  for (const aggregator of open) aggregator.build();
  return keys.length;
}

/** What a caller of the package has to write to keep to one shard an aggregate. */
function aggregateByShard(keys: readonly string[], data: Buffer, shards: number): number {
  const width = 2n ** 128n / BigInt(shards);
  const open = Array.from({ length: shards }, () => new RecordAggregator());
  const sizes = open.map(() => 0);
  for (const partitionKey of keys) {
    const hash = BigInt(`0x${createHash('md5').update(partitionKey).digest('hex')}`);
    const shard = Math.min(Number(hash / width), shards - 1);
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
