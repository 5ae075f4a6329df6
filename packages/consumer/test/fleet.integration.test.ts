import { subscribe, unsubscribe } from 'node:diagnostics_channel';

import {
  CreateTableCommand,
  DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  ScanCommand,
} from '@aws-sdk/client-dynamodb';
import {
  CreateStreamCommand,
  DeleteStreamCommand,
  KinesisClient,
  PutRecordsCommand,
} from '@aws-sdk/client-kinesis';
import { Consumer, type ConsumerOptions, MemoryLeaseTable } from '@shardline/consumer';
import { type Local, startLocal } from '@shardline/local';
import { systemClock } from '@shardline/shared';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { KclRows } from '../src/fleet/kcl-rows.js';
import { DynamoDbLeaseTable } from '../src/lease/dynamodb-lease-table.js';

const QUICK = {
  failoverMs: 1_500,
  assignmentIntervalMs: 150,
  auditIntervalMs: 1_000,
  checkpointIntervalMs: 50,
  idlePauseMs: 200,
  maxIdlePauseMs: 200,
  initialPosition: 'TRIM_HORIZON',
} as const;

let local: Local;
let kinesis: KinesisClient;
let dynamodb: DynamoDBClient;
let consumers: Consumer[];
let handled: string[];
let put: number;

beforeEach(async () => {
  local = await startLocal({
    streams: [
      { name: 'orders', shards: 4 },
      { name: 'payments', shards: 2 },
    ],
  });
  kinesis = new KinesisClient(local.kinesis);
  dynamodb = new DynamoDBClient(local.dynamodb);
  consumers = [];
  handled = [];
  put = 0;
});

afterEach(async () => {
  await Promise.all(consumers.map((consumer) => consumer.close()));
  kinesis.destroy();
  dynamodb.destroy();
  await local.close();
});

function make(workerId: string, options: Partial<ConsumerOptions> = {}): Consumer {
  const consumer = new Consumer({
    ...(options.streams === undefined && { streamName: 'orders' }),
    applicationName: 'billing',
    workerId,
    clientConfig: local.kinesis,
    dynamodbConfig: local.dynamodb,
    ...QUICK,
    handler: {
      processRecord: ({ data }, { streamName }) =>
        void handled.push(`${streamName} ${data.toString()}`),
    },
    ...options,
  });
  consumers.push(consumer);
  return consumer;
}

async function start(workerId: string, options: Partial<ConsumerOptions> = {}): Promise<Consumer> {
  const consumer = make(workerId, options);
  await consumer.start();
  return consumer;
}

async function putSome(count: number, StreamName = 'orders'): Promise<void> {
  const Records = Array.from({ length: count }, () => {
    const number = (put += 1);
    return { PartitionKey: `key-${number}`, Data: Buffer.from(String(number)) };
  });
  await kinesis.send(new PutRecordsCommand({ StreamName, Records }));
}

const hasAll = (): Promise<void> =>
  expect.poll(() => new Set(handled).size, { timeout: 15_000 }).toBe(put);

async function rows(tableName = 'billing') {
  const { Items = [] } = await dynamodb.send(new ScanCommand({ TableName: tableName }));
  return Items;
}

const counts = (): number[] => consumers.map((consumer) => consumer.status().shards.length);

describe('a fleet', () => {
  it('goes from the table of a KCL 2.x to a native one and back, while it works, without a loss', async () => {
    await start('a', { leaseMode: 'kcl2' });
    await start('b');
    await putSome(50);
    await expect.poll(counts, { timeout: 15_000 }).toEqual([2, 2]);
    // What was stolen is read again from where it was stored.
    const lags = (): (number | undefined)[] =>
      consumers.flatMap((each) => each.status().shards.map((shard) => shard.millisBehindLatest));
    await expect.poll(lags, { timeout: 15_000 }).toEqual([0, 0, 0, 0]);
    expect((await rows()).map(({ entityType }) => entityType?.S)).toEqual(
      Array.from({ length: 4 }, () => 'LEASE'),
    );
    let isDone = false;
    const putting = (async () => {
      while (!isDone) {
        await putSome(5);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    await consumers[0]?.changeLeaseMode('native', { pollMs: 100 });
    expect((await rows()).filter(({ leaseCounter }) => leaseCounter)).toEqual([]);
    await expect
      .poll(() => consumers.map((each) => each.status().leaseMode))
      .toEqual(['native', 'native']);
    const duplicates = handled.length - new Set(handled).size;
    // Nothing changes hands for it.
    await consumers[1]?.changeLeaseMode('kcl2', { pollMs: 100 });
    await expect
      .poll(async () => (await rows()).map(({ entityType }) => entityType?.S))
      .toEqual(Array.from({ length: 4 }, () => 'LEASE'));
    expect((await rows()).every(({ leaseCounter }) => leaseCounter !== undefined)).toBe(true);
    isDone = true;
    await putting;
    await hasAll();
    expect(handled.length - new Set(handled).size).toBe(duplicates);
    expect(consumers.map((each) => each.status().leaseMode)).toEqual(['kcl2', 'kcl2']);
  });

  it('does not go native while a worker of a KCL renews its leases', async () => {
    const ours = await start('a', { leaseMode: 'kcl2' });
    await expect.poll(counts).toEqual([4]);
    await ours.close();
    const table = new DynamoDbLeaseTable({
      tableName: 'billing',
      client: dynamodb,
      requestTimeoutMs: 1_000,
      clock: systemClock,
      random: Math.random,
    });
    const renew = (): Promise<unknown> =>
      table.update(
        'shardId-000000000001',
        { set: { leaseOwner: { S: 'java' } }, add: { leaseCounter: { N: '1' } } },
        {},
      );
    await renew();
    const renewing = setInterval(() => void renew(), 200);
    const tool = make('tool');
    await expect(tool.changeLeaseMode('native')).rejects.toMatchObject({
      code: 'LEASE_MODE_MISMATCH',
      value: 'java',
    });
    clearInterval(renewing);
    await tool.changeLeaseMode('native', { pollMs: 100 });
    expect((await rows()).filter(({ leaseCounter }) => leaseCounter)).toEqual([]);
  });

  it('hands a shard over so that the next owner goes on within a second, nothing twice and nothing lost', async () => {
    const events: { shard: string; change: string; atMs: number }[] = [];
    const note = (message: unknown): void => {
      const { leaseKey, change } = message as { leaseKey: string; change: string };
      events.push({ shard: leaseKey, change, atMs: performance.now() });
    };
    subscribe('shardline:consumer:lease', note);
    // Looks at the fleet once a second, as by default.
    const slow = { assignmentIntervalMs: 0 };
    await start('a', slow);
    await expect.poll(counts).toEqual([4]);
    let isDone = false;
    const putting = (async () => {
      while (!isDone) {
        await putSome(10);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    await start('b', slow);
    await expect.poll(counts, { timeout: 15_000 }).toEqual([2, 2]);
    await consumers[0]?.close();
    await expect.poll(() => counts()[1], { timeout: 15_000 }).toBe(4);
    isDone = true;
    await putting;
    await hasAll();
    unsubscribe('shardline:consumer:lease', note);
    expect(handled).toHaveLength(put);
    const gaps = events.flatMap(({ shard, change, atMs }, index) => {
      const next = events
        .slice(index)
        .find((each) => each.shard === shard && each.change === 'taken');
      return change === 'released' && next ? [next.atMs - atMs] : [];
    });
    expect(gaps).toHaveLength(4);
    expect(Math.max(...gaps)).toBeLessThan(500);
    console.log(`gaps of ${gaps.map(Math.round).join(', ')} ms`);
    // A worker that has stopped leaves nothing of itself behind.
    expect(JSON.stringify(await rows())).not.toContain('"a"');
  });

  it('shares a table with another application by a key prefix', async () => {
    const table = { leaseTableName: 'shared', leaseMode: 'native' } as const;
    await start('a', { ...table, leaseKeyPrefix: 'billing/' });
    await start('b', { ...table, applicationName: 'audit', leaseKeyPrefix: 'audit/' });
    await putSome(20);
    await expect.poll(() => handled.length, { timeout: 15_000 }).toBe(2 * put);
    expect(counts()).toEqual([4, 4]);
    const tool = make('tool', { ...table, leaseKeyPrefix: 'billing/' });
    await expect(tool.changeLeaseMode('kcl2')).rejects.toMatchObject({
      code: 'LEASE_MODE_MISMATCH',
    });
  });

  it('begins anew with a stream that was deleted and created again', async () => {
    await start('a', { initialPosition: 'TRIM_HORIZON' });
    await start('b');
    await putSome(20);
    await hasAll();
    await kinesis.send(new DeleteStreamCommand({ StreamName: 'orders' }));
    // Streams are told apart by the second of their creation.
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await kinesis.send(new CreateStreamCommand({ StreamName: 'orders', ShardCount: 4 }));
    await expect
      .poll(
        () =>
          putSome(20).then(
            () => true,
            () => false,
          ),
        { timeout: 5_000 },
      )
      .toBe(true);
    await hasAll();
  });

  it('tells who leads, how far the application is behind, and why each shard is as it is', async () => {
    const a = await start('a');
    await start('b');
    await putSome(20);
    await hasAll();
    await expect.poll(counts, { timeout: 15_000 }).toEqual([2, 2]);
    await expect.poll(() => a.status().lagMs, { timeout: 10_000 }).toBe(0);
    await expect
      .poll(() => a.status().leases.filter(({ state }) => state === 'owned').length)
      .toBe(4);
    const status = a.status();
    expect(['a', 'b']).toContain(status.leader);
    expect(status.leaseMode).toBe('native');
    expect(status.leases.map(({ reason }) => reason).sort()).toEqual([
      'read by a',
      'read by a',
      'read by b',
      'read by b',
    ]);
    expect(status.trouble).toBeUndefined();
  });
});

describe('several streams', () => {
  const streams = [{ streamName: 'orders' }, { streamName: 'payments' }];

  it("are shared by the workers, more are added and removed, and their keys are the KCL's", async () => {
    await start('a', { streams });
    await start('b', { streams });
    await putSome(20);
    await putSome(20, 'payments');
    await hasAll();
    await expect.poll(counts, { timeout: 15_000 }).toEqual([3, 3]);
    const keys = (await rows()).flatMap(({ leaseKey, shardId }) => (shardId ? leaseKey?.S : []));
    expect(keys).toHaveLength(6);
    for (const key of keys) expect(key).toMatch(/^\d{12}:(orders|payments):\d{10}:shardId-\d{12}$/);

    await kinesis.send(new CreateStreamCommand({ StreamName: 'refunds', ShardCount: 2 }));
    await putSome(20, 'refunds').catch(() => {});
    put = handled.length;
    await expect
      .poll(() => consumers[0]?.addStream({ streamName: 'refunds' }).then(() => true), {
        timeout: 5_000,
      })
      .toBe(true);
    await putSome(20, 'refunds');
    await expect
      .poll(() => handled.filter((line) => line.startsWith('refunds')).length)
      .toBeGreaterThanOrEqual(20);
    // The other worker does not read it, and is given none of its shards.
    await expect
      .poll(
        () =>
          consumers[1]?.status().shards.filter(({ streamName }) => streamName === 'refunds').length,
      )
      .toBe(0);
    expect(await consumers[0]?.removeStream('refunds', { forget: true })).toBe(true);
    expect(await consumers[0]?.removeStream('refunds')).toBe(false);
    await expect
      .poll(async () => JSON.stringify(await rows()).includes('refunds:'), { timeout: 5_000 })
      .toBe(false);
  });

  it('are given up by a worker that reads them no more, to one that does', async () => {
    await start('a', { streams });
    await start('b', { streams });
    await expect.poll(counts, { timeout: 15_000 }).toEqual([3, 3]);
    await consumers[0]?.removeStream('payments');
    const ofPayments = (index: number): number =>
      consumers[index]?.status().shards.filter(({ streamName }) => streamName === 'payments')
        .length ?? 0;
    await expect.poll(() => [ofPayments(0), ofPayments(1)], { timeout: 15_000 }).toEqual([0, 2]);
    await putSome(20, 'payments');
    await hasAll();
  });

  it('are refused when one is there twice, or beside a single one', () => {
    const table = { leaseTable: new MemoryLeaseTable() };
    const twice = [...streams, { streamName: 'orders' }];
    expect(() => make('a', { ...table, streams: twice })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', value: 'orders' }),
    );
    expect(() => make('a', { ...table, streams, streamName: 'orders' })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', value: 'streamName' }),
    );
    expect(() => make('a', { ...table, leaseMode: 'kcl2', leaseKeyPrefix: 'x' })).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', value: 'kcl2' }),
    );
  });
});

describe('the side tables of KCL 3.0 to 3.4', () => {
  it('are where the state is read and the metrics row is written, if they exist', async () => {
    for (const [TableName, key] of [
      ['side', 'leaseKey'],
      ['side-CoordinatorState', 'key'],
      ['side-WorkerMetricStats', 'wid'],
    ] as const) {
      await dynamodb.send(
        new CreateTableCommand({
          TableName,
          KeySchema: [{ AttributeName: key, KeyType: 'HASH' }],
          AttributeDefinitions: [{ AttributeName: key, AttributeType: 'S' }],
          BillingMode: 'PAY_PER_REQUEST',
        }),
      );
    }
    const put_ = (TableName: string, Item: Record<string, { S: string }>): Promise<unknown> =>
      dynamodb.send(new PutItemCommand({ TableName, Item }));
    const table = new DynamoDbLeaseTable({
      tableName: 'side',
      client: dynamodb,
      requestTimeoutMs: 1_000,
      clock: systemClock,
      random: Math.random,
    });
    await expect
      .poll(() => table.prepare(new AbortController().signal).then(() => true))
      .toBe(true);
    await expect
      .poll(() =>
        put_('side-CoordinatorState', {
          key: { S: 'Migration3.0' },
          cv: { S: 'CLIENT_VERSION_3X' },
        }).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    const rowsOf = new KclRows(table, systemClock);
    await rowsOf.open();
    expect(await rowsOf.clientVersion()).toBe('CLIENT_VERSION_3X');
    await expect
      .poll(() =>
        rowsOf.report('ours').then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    await rowsOf.report('ours');
    const { Item } = await dynamodb.send(
      new GetItemCommand({ TableName: 'side-WorkerMetricStats', Key: { wid: { S: 'ours' } } }),
    );
    expect(Item).toMatchObject({ wid: { S: 'ours' }, sup: { N: '1' } });
    expect(await rows('side')).toEqual([]);
    expect(await rowsOf.foreignWorkers()).toEqual([]);
    await rowsOf.withdraw('ours');
    expect(await rows('side-WorkerMetricStats')).toEqual([]);
  });
});
