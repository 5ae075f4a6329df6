import {
  ConditionalCheckFailedException,
  CreateTableCommand,
  type CreateTableCommandInput,
  DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  UpdateItemCommand,
} from '@aws-sdk/client-dynamodb';
import {
  DynamoDbLeaseTable,
  type LeaseTable,
  MemoryLeaseTable,
  type NewTableOptions,
} from '@shardline/consumer';
import { leaseTableContract } from '@shardline/consumer/testing';
import { type Local, startLocal } from '@shardline/local';
import { MAX_HASH_KEY, systemClock, systemRandom } from '@shardline/shared';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { FleetStore } from '../../src/fleet/fleet-store.js';
import { LeaseStore } from '../../src/lease/lease-store.js';
import type { Row } from '../../src/lease/lease-table.js';
import {
  type Lease,
  type LeaseLayout,
  newLease,
  type Progress,
  progressAt,
} from '../../src/lease/lease.js';

let local: Local;
let client: DynamoDBClient;
let tables = 0;

beforeAll(async () => {
  local = await startLocal();
  client = new DynamoDBClient(local.dynamodb);
});

afterAll(async () => {
  client.destroy();
  await local.close();
});

function dynamoDbTable(
  tableName = `leases-${(tables += 1)}`,
  newTable: NewTableOptions = {},
): DynamoDbLeaseTable {
  return new DynamoDbLeaseTable({
    tableName,
    newTable,
    client,
    requestTimeoutMs: 5_000,
    clock: systemClock,
    random: systemRandom,
  });
}

const at = (sequenceNumber: string, subSequenceNumber = 0) => ({
  sequenceNumber,
  subSequenceNumber,
});

function sample(layout: LeaseLayout = 'kcl'): Lease {
  return newLease(
    { streamId: undefined, streamEpochSeconds: 1_700_000_000, layout },
    {
      shardId: 'shardId-000000000002',
      checkpoint: at('TRIM_HORIZON'),
      parentShardIds: ['shardId-000000000000', 'shardId-000000000001'],
      hashRange: { start: 0n, end: MAX_HASH_KEY },
    },
  );
}

const TABLES: readonly (readonly [string, () => LeaseTable])[] = [
  ['MemoryLeaseTable', () => new MemoryLeaseTable()],
  ['DynamoDbLeaseTable', () => dynamoDbTable()],
  // A service that tells the row with the refusal, as DynamoDB does and dynalite does not.
  ['DynamoDbLeaseTable of a service that tells more', () => tellingTable()],
];

/** Puts the row that stands in the table into the refusal, as `ReturnValuesOnConditionCheckFailure` asks. */
function tellingTable(): LeaseTable {
  const telling = new DynamoDBClient(local.dynamodb);
  const tableName = `leases-${(tables += 1)}`;
  let reads = 0;
  telling.middlewareStack.add(
    (next, { commandName }) =>
      async (args) => {
        if (commandName === 'GetItemCommand') reads += 1;
        try {
          return await next(args);
        } catch (error) {
          const { Key } = args.input as { Key?: Row };
          if (error instanceof ConditionalCheckFailedException && Key) {
            const command = new GetItemCommand({ TableName: tableName, Key, ConsistentRead: true });
            const { Item } = await client.send(command);
            if (Item) error.Item = Item;
          }
          throw error;
        }
      },
    { step: 'initialize' },
  );
  const options = { tableName, client: telling, requestTimeoutMs: 5_000 };
  const table = new DynamoDbLeaseTable({ ...options, clock: systemClock, random: systemRandom });
  const update = table.update.bind(table);
  table.update = async (...args) => {
    const before = reads;
    const outcome = await update(...args);
    if (outcome.row && reads > before) throw new Error('it was read though it was told');
    return outcome;
  };
  return table;
}

describe.each(TABLES)('%s', (_, make) => {
  it.each(leaseTableContract)('$title', async ({ check }) => {
    const table = make();
    await table.prepare(new AbortController().signal);
    await expect(check(table)).resolves.toBeUndefined();
  });
});

describe.each(
  TABLES.flatMap(([name, make]) =>
    (['kcl', 'native'] as const).map((layout) => [name, layout, make] as const),
  ),
)('LeaseStore on a %s, %s layout', (_, layout, make) => {
  let store: LeaseStore;
  let list: () => Promise<readonly Lease[]>;

  beforeEach(async () => {
    const table = make();
    await table.prepare(new AbortController().signal);
    store = new LeaseStore(table);
    const fleet = new FleetStore(table);
    list = async () => (await fleet.list(true)).leases;
  });

  const created = async (): Promise<Lease> => {
    await store.create(sample(layout));
    return (await store.get('shardId-000000000002')) as Lease;
  };

  const taken = async (workerId: string): Promise<Lease> =>
    (await store.take(await created(), workerId)) as Lease;

  it('creates a lease once and gives it back as it was', async () => {
    expect(await store.create(sample(layout))).toBe(true);
    expect(await store.create({ ...sample(layout), checkpoint: at('LATEST') })).toBe(false);
    expect(await list()).toEqual([sample(layout)]);
    expect(await store.get('shardId-000000000002')).toEqual(sample(layout));
    expect(await store.get('none')).toBeUndefined();
  });

  it('lets one of two workers take a lease', async () => {
    const lease = await created();
    const results = await Promise.all([store.take(lease, 'a'), store.take(lease, 'b')]);
    const winners = results.filter((result) => result !== undefined);
    expect(winners).toHaveLength(1);
    expect(winners[0]).toMatchObject({ leaseCounter: 1, ownerSwitchesSinceCheckpoint: 1 });
  });

  it('renews only what it last wrote', async () => {
    const lease = await taken('a');
    const renewal = await store.renew(lease, 'a');
    expect(renewal).toMatchObject({ kind: 'renewed', lease: { leaseCounter: 2 } });
    const stolen = await store.take((await store.get(lease.leaseKey)) as Lease, 'b');
    expect(stolen?.leaseOwner).toBe('b');
    expect(await store.renew({ ...lease, leaseCounter: 2 }, 'a')).toEqual({ kind: 'lost' });
  });

  it('recognises its own renewal, take and checkpoint whose answers were lost', async () => {
    const lease = await taken('a');
    await store.renew(lease, 'a');
    expect(await store.renew(lease, 'a')).toMatchObject({
      kind: 'renewed',
      lease: { leaseCounter: 2 },
    });
    const before = (await store.get(lease.leaseKey)) as Lease;
    await store.checkpoint(before, 'a', progressAt(at('5')));
    expect(await store.checkpoint(before, 'a', progressAt(at('5')))).toMatchObject({
      leaseCounter: 3,
      checkpoint: at('5'),
    });
    expect(await store.checkpoint(before, 'a', progressAt(at('6')))).toBeUndefined();
    const free = (await store.get(lease.leaseKey)) as Lease;
    await store.take(free, 'b');
    expect(await store.take(free, 'b')).toMatchObject({ leaseOwner: 'b', leaseCounter: 4 });
    expect(await store.take(free, 'c')).toBeUndefined();
  });

  it('stores a position for its owner only, as a renewal, and forgets owner switches', async () => {
    const lease = await taken('a');
    const stored = await store.checkpoint(
      lease,
      'a',
      progressAt(at('49590338271490256608559692538361571095921575989136588898', 3)),
    );
    expect(stored).toMatchObject({ leaseCounter: 2, ownerSwitchesSinceCheckpoint: 0 });
    expect(await store.get(lease.leaseKey)).toEqual(stored);
    const next = await store.take(stored as Lease, 'b');
    expect(await store.checkpoint(stored as Lease, 'a', progressAt(at('9')))).toBeUndefined();
    expect(next?.checkpoint).toEqual(stored?.checkpoint);
  });

  it('keeps everything of the progress, and forgets what the next one does not hold', async () => {
    const lease = await taken('a');
    const progress: Progress = {
      checkpoint: at('7', 2),
      startAtMs: 1_795_000_000_000,
      pendingCheckpoint: { position: at('9'), state: new Uint8Array([1, 2]) },
      finishedAbove: 'zz:0-3',
      windowState: '{"startAt":0}',
    };
    const stored = (await store.checkpoint(lease, 'a', progress)) as Lease;
    expect(await store.get(lease.leaseKey)).toEqual({
      ...lease,
      ...progress,
      leaseCounter: 2,
      ownerSwitchesSinceCheckpoint: 0,
    });
    // The same once more, as after an answer that was lost; something else is somebody else's.
    expect(await store.checkpoint(lease, 'a', progress)).toEqual(stored);
    expect(
      await store.checkpoint(lease, 'a', { ...progress, windowState: undefined }),
    ).toBeUndefined();
    await store.checkpoint(stored, 'a', progressAt(at('9')));
    expect(await store.get(lease.leaseKey)).toMatchObject(progressAt(at('9')));
  });

  it('seeks: asked of whoever reads, or done at once, back too; a checkpoint does not take it back', async () => {
    const lease = await taken('a');
    const stored = (await store.checkpoint(lease, 'a', progressAt(at('9')))) as Lease;
    const target = { position: at('AT_TIMESTAMP'), timestampMs: 5 };
    expect(await store.requestSeek(lease.leaseKey, target)).toBe(true);
    expect(await store.requestSeek('no such lease', target)).toBe(false);
    const later = (await store.checkpoint(stored, 'a', progressAt(at('10')))) as Lease;
    expect((await store.get(lease.leaseKey))?.seek).toEqual(target);
    const moved = await store.seek(later, 'a', progressAt(at('AT_TIMESTAMP'), 5));
    expect(moved).toMatchObject({ checkpoint: at('AT_TIMESTAMP'), startAtMs: 5, seek: undefined });
    expect(await store.get(lease.leaseKey)).toEqual({ ...moved, leaseOwner: 'a' });
    expect(await store.seek(later, undefined, progressAt(at('1')))).toBeUndefined();
  });

  it('hands over: asked for once, noticed at the renewal, owned by the next one at the end', async () => {
    const lease = await taken('a');
    expect(await store.requestHandOver(lease, 'b')).toBe(true);
    expect(await store.requestHandOver(lease, 'c')).toBe(false);
    const renewal = await store.renew(lease, 'a');
    expect(renewal).toMatchObject({
      kind: 'handOverRequested',
      lease: { leaseOwner: 'b', checkpointOwner: 'a', leaseCounter: 1 },
    });
    const asked = (renewal as { lease: Lease }).lease;
    const again = (await store.renew(asked, 'a')) as { kind: string; lease: Lease };
    expect(again).toMatchObject({ kind: 'renewed', lease: { leaseCounter: 2 } });
    const checkpointed = (await store.checkpoint(again.lease, 'a', progressAt(at('7')))) as Lease;
    expect(await store.completeHandOver(checkpointed, 'b')).toBe(false);
    expect(await store.completeHandOver(checkpointed, 'a')).toBe(true);
    expect(await store.get(lease.leaseKey)).toMatchObject({
      leaseOwner: 'b',
      checkpointOwner: undefined,
      checkpoint: at('7'),
      leaseCounter: 4,
    });
  });

  it('takes a lease out of a hand-over whose owner has died', async () => {
    const lease = await taken('a');
    await store.requestHandOver(lease, 'b');
    const stuck = (await store.get(lease.leaseKey)) as Lease;
    expect(await store.take(stuck, 'b')).toMatchObject({
      leaseOwner: 'b',
      checkpointOwner: undefined,
    });
  });

  it('releases to nobody, for its owner only', async () => {
    const lease = await taken('a');
    expect(await store.release(lease, 'b')).toBe(false);
    expect(await store.release({ ...lease, leaseCounter: 0 }, 'a')).toBe(false);
    expect(await store.release(lease, 'a')).toBe(true);
    expect(await store.get(lease.leaseKey)).toMatchObject({
      leaseOwner: undefined,
      leaseCounter: 2,
    });
  });

  it('notes children and deletes', async () => {
    const lease = await created();
    await store.setChildren(lease.leaseKey, ['x', 'y']);
    expect(new Set((await store.get(lease.leaseKey))?.childShardIds)).toEqual(new Set(['x', 'y']));
    await store.delete(lease.leaseKey);
    await store.setChildren(lease.leaseKey, ['z']);
    expect(await list()).toEqual([]);
  });
});

describe("the KCL's table", () => {
  const itemOf = async (tableName: string, leaseKey: string): Promise<Row | undefined> => {
    const { Item } = await client.send(
      new GetItemCommand({ TableName: tableName, Key: { leaseKey: { S: leaseKey } } }),
    );
    return Item;
  };
  const prepared = async (tableName: string) => {
    const table = dynamoDbTable(tableName);
    await table.prepare(new AbortController().signal);
    return { table, store: new LeaseStore(table), fleet: new FleetStore(table) };
  };

  it('has rows attribute for attribute as the KCL writes them, and some of ours that it leaves alone', async () => {
    const { store } = await prepared('kcl-layout');
    await store.create(sample());
    const lease = (await store.take(sample(), 'worker-1')) as Lease;
    await store.renew(lease, 'worker-1', 12.5);
    expect(await itemOf('kcl-layout', 'shardId-000000000002')).toEqual({
      leaseKey: { S: 'shardId-000000000002' },
      leaseCounter: { N: '2' },
      leaseOwner: { S: 'worker-1' },
      ownerSwitchesSinceCheckpoint: { N: '1' },
      checkpoint: { S: 'TRIM_HORIZON' },
      checkpointSubSequenceNumber: { N: '0' },
      parentShardId: { SS: ['shardId-000000000000', 'shardId-000000000001'] },
      startingHashKey: { S: '0' },
      endingHashKey: { S: MAX_HASH_KEY.toString() },
      entityType: { S: 'LEASE' },
      throughputKBps: { N: '12.5' },
      shardlineOwner: { S: 'worker-1' },
      shardlineStreamEpochSeconds: { N: '1700000000' },
    });
  });

  it('has rows of several streams as the KCL writes them', async () => {
    const { store, fleet } = await prepared('kcl-streams');
    const streamId = '123456789012:orders:1700000000';
    const lease = newLease(
      { streamId, streamEpochSeconds: undefined, layout: 'kcl' },
      {
        shardId: 'shardId-000000000003',
        checkpoint: at('LATEST'),
        parentShardIds: [],
        hashRange: undefined,
      },
    );
    await store.create(lease);
    expect(await itemOf('kcl-streams', `${streamId}:shardId-000000000003`)).toMatchObject({
      streamName: { S: streamId },
      shardId: { S: 'shardId-000000000003' },
      leaseCounter: { N: '0' },
    });
    expect((await fleet.list(true)).leases).toEqual([lease]);
  });

  it('has native rows that no KCL can read as leases: without `leaseCounter`, of another type', async () => {
    const { store } = await prepared('native-layout');
    await store.create(sample('native'));
    const lease = (await store.take(sample('native'), 'worker-1')) as Lease;
    const item = await itemOf('native-layout', 'shardId-000000000002');
    expect(item).not.toHaveProperty('leaseCounter');
    expect(item).toMatchObject({ entityType: { S: 'SHARDLINE_LEASE' } });
    const converted = (await store.convert(lease, 'worker-1', 'kcl')) as Lease;
    expect(converted).toMatchObject({ layout: 'kcl', leaseCounter: 2, leaseOwner: 'worker-1' });
    expect(await itemOf('native-layout', 'shardId-000000000002')).toMatchObject({
      leaseCounter: { N: '2' },
      entityType: { S: 'LEASE' },
    });
    // Whoever has the former row in mind is refused.
    expect(await store.take(lease, 'worker-2')).toBeUndefined();
    expect(await store.convert(lease, undefined, 'kcl')).toBeUndefined();
  });

  it('passes over rows that are no leases and keeps attributes it does not know', async () => {
    const { store, fleet } = await prepared('kcl-mixed');
    await store.create(sample());
    for (const item of [
      { leaseKey: { S: 'Leader' }, entityType: { S: 'LEADER' }, ownerName: { S: 'x' } },
      { leaseKey: { S: 'Migration3.0' }, cv: { S: 'CLIENT_VERSION_3X' } },
    ]) {
      await client.send(new PutItemCommand({ TableName: 'kcl-mixed', Item: item }));
    }
    await client.send(
      new UpdateItemCommand({
        TableName: 'kcl-mixed',
        Key: { leaseKey: { S: 'shardId-000000000002' } },
        UpdateExpression: 'SET throughputKBps = :t, somethingNew = :s, pendingCheckpoint = :p',
        ExpressionAttributeValues: { ':t': { N: '1.0E-6' }, ':s': { S: 'kept' }, ':p': { S: '5' } },
      }),
    );
    const { leases, others } = await fleet.list(true);
    expect(leases).toHaveLength(1);
    expect(others).toHaveLength(2);
    const lease = (await store.take(leases[0] as Lease, 'a')) as Lease;
    await store.checkpoint(lease, 'a', progressAt(at('9')));
    const item = await itemOf('kcl-mixed', lease.leaseKey);
    expect(item).toMatchObject({ somethingNew: { S: 'kept' }, checkpoint: { S: '9' } });
    // Any checkpoint discards a pending one.
    expect(item).not.toHaveProperty('pendingCheckpoint');
  });

  it('shares a table by key prefixes', async () => {
    const { table } = await prepared('shared-table');
    for (const prefix of ['billing/', 'audit/']) {
      const store = new LeaseStore(table, prefix);
      await store.create(sample('native'));
      await store.take(sample('native'), prefix);
    }
    const listing = await new FleetStore(table, 'audit/').list(true);
    expect(listing.leases).toMatchObject([
      { leaseKey: 'shardId-000000000002', leaseOwner: 'audit/' },
    ]);
    expect(listing.others).toEqual([]);
  });

  it('refuses a table that is no lease table, naming both keys', async () => {
    await client.send(
      new CreateTableCommand({
        TableName: 'other-table',
        KeySchema: [{ AttributeName: 'id', KeyType: 'HASH' }],
        AttributeDefinitions: [{ AttributeName: 'id', AttributeType: 'S' }],
        BillingMode: 'PAY_PER_REQUEST',
      }),
    );
    await expect(prepared('other-table')).rejects.toMatchObject({
      code: 'LEASE_TABLE_INVALID',
      value: 'id HASH',
      limit: 'leaseKey HASH',
    });
  });

  it('is created as asked for, by one of many workers at once', async () => {
    const asked: CreateTableCommandInput[] = [];
    const watching = new DynamoDBClient(local.dynamodb);
    watching.middlewareStack.add(
      (next, { commandName }) =>
        (args) => {
          if (commandName === 'CreateTableCommand')
            asked.push(args.input as CreateTableCommandInput);
          return next(args);
        },
      { step: 'initialize' },
    );
    const newTable: NewTableOptions = {
      billingMode: 'PROVISIONED',
      tags: { team: 'billing' },
      deletionProtection: true,
      pointInTimeRecovery: true,
    };
    const make = (): DynamoDbLeaseTable =>
      new DynamoDbLeaseTable({
        tableName: 'raced-for',
        newTable,
        client: watching,
        requestTimeoutMs: 5_000,
        clock: systemClock,
        random: systemRandom,
      });
    const raced = Array.from({ length: 5 }, make);
    await Promise.all(raced.map((table) => table.prepare(new AbortController().signal)));
    expect(await raced[0]?.scan('', true)).toEqual([]);
    expect(asked[0]).toMatchObject({
      BillingMode: 'PROVISIONED',
      ProvisionedThroughput: { ReadCapacityUnits: 10, WriteCapacityUnits: 10 },
      Tags: [{ Key: 'team', Value: 'billing' }],
      DeletionProtectionEnabled: true,
    });
    watching.destroy();
  });

  it('tells which leases a worker is named in, if it has the index of a KCL 3.x', async () => {
    const { table: plain } = await prepared('without-index');
    expect(await plain.keysOf('a')).toBeUndefined();
    await client.send(
      new CreateTableCommand({
        TableName: 'with-index',
        KeySchema: [{ AttributeName: 'leaseKey', KeyType: 'HASH' }],
        AttributeDefinitions: [
          { AttributeName: 'leaseKey', AttributeType: 'S' },
          { AttributeName: 'leaseOwner', AttributeType: 'S' },
        ],
        BillingMode: 'PAY_PER_REQUEST',
        GlobalSecondaryIndexes: [
          {
            IndexName: 'LeaseOwnerToLeaseKeyIndex',
            KeySchema: [
              { AttributeName: 'leaseOwner', KeyType: 'HASH' },
              { AttributeName: 'leaseKey', KeyType: 'RANGE' },
            ],
            Projection: { ProjectionType: 'KEYS_ONLY' },
          },
        ],
      }),
    );
    const { table, store } = await prepared('with-index');
    await store.create(sample());
    expect(await table.keysOf('a')).toEqual([]);
    await store.take(sample(), 'a');
    expect(await table.keysOf('a')).toEqual(['shardId-000000000002']);
  });

  it('names the right that is missing', async () => {
    const refused = new DynamoDBClient(local.dynamodb);
    refused.middlewareStack.add(
      () => () =>
        Promise.reject(
          Object.assign(
            new Error('User: x is not authorized to perform: dynamodb:UpdateItem on resource: y'),
            { name: 'AccessDeniedException' },
          ),
        ),
      { step: 'initialize' },
    );
    const table = new DynamoDbLeaseTable({
      tableName: 'forbidden',
      client: refused,
      requestTimeoutMs: 5_000,
      clock: systemClock,
      random: systemRandom,
    });
    const update = table.update('s', { set: { a: { N: '1' } } }, {});
    await expect(update).rejects.toMatchObject({
      code: 'ACCESS_DENIED',
      message: expect.stringContaining('dynamodb:UpdateItem') as string,
    });
    const prepare = table.prepare(new AbortController().signal);
    await expect(prepare).rejects.toMatchObject({
      code: 'ACCESS_DENIED',
      message: expect.stringContaining('dynamodb:DescribeTable') as string,
    });
  });
});
