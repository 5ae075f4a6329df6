import { subscribe, unsubscribe } from 'node:diagnostics_channel';

import {
  ByteBudget,
  Consumer,
  type ConsumerOptions,
  HandlerLimit,
  MemoryLeaseTable,
  type Row,
} from '@shardline/consumer';
import { MAX_HASH_KEY } from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import type { KinesisReadPort } from '../src/fetch/kinesis-read-port.js';
import { EMPTY, failure, page, scriptedPort } from './fetch/scripted-port.js';

describe('a consumer, by the clock', () => {
  let clock: ManualClock;
  let changes: string[];
  const note = (message: unknown): void => {
    changes.push((message as { readonly change: string }).change);
  };

  beforeEach(() => {
    clock = new ManualClock();
    changes = [];
    subscribe('shardline:consumer:lease', note);
  });
  afterEach(() => unsubscribe('shardline:consumer:lease', note));

  const start = async (
    port: KinesisReadPort,
    handle: (signal: AbortSignal) => Promise<void> | void = () => {},
    options: Partial<ConsumerOptions> = {},
  ): Promise<Consumer> => {
    const consumer = new Consumer(
      {
        streamName: 'orders',
        applicationName: 'billing',
        leaseTable: new MemoryLeaseTable(),
        initialPosition: 'TRIM_HORIZON',
        clock,
        random: seededRandom(1),
        handler: { processRecord: (_, { signal }) => handle(signal) },
        ...options,
      },
      {
        ...port,
        listShards: () =>
          Promise.resolve([
            {
              shardId: 'shardId-000000000000',
              range: { start: 0n, end: MAX_HASH_KEY },
              parentShardIds: [],
              isOpen: true,
              startingSequenceNumber: '1',
            },
          ]),
      },
    );
    await consumer.start();
    return consumer;
  };

  const close = async (consumer: Consumer): Promise<void> => {
    const closed = consumer.close();
    await clock.advance(60_000);
    await closed;
    expect(clock.pending).toBe(0);
  };

  it('gives a shard away that it cannot read for five minutes, so that somebody nearer may try', async () => {
    const { port } = scriptedPort(clock, { read: () => failure('ECONNREFUSED') });
    const consumer = await start(port);
    await clock.advance(290_000);
    expect(changes).toEqual(['taken']);
    expect(consumer.status().shards[0]?.reason).toBe('ECONNREFUSED');
    await clock.advance(60_000);
    // It is alone, and takes it again.
    expect(changes.slice(0, 3)).toEqual(['taken', 'released', 'taken']);
    await close(consumer);
  });

  it('gives nothing away while a handler of an earlier ownership runs', async () => {
    const leaseTable = new MemoryLeaseTable();
    const key = 'shardId-000000000000';
    let finish = (): void => {};
    const { port } = scriptedPort(clock, { read: (call) => page(call + 2, 10) });
    // Deaf to its signal.
    const handle = (): Promise<void> => new Promise((resolve) => (finish = resolve));
    const consumer = await start(port, handle, { leaseTable, drainTimeoutMs: 5_000 });
    await clock.advance(2_000);
    const change = async (set: Row, remove: readonly string[]): Promise<void> => {
      await leaseTable.update(key, { set, remove, add: { shardlineCounter: { N: '1' } } }, {});
      await leaseTable.update('Shardline', { add: { shardlineChanges: { N: '1' } } }, {});
      await clock.advance(2_000);
    };
    await change({ leaseOwner: { S: 'thief' } }, []);
    expect(changes).toEqual(['taken', 'lost']);
    await change({}, ['leaseOwner']);
    expect(changes).toEqual(['taken', 'lost', 'taken']);
    const closed = consumer.close();
    await clock.advance(2_000);
    expect(changes).toEqual(['taken', 'lost', 'taken']);
    finish();
    await clock.advance(2_000);
    expect(changes).toEqual(['taken', 'lost', 'taken', 'released']);
    await clock.advance(60_000);
    await closed;
    expect(clock.pending).toBe(0);
  });

  it('is no member of the fleet after a start that failed, and closes though a handler never ends', async () => {
    const leaseTable = new MemoryLeaseTable();
    const { port } = scriptedPort(clock, { read: (call) => page(call + 2, 10) });
    const failing = new Consumer(
      {
        streamName: 'orders',
        applicationName: 'billing',
        leaseTable,
        clock,
        handler: { processRecord: () => {} },
      },
      { ...port, listShards: () => Promise.reject(new Error('no shards')) },
    );
    await expect(failing.start()).rejects.toThrow('no shards');
    expect(await leaseTable.scan('Shardline:worker:')).toEqual([]);
    expect(clock.pending).toBe(0);

    const deaf = (): Promise<void> => new Promise(() => {});
    const consumer = await start(port, deaf, { leaseTable, drainTimeoutMs: 1_000 });
    await clock.advance(2_000);
    let isClosed = false;
    void consumer.close().then(() => (isClosed = true));
    await clock.advance(60_000);
    expect(isClosed).toBe(true);
  });

  it('shares bytes and handlers with other consumers of its process, if told to', async () => {
    const budget = new ByteBudget(3 * 2 ** 20);
    const handlerLimit = new HandlerLimit(2);
    let running = 0;
    let most = 0;
    const handle = (): Promise<void> => {
      running += 1;
      most = Math.max(most, running);
      return new Promise((resolve) =>
        clock.schedule(1_000, () => {
          running -= 1;
          resolve();
        }),
      );
    };
    const consumers = await Promise.all(
      ['a', 'b', 'c'].map((streamName) => {
        const { port } = scriptedPort(clock, { read: (call) => page(call + 2, 2 ** 20) });
        return start(port, handle, { streamName, budget, handlerLimit });
      }),
    );
    await clock.advance(30_000);
    expect(budget.usedBytes).toBeLessThanOrEqual(3 * 2 ** 20);
    expect(
      consumers
        .map((consumer) => consumer.status().shards[0]?.handledRecords ?? 0)
        .every((count) => count > 5),
    ).toBe(true);
    expect(most).toBe(2);
    await Promise.all(
      consumers
        .map((consumer) =>
          consumer.close().then(
            () => {},
            () => {},
          ),
        )
        .concat(clock.advance(60_000)),
    );
    expect(budget.usedBytes).toBe(0);
    expect(() => new HandlerLimit(0)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
  });

  it('does not take the time a handler needs for time without reading', async () => {
    const { port, log } = scriptedPort(clock, {
      read: (call) => (call < 200 ? page(call + 2, 2 ** 20) : EMPTY),
    });
    const consumer = await start(
      port,
      (signal) =>
        new Promise<void>((resolve, reject) => {
          clock.schedule(20_000, resolve);
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        }),
    );
    await clock.advance(1_000_000);
    expect(changes).toEqual(['taken']);
    // 64 MiB may wait; what is behind them is not read before there is room.
    expect(log.reads.length).toBeLessThan(125);
    await close(consumer);
  });
});
