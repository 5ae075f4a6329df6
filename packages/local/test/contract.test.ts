import { randomUUID } from 'node:crypto';

import {
  AddTagsToStreamCommand,
  DecreaseStreamRetentionPeriodCommand,
  DeleteResourcePolicyCommand,
  DescribeAccountSettingsCommand,
  DescribeLimitsCommand,
  DisableEnhancedMonitoringCommand,
  EnableEnhancedMonitoringCommand,
  GetResourcePolicyCommand,
  IncreaseStreamRetentionPeriodCommand,
  ListTagsForResourceCommand,
  ListTagsForStreamCommand,
  PutResourcePolicyCommand,
  RemoveTagsFromStreamCommand,
  StartStreamEncryptionCommand,
  StopStreamEncryptionCommand,
  TagResourceCommand,
  UntagResourceCommand,
  UpdateMaxRecordSizeCommand,
  UpdateStreamModeCommand,
  CreateStreamCommand,
  DeleteStreamCommand,
  DeregisterStreamConsumerCommand,
  DescribeStreamCommand,
  DescribeStreamConsumerCommand,
  DescribeStreamSummaryCommand,
  GetRecordsCommand,
  GetShardIteratorCommand,
  KinesisClient,
  ListShardsCommand,
  ListStreamConsumersCommand,
  ListStreamsCommand,
  type ListStreamsCommandOutput,
  MergeShardsCommand,
  PutRecordCommand,
  PutRecordsCommand,
  RegisterStreamConsumerCommand,
  SplitShardCommand,
  SubscribeToShardCommand,
  type SubscribeToShardEvent,
  UpdateShardCountCommand,
} from '@aws-sdk/client-kinesis';
import { type Local, startLocal } from '@shardline/local';
import { hashKeyOf } from '@shardline/shared';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const MAX_HASH_KEY = (2n ** 128n - 1n).toString();

/**
 * What any Kinesis must do, by the SDK's client alone. Runs against `@shardline/local`, or against
 * another endpoint: set SHARDLINE_CONTRACT_ENDPOINT (such as https://kinesis.eu-west-1.amazonaws.com)
 * and the SDK's own variables for region and credentials. It creates streams and deletes them.
 */
const endpoint = process.env['SHARDLINE_CONTRACT_ENDPOINT'];
const region = process.env['AWS_REGION'] ?? 'us-east-1';

/** Over HTTP/2 and over HTTP/1.1: both must see the same service. */
describe.each([
  ['HTTP/2, a connection a call', undefined],
  ['HTTP/1.1 keep-alive', () => new NodeHttpHandler()],
])('Kinesis through the SDK over %s', (_, handler) => {
  let local: Local | undefined;
  let client: KinesisClient;
  let streamName: string;
  let streamArn: string;
  let created: string[];

  beforeEach(async () => {
    local = endpoint === undefined ? await startLocal() : undefined;
    client = new KinesisClient({
      ...(local ? local.kinesis : { endpoint: endpoint ?? '', region }),
      maxAttempts: 1,
      ...(handler && { requestHandler: handler() }),
    });
    created = [];
    streamName = await createStream(2);
    const { StreamDescriptionSummary } = await client.send(
      new DescribeStreamSummaryCommand({ StreamName: streamName }),
    );
    streamArn = StreamDescriptionSummary?.StreamARN ?? '';
  });

  afterEach(async () => {
    for (const StreamName of created) {
      await client
        .send(new DeleteStreamCommand({ StreamName, EnforceConsumerDeletion: true }))
        .catch(() => {});
    }
    client.destroy();
    await local?.close();
  });

  const active = async (name = streamName): Promise<void> => {
    for (;;) {
      const { StreamDescriptionSummary: summary } = await client.send(
        new DescribeStreamSummaryCommand({ StreamName: name }),
      );
      if (summary?.StreamStatus === 'ACTIVE') return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };

  const createStream = async (shards: number): Promise<string> => {
    const name = `contract-${randomUUID()}`;
    created.push(name);
    await client.send(new CreateStreamCommand({ StreamName: name, ShardCount: shards }));
    await active(name);
    return name;
  };

  const put = (key: string, data = `data of ${key}`, hashKey?: string) =>
    client.send(
      new PutRecordCommand({
        StreamName: streamName,
        PartitionKey: key,
        Data: Buffer.from(data),
        ...(hashKey !== undefined && { ExplicitHashKey: hashKey }),
      }),
    );

  const iterator = async (shardId: string, type: string, more: object = {}): Promise<string> => {
    const answer = await client.send(
      new GetShardIteratorCommand({
        StreamName: streamName,
        ShardId: shardId,
        ShardIteratorType: type as 'LATEST',
        ...more,
      }),
    );
    return answer.ShardIterator ?? '';
  };

  const read = async (shardIterator: string): Promise<string[]> => {
    const answer = await client.send(new GetRecordsCommand({ ShardIterator: shardIterator }));
    return (answer.Records ?? []).map((record) => Buffer.from(record.Data ?? []).toString());
  };

  it('creates, describes, lists and deletes streams', async () => {
    const other = await createStream(3);
    const names: string[] = [];
    let NextToken: string | undefined;
    do {
      const page: ListStreamsCommandOutput = await client.send(
        new ListStreamsCommand({ Limit: 100, NextToken }),
      );
      names.push(...(page.StreamNames ?? []));
      NextToken = page.NextToken;
    } while (NextToken !== undefined);
    expect(names).toEqual(expect.arrayContaining([streamName, other]));
    const { StreamDescription: stream } = await client.send(
      new DescribeStreamCommand({ StreamName: other, Limit: 2 }),
    );
    expect(stream).toMatchObject({
      StreamStatus: 'ACTIVE',
      HasMoreShards: true,
      RetentionPeriodHours: 24,
    });
    expect(stream?.Shards).toHaveLength(2);
    const { StreamDescriptionSummary: summary } = await client.send(
      new DescribeStreamSummaryCommand({ StreamARN: stream?.StreamARN }),
    );
    expect(summary).toMatchObject({
      StreamName: other,
      OpenShardCount: 3,
      MaxRecordSizeInKiB: 1024,
    });
    await client.send(new DeleteStreamCommand({ StreamName: other }));
    await expect(
      client.send(new CreateStreamCommand({ StreamName: streamName, ShardCount: 1 })),
    ).rejects.toMatchObject({ name: 'ResourceInUseException', $metadata: { httpStatusCode: 400 } });
  });

  it('covers all hash keys with equal ranges', async () => {
    const { Shards } = await client.send(new ListShardsCommand({ StreamName: streamName }));
    expect(Shards?.map((shard) => [shard.ShardId, shard.HashKeyRange])).toEqual([
      [
        'shardId-000000000000',
        { StartingHashKey: '0', EndingHashKey: '170141183460469231731687303715884105727' },
      ],
      [
        'shardId-000000000001',
        { StartingHashKey: '170141183460469231731687303715884105728', EndingHashKey: MAX_HASH_KEY },
      ],
    ]);
  });

  it('routes by the MD5 of the key, or by the explicit hash key', async () => {
    for (const key of ['a', 'pk1', '7', 'é€😀']) {
      const { ShardId } = await put(key);
      expect(ShardId).toBe(
        hashKeyOf(key) < 2n ** 127n ? 'shardId-000000000000' : 'shardId-000000000001',
      );
    }
    expect((await put('a', 'x', MAX_HASH_KEY)).ShardId).toBe('shardId-000000000001');
    expect((await put('pk1', 'x', '0')).ShardId).toBe('shardId-000000000000');
  });

  it('gives back records in order, by every type of iterator', async () => {
    const sequence: string[] = [];
    for (const data of ['one', 'two', 'three']) {
      sequence.push((await put('k', data, '0')).SequenceNumber ?? '');
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
    expect([...sequence].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1))).toEqual(sequence);
    const shard = 'shardId-000000000000';
    const { Records: all } = await client.send(
      new GetRecordsCommand({ ShardIterator: await iterator(shard, 'TRIM_HORIZON') }),
    );
    expect(all?.map(({ Data }) => Buffer.from(Data ?? []).toString())).toEqual([
      'one',
      'two',
      'three',
    ]);
    const Timestamp = all?.[2]?.ApproximateArrivalTimestamp;
    expect(await read(await iterator(shard, 'LATEST'))).toEqual([]);
    const at = { StartingSequenceNumber: sequence[1] };
    expect(await read(await iterator(shard, 'AT_SEQUENCE_NUMBER', at))).toEqual(['two', 'three']);
    expect(await read(await iterator(shard, 'AFTER_SEQUENCE_NUMBER', at))).toEqual(['three']);
    expect(await read(await iterator(shard, 'AT_TIMESTAMP', { Timestamp }))).toEqual(['three']);
  });

  it('answers PutRecords record by record, in order', async () => {
    const answer = await client.send(
      new PutRecordsCommand({
        StreamName: streamName,
        Records: ['0', MAX_HASH_KEY, '5'].map((hashKey) => ({
          PartitionKey: 'k',
          ExplicitHashKey: hashKey,
          Data: Buffer.alloc(1000, 7),
        })),
      }),
    );
    expect(answer.FailedRecordCount).toBe(0);
    expect(answer.Records?.map((record) => record.ShardId?.at(-1))).toEqual(['0', '1', '0']);
  });

  it('splits and merges with lineage, and ends closed shards with their children', async () => {
    await put('k', 'before', '0');
    await client.send(
      new SplitShardCommand({
        StreamName: streamName,
        ShardToSplit: 'shardId-000000000000',
        NewStartingHashKey: '1000',
      }),
    );
    await active();
    await client.send(
      new MergeShardsCommand({
        StreamName: streamName,
        ShardToMerge: 'shardId-000000000003',
        AdjacentShardToMerge: 'shardId-000000000001',
      }),
    );
    await active();
    const { Shards } = await client.send(new ListShardsCommand({ StreamName: streamName }));
    expect(Shards?.[0]?.SequenceNumberRange?.EndingSequenceNumber).toBeDefined();
    expect(Shards?.[4]).toMatchObject({
      ShardId: 'shardId-000000000004',
      ParentShardId: 'shardId-000000000003',
      AdjacentParentShardId: 'shardId-000000000001',
      HashKeyRange: { StartingHashKey: '1000', EndingHashKey: MAX_HASH_KEY },
    });
    const end = await client.send(
      new GetRecordsCommand({
        ShardIterator: await iterator('shardId-000000000000', 'TRIM_HORIZON'),
      }),
    );
    expect(end.Records).toHaveLength(1);
    expect(end.NextShardIterator).toBeUndefined();
    expect(end.ChildShards?.map((child) => [child.ShardId, child.ParentShards])).toEqual([
      ['shardId-000000000002', ['shardId-000000000000']],
      ['shardId-000000000003', ['shardId-000000000000']],
    ]);
    expect((await put('k', 'after', '0')).ShardId).toBe('shardId-000000000002');
  });

  it('changes the number of shards', async () => {
    await client.send(
      new UpdateShardCountCommand({
        StreamName: streamName,
        TargetShardCount: 4,
        ScalingType: 'UNIFORM_SCALING',
      }),
    );
    await active();
    await client.send(
      new UpdateShardCountCommand({
        StreamName: streamName,
        TargetShardCount: 3,
        ScalingType: 'UNIFORM_SCALING',
      }),
    );
    await active();
    const { Shards } = await client.send(
      new ListShardsCommand({ StreamName: streamName, ShardFilter: { Type: 'AT_LATEST' } }),
    );
    expect(Shards).toHaveLength(3);
    await expect(
      client.send(
        new UpdateShardCountCommand({
          StreamName: streamName,
          TargetShardCount: 7,
          ScalingType: 'UNIFORM_SCALING',
        }),
      ),
    ).rejects.toMatchObject({ name: 'InvalidArgumentException' });
  });

  it('filters ListShards and pages through it', async () => {
    const before = new Date();
    await new Promise((resolve) => setTimeout(resolve, 5));
    await client.send(
      new SplitShardCommand({
        StreamName: streamName,
        ShardToSplit: 'shardId-000000000000',
        NewStartingHashKey: '1000',
      }),
    );
    await active();
    const ids = async (filter: object): Promise<(string | undefined)[]> => {
      const answer = await client.send(
        new ListShardsCommand({
          StreamName: streamName,
          ShardFilter: filter as { Type: 'AT_LATEST' },
        }),
      );
      return (answer.Shards ?? []).map((shard) => shard.ShardId?.at(-1));
    };
    expect(await ids({ Type: 'AT_LATEST' })).toEqual(['1', '2', '3']);
    expect(await ids({ Type: 'AT_TRIM_HORIZON' })).toEqual(['0', '1']);
    expect(await ids({ Type: 'FROM_TRIM_HORIZON' })).toEqual(['0', '1', '2', '3']);
    expect(await ids({ Type: 'AT_TIMESTAMP', Timestamp: before })).toEqual(['0', '1']);
    expect(await ids({ Type: 'FROM_TIMESTAMP', Timestamp: new Date() })).toEqual(['1', '2', '3']);
    expect(await ids({ Type: 'AFTER_SHARD_ID', ShardId: 'shardId-000000000001' })).toEqual([
      '2',
      '3',
    ]);
    const first = await client.send(
      new ListShardsCommand({ StreamName: streamName, MaxResults: 3 }),
    );
    const second = await client.send(new ListShardsCommand({ NextToken: first.NextToken }));
    expect([first.Shards?.length, second.Shards?.length, second.NextToken]).toEqual([
      3,
      1,
      undefined,
    ]);
  });

  it('registers, describes, lists and removes consumers', async () => {
    const StreamARN = streamArn;
    const { Consumer } = await client.send(
      new RegisterStreamConsumerCommand({ StreamARN, ConsumerName: 'app' }),
    );
    expect(Consumer?.ConsumerARN).toMatch(/\/consumer\/app:\d+$/);
    let status: string | undefined;
    while (status !== 'ACTIVE') {
      const { ConsumerDescription } = await client.send(
        new DescribeStreamConsumerCommand({ StreamARN, ConsumerName: 'app' }),
      );
      status = ConsumerDescription?.ConsumerStatus;
      expect(ConsumerDescription).toMatchObject({ StreamARN });
      if (status !== 'ACTIVE') await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await expect(
      client.send(new RegisterStreamConsumerCommand({ StreamARN, ConsumerName: 'app' })),
    ).rejects.toMatchObject({ name: 'ResourceInUseException' });
    await expect(
      client.send(new DeleteStreamCommand({ StreamName: streamName })),
    ).rejects.toMatchObject({ name: 'ResourceInUseException' });
    await client.send(new DeregisterStreamConsumerCommand({ ConsumerARN: Consumer?.ConsumerARN }));
    const { Consumers } = await client.send(new ListStreamConsumersCommand({ StreamARN }));
    // It may be listed until it is gone.
    expect(Consumers?.filter(({ ConsumerStatus }) => ConsumerStatus !== 'DELETING')).toEqual([]);
  });

  it.each([
    ['an unknown stream', { StreamName: 'none' }, 'ResourceNotFoundException'],
    ['no stream', {}, 'InvalidArgumentException'],
    ['a bad name', { StreamName: 'no spaces' }, 'ValidationException'],
  ])('refuses %s', async (_case, input, name) => {
    const command = new PutRecordCommand({ ...input, PartitionKey: 'k', Data: Buffer.alloc(1) });
    await expect(client.send(command)).rejects.toMatchObject({ name });
  });

  it('refuses records and keys that are too long, empty or out of range, naming the field', async () => {
    await expect(put('k', 'x'.repeat(1_048_576))).rejects.toMatchObject({
      name: 'ValidationException',
      message: expect.stringContaining("at 'data'") as string,
    });
    await expect(put('')).rejects.toMatchObject({
      message: expect.stringContaining("at 'partitionKey'") as string,
    });
    await expect(put('k'.repeat(257))).rejects.toMatchObject({ name: 'ValidationException' });
    await expect(put('😀'.repeat(256))).resolves.toMatchObject({
      ShardId: expect.any(String) as string,
    });
    await expect(put('k', 'x', (2n ** 128n).toString())).rejects.toMatchObject({
      name: 'InvalidArgumentException',
    });
    await expect(put('k', 'x', '007')).rejects.toMatchObject({ name: 'ValidationException' });
  });

  it('refuses foreign iterators and sequence numbers of other shards', async () => {
    await expect(
      client.send(new GetRecordsCommand({ ShardIterator: 'bm9uc2Vuc2U=' })),
    ).rejects.toMatchObject({
      name: 'InvalidArgumentException',
      message: 'Invalid ShardIterator.',
    });
    const { SequenceNumber } = await put('k', 'x', '0');
    await expect(
      iterator('shardId-000000000001', 'AT_SEQUENCE_NUMBER', {
        StartingSequenceNumber: SequenceNumber,
      }),
    ).rejects.toMatchObject({
      name: 'InvalidArgumentException',
      message: expect.stringContaining('It encodes shardId-000000000000') as string,
    });
  });

  describe('SubscribeToShard', () => {
    const subscribe = async (shardId: string, type: 'TRIM_HORIZON' | 'LATEST' = 'TRIM_HORIZON') => {
      const StreamARN = streamArn;
      const { Consumer } = await client.send(
        new RegisterStreamConsumerCommand({ StreamARN, ConsumerName: `app-${shardId}-${type}` }),
      );
      const controller = new AbortController();
      const answer = await client.send(
        new SubscribeToShardCommand({
          ConsumerARN: Consumer?.ConsumerARN,
          ShardId: shardId,
          StartingPosition: { Type: type },
        }),
        { abortSignal: controller.signal },
      );
      const events = (async function* (): AsyncGenerator<SubscribeToShardEvent> {
        for await (const event of answer.EventStream ?? []) {
          if (event.SubscribeToShardEvent) yield event.SubscribeToShardEvent;
        }
      })();
      const next = async (): Promise<SubscribeToShardEvent | undefined> => {
        const result = await events.next();
        return result.done ? undefined : result.value;
      };
      return { next, controller, consumerArn: Consumer?.ConsumerARN };
    };

    it('pushes what is there and what comes, with a continuation to resume at', async () => {
      await put('k', 'one', '0');
      const { next, controller } = await subscribe('shardId-000000000000');
      const first = await next();
      expect(first?.Records?.map((record) => Buffer.from(record.Data ?? []).toString())).toEqual([
        'one',
      ]);
      const { SequenceNumber } = await put('k', 'two', '0');
      expect(await next()).toMatchObject({
        ContinuationSequenceNumber: SequenceNumber,
        MillisBehindLatest: 0,
      });
      controller.abort();
    });

    it('gives children and no continuation at the end of the shard, and ends', async () => {
      await put('k', 'last', '0');
      const { next } = await subscribe('shardId-000000000000');
      await next();
      await client.send(
        new SplitShardCommand({
          StreamName: streamName,
          ShardToSplit: 'shardId-000000000000',
          NewStartingHashKey: '9',
        }),
      );
      const end = await next();
      expect(end?.ContinuationSequenceNumber).toBeUndefined();
      expect(end?.ChildShards?.map((child) => child.ShardId)).toEqual([
        'shardId-000000000002',
        'shardId-000000000003',
      ]);
      expect(await next()).toBeUndefined();
    });

    it('refuses a second subscription within 5 s of the first', async () => {
      const { consumerArn, controller } = await subscribe('shardId-000000000001', 'LATEST');
      await expect(
        client.send(
          new SubscribeToShardCommand({
            ConsumerARN: consumerArn,
            ShardId: 'shardId-000000000001',
            StartingPosition: { Type: 'LATEST' },
          }),
        ),
      ).rejects.toMatchObject({ name: 'ResourceInUseException' });
      controller.abort();
    });
  });

  it('throttles a shard record by record within PutRecords', async () => {
    const records = (count: number) =>
      client.send(
        new PutRecordsCommand({
          StreamName: streamName,
          Records: Array.from({ length: count }, () => ({
            PartitionKey: 'k',
            ExplicitHashKey: '0',
            Data: Buffer.alloc(10),
          })),
        }),
      );
    await records(500);
    await records(500);
    const third = await records(500);
    expect(third.FailedRecordCount).toBeGreaterThan(0);
    const failed = third.Records?.filter((record) => record.ErrorCode !== undefined) ?? [];
    expect(failed).toHaveLength(third.FailedRecordCount ?? 0);
    expect(failed[0]?.ErrorCode).toBe('ProvisionedThroughputExceededException');
  });

  it('allows five GetRecords a second', async () => {
    const shardIterator = await iterator('shardId-000000000000', 'LATEST');
    const calls = await Promise.allSettled(Array.from({ length: 8 }, () => read(shardIterator)));
    const throttled = calls.filter((call) => call.status === 'rejected');
    expect(throttled.length).toBeGreaterThanOrEqual(2);
    expect(throttled[0]).toMatchObject({
      reason: { name: 'ProvisionedThroughputExceededException' },
    });
  });

  it('keeps tags of streams and consumers, and policies', async () => {
    await client.send(
      new AddTagsToStreamCommand({ StreamName: streamName, Tags: { team: 'billing', tier: '1' } }),
    );
    await client.send(
      new RemoveTagsFromStreamCommand({ StreamName: streamName, TagKeys: ['tier'] }),
    );
    const tags = await client.send(new ListTagsForStreamCommand({ StreamName: streamName }));
    expect(tags).toMatchObject({ Tags: [{ Key: 'team', Value: 'billing' }], HasMoreTags: false });
    const resource = { ResourceARN: streamArn };
    await client.send(new TagResourceCommand({ ...resource, Tags: { owner: 'me' } }));
    await client.send(new UntagResourceCommand({ ...resource, TagKeys: ['team'] }));
    const { Tags } = await client.send(new ListTagsForResourceCommand(resource));
    expect(Tags).toEqual([{ Key: 'owner', Value: 'me' }]);
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: [] });
    await client.send(new PutResourcePolicyCommand({ ...resource, Policy }));
    expect((await client.send(new GetResourcePolicyCommand(resource))).Policy).toBe(Policy);
    await client.send(new DeleteResourcePolicyCommand(resource));
  });

  it('keeps retention, monitoring, encryption and the record size', async () => {
    await client.send(
      new IncreaseStreamRetentionPeriodCommand({
        StreamName: streamName,
        RetentionPeriodHours: 48,
      }),
    );
    await active();
    await expect(
      client.send(
        new IncreaseStreamRetentionPeriodCommand({
          StreamName: streamName,
          RetentionPeriodHours: 24,
        }),
      ),
    ).rejects.toMatchObject({ name: 'InvalidArgumentException' });
    await client.send(
      new DecreaseStreamRetentionPeriodCommand({
        StreamName: streamName,
        RetentionPeriodHours: 24,
      }),
    );
    await active();
    const monitoring = await client.send(
      new EnableEnhancedMonitoringCommand({
        StreamName: streamName,
        ShardLevelMetrics: ['IncomingBytes', 'OutgoingBytes'],
      }),
    );
    expect(monitoring.DesiredShardLevelMetrics).toHaveLength(2);
    await active();
    const less = await client.send(
      new DisableEnhancedMonitoringCommand({
        StreamName: streamName,
        ShardLevelMetrics: ['IncomingBytes'],
      }),
    );
    expect(less.DesiredShardLevelMetrics).toEqual(['OutgoingBytes']);
    await active();
    await client.send(
      new UpdateMaxRecordSizeCommand({ StreamARN: streamArn, MaxRecordSizeInKiB: 2048 }),
    );
    await active();
    await client.send(
      new StartStreamEncryptionCommand({
        StreamName: streamName,
        EncryptionType: 'KMS',
        KeyId: 'alias/aws/kinesis',
      }),
    );
    await active();
    expect((await put('k')).EncryptionType).toBe('KMS');
    const { StreamDescriptionSummary: summary } = await client.send(
      new DescribeStreamSummaryCommand({ StreamName: streamName }),
    );
    expect(summary).toMatchObject({
      EncryptionType: 'KMS',
      KeyId: 'alias/aws/kinesis',
      MaxRecordSizeInKiB: 2048,
    });
    await client.send(
      new StopStreamEncryptionCommand({
        StreamName: streamName,
        EncryptionType: 'KMS',
        KeyId: 'alias/aws/kinesis',
      }),
    );
    await active();
    expect((await put('k')).EncryptionType ?? 'NONE').toBe('NONE');
  });

  it('switches to on-demand, which then cannot be resharded by hand', async () => {
    await client.send(
      new UpdateStreamModeCommand({
        StreamARN: streamArn,
        StreamModeDetails: { StreamMode: 'ON_DEMAND' },
      }),
    );
    await active();
    await expect(
      client.send(
        new SplitShardCommand({
          StreamName: streamName,
          ShardToSplit: 'shardId-000000000000',
          NewStartingHashKey: '1000',
        }),
      ),
    ).rejects.toMatchObject({ name: 'ValidationException' });
  });

  it('tells its limits and settings', async () => {
    const limits = await client.send(new DescribeLimitsCommand({}));
    expect(limits.OpenShardCount).toBeGreaterThanOrEqual(2);
    expect(limits.ShardLimit).toBeGreaterThan(0);
    await client.send(new DescribeAccountSettingsCommand({}));
  });

  it('rehearses a write without writing', async () => {
    await expect(
      client.send(
        new PutRecordCommand({
          StreamName: streamName,
          PartitionKey: 'k',
          Data: Buffer.alloc(1),
          DryRun: true,
        }),
      ),
    ).rejects.toMatchObject({ name: 'DryRunOperationException' });
    expect(await read(await iterator('shardId-000000000000', 'TRIM_HORIZON'))).toEqual([]);
  });
});
