import { setTimeout as pause } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { Consumer, MemoryLeaseTable } from '@shardline/consumer';
import { startLocal } from '@shardline/local';
import { Producer } from '@shardline/producer';
import { isShardlineError, MAX_HASH_KEY, type UserRecord } from '@shardline/shared';
import { ManualClock, seededRandom, settle } from '@shardline/shared/testing';
import { describe, expect, it } from 'vitest';

import type { KinesisReadPort } from '../packages/consumer/src/fetch/kinesis-read-port.js';
import type { Shard } from '../packages/consumer/src/shard/shard-sync.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is in use after everything that is not has been given back. */
async function heapBytes(): Promise<number> {
  for (let pass = 0; pass < 3; pass += 1) {
    collectGarbage();
    await pause(5);
  }
  return process.memoryUsage().heapUsed;
}

const WIDTH = (MAX_HASH_KEY + 1n) / 2_000n;

function shardsOf(count: number): Shard[] {
  return Array.from({ length: count }, (_, index) => ({
    shardId: `shardId-${String(index).padStart(12, '0')}`,
    range: { start: BigInt(index) * WIDTH, end: (BigInt(index) + 1n) * WIDTH - 1n },
    parentShardIds: [],
    isOpen: true,
    startingSequenceNumber: String(index),
  }));
}

/** A stream of many shards, each with as much to read as a test says. */
function portOf(shards: readonly Shard[], pageBytes: number): KinesisReadPort {
  let sequence = 1;
  return {
    describe: () => Promise.resolve({ accountId: '000000000000', createdAtSeconds: 1 }),
    listShards: () => Promise.resolve([...shards]),
    getIterator: () => Promise.resolve({ iterator: 'first', notBeforeMs: 0 }),
    getRecords: () =>
      Promise.resolve({
        records:
          pageBytes === 0
            ? []
            : [
                {
                  Data: Buffer.alloc(pageBytes),
                  PartitionKey: 'k',
                  SequenceNumber: String((sequence += 1)),
                },
              ],
        millisBehindLatest: 0,
        nextIterator: 'next',
        childShards: undefined,
      }),
    subscribe: () => Promise.reject(new Error('polling only')),
    consumerArn: () => Promise.reject(new Error('polling only')),
    removeConsumer: () => Promise.resolve(),
    close: () => {},
  };
}

describe('what a process holds', () => {
  it('is bounded while the stream is down, however long, and everything put is answered for', async () => {
    const clock = new ManualClock();
    let calls = 0;
    const down = (): Promise<never> => {
      calls += 1;
      return Promise.reject(Object.assign(new Error('down'), { name: 'ECONNREFUSED' }));
    };
    let isDown = false;
    const outcomes = { stored: 0, refused: 0 };
    const producer = new Producer(
      {
        streamName: 'orders',
        clock,
        random: seededRandom(1),
        maxBufferBytes: 2 ** 20,
        recordTtlMs: 3_600_000,
        onOutcome: (outcome) => {
          outcomes[outcome.stored ? 'stored' : 'refused'] += outcome.userRecords;
        },
      },
      {
        describe: () =>
          Promise.resolve({
            shards: [{ shardId: 's', range: { start: 0n, end: MAX_HASH_KEY } }],
            maxRecordBytes: 2 ** 20,
            isSelfDistributing: false,
          }),
        putRecords: (entries) =>
          isDown
            ? down()
            : Promise.resolve(entries.map(() => ({ shardId: 's', sequenceNumber: '1' }))),
        close: () => {},
      },
    );
    const first = producer.put({ partitionKey: 'k', data: 'x' });
    await clock.advance(100);
    await first;
    isDown = true;
    let accepted = 0;
    const data = Buffer.alloc(1_000);
    while (producer.offer({ partitionKey: 'k', data }) && accepted < 100_000) accepted += 1;
    expect(accepted).toBeLessThan(1_200);
    await settle();
    const before = await heapBytes();
    await clock.advance(3_000_000);
    expect(producer.offer({ partitionKey: 'k', data })).toBe(false);
    expect(calls).toBeGreaterThan(100);
    expect((await heapBytes()) - before).toBeLessThan(2 * 2 ** 20);
    await clock.advance(1_200_000);
    expect(outcomes).toEqual({ stored: 0, refused: accepted });
    isDown = false;
    const last = producer.put({ partitionKey: 'k', data: 'x' });
    await clock.advance(60_000);
    expect((await last).shardId).toBe('s');
    await producer.close();
  });

  it('is bounded in bytes for all shards together while handlers do not get on', async () => {
    const clock = new ManualClock();
    const maxBufferBytes = 4 * 2 ** 20;
    const consumer = new Consumer(
      {
        streamName: 'orders',
        applicationName: 'billing',
        leaseTable: new MemoryLeaseTable(),
        initialPosition: 'TRIM_HORIZON',
        maxBufferBytes,
        drainTimeoutMs: 0,
        clock,
        random: seededRandom(1),
        handler: {
          processRecord: (_: UserRecord, { signal }) =>
            new Promise<void>((_resolve, reject) => {
              signal.addEventListener('abort', () => reject(signal.reason as Error));
            }),
        },
      },
      portOf(shardsOf(100), 2 ** 18),
    );
    await consumer.start();
    await clock.advance(60_000);
    const { bufferedBytes, shards } = consumer.status();
    expect(shards).toHaveLength(100);
    expect(bufferedBytes).toBeLessThanOrEqual(maxBufferBytes);
    expect(bufferedBytes).toBeGreaterThan(maxBufferBytes / 2);
    const closed = consumer.close();
    await clock.advance(60_000);
    await closed;
    expect(consumer.status().bufferedBytes).toBe(0);
    expect(clock.pending).toBe(0);
  });

  it('grows by some kilobytes for each shard, and goes when they go', async () => {
    const count = 2_000;
    const clock = new ManualClock();
    const shards = shardsOf(count);
    const before = await heapBytes();
    const consumer = new Consumer(
      {
        streamName: 'orders',
        applicationName: 'billing',
        leaseTable: new MemoryLeaseTable(),
        initialPosition: 'TRIM_HORIZON',
        clock,
        random: seededRandom(1),
        handler: { processRecord: () => {} },
      },
      portOf(shards, 0),
    );
    await consumer.start();
    await clock.advance(10_000);
    expect(consumer.status().shards).toHaveLength(count);
    const perShard = ((await heapBytes()) - before) / count;
    expect(perShard).toBeLessThan(40_000);
    const closed = consumer.close();
    await clock.advance(60_000);
    await closed;
    expect(clock.pending).toBe(0);
    console.log(`${Math.round(perShard).toLocaleString('en-US')} bytes a shard`);
  });
});

describe('TLS', () => {
  it('is verified: a server whose certificate nobody vouches for gets nothing', async () => {
    const local = await startLocal({ streams: [{ name: 'orders', shards: 1 }], tls: true });
    const producer = new Producer({
      streamName: 'orders',
      clientConfig: local.kinesis,
      recordTtlMs: 1_000,
    });
    await expect(producer.put({ partitionKey: 'k', data: 'x' })).rejects.toSatisfy((error) =>
      isShardlineError(error),
    );
    await producer.close();
    for (const retrieval of ['polling', 'fanOut'] as const) {
      const consumer = new Consumer({
        streamName: 'orders',
        applicationName: 'billing',
        retrieval,
        fanOutConsumerArn: 'arn:aws:kinesis:us-east-1:000000000000:stream/orders/consumer/x:1',
        leaseTable: new MemoryLeaseTable(),
        clientConfig: local.kinesis,
        random: () => 0,
        handler: { processRecord: () => {} },
      });
      await expect(consumer.start()).rejects.toMatchObject({ name: 'ShardlineError' });
      await consumer.close();
    }
    await local.close();
  }, 60_000);
});
