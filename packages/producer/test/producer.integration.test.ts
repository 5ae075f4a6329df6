import { KinesisClient, SplitShardCommand } from '@aws-sdk/client-kinesis';
import { type Local, startLocal } from '@shardline/local';
import { Producer, type ProducerOptions } from '@shardline/producer';
import { decodeRecords } from '@shardline/shared';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

/** The real SDK client over a real socket. */
describe('Producer against a local Kinesis', () => {
  let local: Local;
  let producer: Producer;
  /** User records in the order in which they were stored, with the shard. */
  let stored: { readonly key: string; readonly data: string; readonly shardId: string }[];

  const make = (options: Partial<ProducerOptions> = {}): Producer => {
    producer = new Producer({ streamName: 'orders', clientConfig: local.kinesis, ...options });
    return producer;
  };

  beforeEach(async () => {
    local = await startLocal({ streams: [{ name: 'orders', shards: 4 }] });
    stored = [];
    local.engine.onStored(({ record, shardId }) => {
      for (const { partitionKey = '', data } of decodeRecords([record])) {
        stored.push({ key: partitionKey, data: data.toString(), shardId });
      }
    });
  });

  afterEach(async () => {
    await producer.close({ timeoutMs: 1_000 });
    await local.close();
  });

  const put = (count: number) =>
    Promise.all(
      Array.from({ length: count }, (_, index) =>
        producer.put({ partitionKey: `key-${index}`, data: `data-${index}` }),
      ),
    );

  it.each(['none', 'brotli'] as const)(
    'stores what is put, with compression %s',
    async (compression) => {
      make({ compression });
      const receipts = await put(2_000);
      expect(new Set(stored.map(({ key }) => key)).size).toBe(2_000);
      expect(stored).toHaveLength(2_000);
      const byKey = new Map(stored.map((record) => [record.key, record.shardId]));
      receipts.forEach(({ shardId }, index) => expect(byKey.get(`key-${index}`)).toBe(shardId));
      expect(producer.stats().kinesisRecords).toBeLessThan(50);
    },
  );

  it('addresses the stream by its ARN', async () => {
    producer = new Producer({
      streamArn: local.engine.streamArn('orders'),
      clientConfig: local.kinesis,
    });
    expect(await producer.put({ partitionKey: 'k', data: 'x' })).toMatchObject({
      sequenceNumber: expect.stringMatching(/^\d{56}$/) as string,
    });
  });

  it('gets through throttling, refused records, failed requests and cut connections without loss', async () => {
    make({ recordTtlMs: 60_000 });
    await put(10);
    for (const fault of [
      { kind: 'rejectRecords', errorCode: 'InternalFailure', ratio: 1 },
      { kind: 'error', name: 'ServiceUnavailable', status: 503 },
      { kind: 'error', name: 'ProvisionedThroughputExceededException' },
      { kind: 'drop' },
      { kind: 'rejectRecords', errorCode: 'ProvisionedThroughputExceededException', ratio: 1 },
    ] as const) {
      local.faults.inject({ operation: 'PutRecords', fault });
    }
    await put(500);
    expect(stored).toHaveLength(510);
    expect(producer.stats()).toMatchObject({
      failedRequests: 3,
      userRecordsDelivered: 510,
      userRecordsFailed: 0,
    });
  });

  it('gets through answers that are late, cut short or wrong about what was stored', async () => {
    make({ requestTimeoutMs: 300 });
    await put(1);
    for (const fault of [
      { kind: 'errorAfter', name: 'InternalFailure', status: 500 },
      { kind: 'truncate' },
      { kind: 'delay', delayMs: 1_000 },
    ] as const) {
      local.faults.inject({ operation: 'PutRecords', fault });
      await put(20);
    }
    const connections = setInterval(() => local.cutConnections(), 20);
    for (let round = 0; round < 5; round += 1) await put(50);
    clearInterval(connections);
    const keys = new Set(stored.map(({ key }) => key));
    expect(keys.size).toBe(50);
    expect(producer.stats()).toMatchObject({ userRecordsDelivered: 311, userRecordsFailed: 0 });
  });

  it('stores a record twice, and no more, if the answer to the first was lost', async () => {
    make();
    await put(1);
    local.faults.inject({ operation: 'PutRecords', fault: { kind: 'dropAfter' } });
    expect((await producer.put({ partitionKey: 'k', data: 'x' })).attempts).toHaveLength(2);
    expect(stored.filter(({ key }) => key === 'k')).toHaveLength(2);
  });

  it('follows a split while records flow', async () => {
    make();
    await put(100);
    const client = new KinesisClient(local.kinesis);
    await client.send(
      new SplitShardCommand({
        StreamName: 'orders',
        ShardToSplit: 'shardId-000000000000',
        NewStartingHashKey: (2n ** 125n).toString(),
      }),
    );
    client.destroy();
    await put(100);
    await put(100);
    expect(producer.stats().openShards).toBe(5);
    // What was sent to the parent landed on a child and was sent again; all later records go straight.
    const children = stored.filter(({ shardId }) => shardId >= 'shardId-000000000004');
    expect(children.length).toBeGreaterThan(0);
  });

  it('reports a missing stream by a typed error', async () => {
    make({ streamName: 'nowhere' });
    await expect(producer.put({ partitionKey: 'k', data: 'x' })).rejects.toMatchObject({
      code: 'STREAM_NOT_FOUND',
      value: 'ResourceNotFoundException',
    });
  });

  it('reports refused credentials by a typed error, and asks again for the next record', async () => {
    make();
    local.faults.inject({
      operation: 'ListShards',
      fault: { kind: 'error', name: 'UnrecognizedClientException' },
    });
    await expect(producer.put({ partitionKey: 'k', data: 'x' })).rejects.toMatchObject({
      code: 'ACCESS_DENIED',
      value: 'UnrecognizedClientException',
    });
    await producer.put({ partitionKey: 'k', data: 'x' });
  });

  it('writes without the right to describe the stream', async () => {
    make();
    local.faults.inject({
      operation: 'DescribeStreamSummary',
      fault: { kind: 'error', name: 'AccessDeniedException' },
    });
    await put(3);
    expect(stored).toHaveLength(3);
  });
});
