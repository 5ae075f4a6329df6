import {
  DynamoDBClient,
  GetItemCommand,
  PutItemCommand,
  UpdateItemCommand,
} from '@aws-sdk/client-dynamodb';
import {
  DynamoDbLeaseStore,
  type Lease,
  type LeaseStore,
  MemoryLeaseStore,
} from '@shardline/consumer';
import { type Local, startLocal } from '@shardline/local';
import { MAX_HASH_KEY, systemClock, systemRandom } from '@shardline/shared';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { newLease, type Progress, progressAt } from '../../src/lease/lease.js';

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

function dynamoDbStore(tableName = `leases-${(tables += 1)}`): DynamoDbLeaseStore {
  return new DynamoDbLeaseStore({
    tableName,
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

function sample(leaseKey = 'shardId-000000000002'): Lease {
  return newLease({
    leaseKey,
    checkpoint: at('TRIM_HORIZON'),
    parentShardIds: ['shardId-000000000000', 'shardId-000000000001'],
    hashRange: { start: 0n, end: MAX_HASH_KEY },
  });
}

/** What any store must do; others can run it against theirs. */
describe.each([
  ['MemoryLeaseStore', () => new MemoryLeaseStore()],
  ['DynamoDbLeaseStore', () => dynamoDbStore()],
] as [string, () => LeaseStore][])('%s', (_, make) => {
  let store: LeaseStore;

  beforeEach(async () => {
    store = make();
    await store.prepare(new AbortController().signal);
  });

  const created = async (): Promise<Lease> => {
    await store.create(sample());
    return (await store.get('shardId-000000000002')) as Lease;
  };

  const taken = async (workerId: string): Promise<Lease> =>
    (await store.take(await created(), workerId)) as Lease;

  it('creates a lease once and gives it back as it was', async () => {
    expect(await store.create(sample())).toBe(true);
    expect(await store.create({ ...sample(), checkpoint: at('LATEST') })).toBe(false);
    expect(await store.list()).toEqual([sample()]);
    expect(await store.get('shardId-000000000002')).toEqual(sample());
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
    expect(await store.list()).toEqual([]);
  });
});

describe("DynamoDbLeaseStore and the KCL's table", () => {
  it('writes rows attribute for attribute as the KCL does', async () => {
    const store = dynamoDbStore('kcl-layout');
    await store.prepare(new AbortController().signal);
    await store.create(sample());
    await store.take(sample(), 'worker-1');
    const { Item } = await client.send(
      new GetItemCommand({
        TableName: 'kcl-layout',
        Key: { leaseKey: { S: 'shardId-000000000002' } },
      }),
    );
    expect(Item).toEqual({
      leaseKey: { S: 'shardId-000000000002' },
      leaseCounter: { N: '1' },
      leaseOwner: { S: 'worker-1' },
      ownerSwitchesSinceCheckpoint: { N: '1' },
      checkpoint: { S: 'TRIM_HORIZON' },
      checkpointSubSequenceNumber: { N: '0' },
      parentShardId: { SS: ['shardId-000000000000', 'shardId-000000000001'] },
      startingHashKey: { S: '0' },
      endingHashKey: { S: MAX_HASH_KEY.toString() },
      entityType: { S: 'LEASE' },
    });
  });

  it('passes over rows that are no leases and keeps attributes it does not know', async () => {
    const store = dynamoDbStore('kcl-mixed');
    await store.prepare(new AbortController().signal);
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
    const leases = await store.list();
    expect(leases).toHaveLength(1);
    const lease = (await store.take(leases[0] as Lease, 'a')) as Lease;
    await store.checkpoint(lease, 'a', progressAt(at('9')));
    const { Item } = await client.send(
      new GetItemCommand({ TableName: 'kcl-mixed', Key: { leaseKey: { S: lease.leaseKey } } }),
    );
    expect(Item).toMatchObject({ somethingNew: { S: 'kept' }, checkpoint: { S: '9' } });
    // Any checkpoint discards a pending one.
    expect(Item).not.toHaveProperty('pendingCheckpoint');
  });

  it('refuses a table that is no lease table, naming both keys', async () => {
    const { CreateTableCommand } = await import('@aws-sdk/client-dynamodb');
    await client.send(
      new CreateTableCommand({
        TableName: 'other-table',
        KeySchema: [{ AttributeName: 'id', KeyType: 'HASH' }],
        AttributeDefinitions: [{ AttributeName: 'id', AttributeType: 'S' }],
        BillingMode: 'PAY_PER_REQUEST',
      }),
    );
    await expect(
      dynamoDbStore('other-table').prepare(new AbortController().signal),
    ).rejects.toMatchObject({
      code: 'LEASE_TABLE_INVALID',
      value: 'id HASH',
      limit: 'leaseKey HASH',
    });
  });

  it('lets many workers prepare at once', async () => {
    const stores = Array.from({ length: 5 }, () => dynamoDbStore('raced-for'));
    await Promise.all(stores.map((store) => store.prepare(new AbortController().signal)));
    expect(await stores[0]?.list()).toEqual([]);
  });
});
