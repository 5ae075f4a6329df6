import { randomUUID } from 'node:crypto';

import { AggregateEncoder, decodeRecords, type HashRange, HashRangeIndex } from '@shardline/shared';

import { compare } from './harness.js';
import { offerAll } from './offer-all.js';
import { makeProducer } from './put-path.js';

const KEYS = 30_000;
const DATA = Buffer.alloc(100, 'x');
const USER_RECORDS_AN_AGGREGATE = 350;
/** Each size does this much in all. */
const RECORDS = 100_000;

/** The same work once, ten and a hundred times over: what a unit of it costs should stay. */
export async function growthBench(): Promise<void> {
  const keys = Array.from({ length: KEYS }, () => randomUUID());
  const many = Array.from({ length: RECORDS }, (_, index) => keys[index % KEYS] as string);
  await compare(
    'growth: offered to a producer at a time',
    'user record',
    [1_000, 10_000, 100_000].map((count) => ({
      name: `${count.toLocaleString('en-US')} records`,
      isOurs: count === 1_000,
      run: async () => {
        for (let done = 0; done < RECORDS; done += count) {
          const producer = await makeProducer(16);
          await offerAll(producer, many.slice(done, done + count), DATA);
          await producer.close();
        }
        return RECORDS;
      },
    })),
  );
  const aggregate = makeAggregate(keys);
  await compare(
    'growth: decoded in a call',
    'user record',
    [8, 80, 800].map((count) => {
      const batch = Array.from({ length: count }, () => ({ Data: aggregate }));
      return {
        name: `${(count * USER_RECORDS_AN_AGGREGATE).toLocaleString('en-US')} user records`,
        isOurs: count === 8,
        run: () => {
          let seen = 0;
          while (seen < RECORDS) seen += decodeRecords(batch).length;
          return seen;
        },
      };
    }),
  );
  await compare(
    'growth: shards of a stream, a listing taken over',
    'shard',
    [100, 1_000, 10_000].map((count) => {
      const ranges = evenRanges(count);
      return {
        name: `${count.toLocaleString('en-US')} shards`,
        isOurs: count === 100,
        run: () => {
          for (let done = 0; done < 100_000; done += count) new HashRangeIndex(ranges);
          return 100_000;
        },
      };
    }),
  );
}

function makeAggregate(keys: readonly string[]): Buffer {
  const encoder = new AggregateEncoder();
  for (const key of keys.slice(0, USER_RECORDS_AN_AGGREGATE)) encoder.add(key, undefined, DATA);
  return encoder.finish();
}

function evenRanges(count: number): readonly HashRange[] {
  const width = 2n ** 128n / BigInt(count);
  return Array.from({ length: count }, (_, index) => ({
    start: width * BigInt(index),
    end: index === count - 1 ? 2n ** 128n - 1n : width * BigInt(index + 1) - 1n,
  }));
}
