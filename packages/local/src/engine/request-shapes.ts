/** What the service's model says about one value. */
export type Constraint =
  | {
      readonly type: 'string';
      readonly max?: number;
      readonly pattern?: string;
      readonly values?: readonly string[];
    }
  | { readonly type: 'integer'; readonly min: number; readonly max: number }
  | { readonly type: 'blob'; readonly max: number }
  | { readonly type: 'timestamp' }
  | { readonly type: 'boolean' }
  | { readonly type: 'map' }
  | {
      readonly type: 'list';
      readonly min: number;
      readonly max: number;
      readonly member: Constraint;
    }
  | { readonly type: 'structure'; readonly members: Readonly<Record<string, Member>> };

export type Member = Constraint & { readonly required?: true };

const name = { type: 'string', max: 128, pattern: '[a-zA-Z0-9_.-]+' } as const;
const streamArn = {
  type: 'string',
  max: 2048,
  pattern: 'arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+',
} as const;
const consumerArn = {
  type: 'string',
  max: 2048,
  pattern:
    '^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+',
} as const;
const stream = { StreamName: name, StreamARN: streamArn } as const;
const hashKey = { type: 'string', pattern: '0|([1-9]\\d{0,38})' } as const;
const sequenceNumber = { type: 'string', pattern: '0|([1-9]\\d{0,128})' } as const;
const partitionKey = { type: 'string', max: 256 } as const;
const data = { type: 'blob', max: 10_485_760, required: true } as const;
const timestamp = { type: 'timestamp' } as const;
const token = { type: 'string', max: 1_048_576 } as const;
const page = { type: 'integer', min: 1, max: 10_000 } as const;
const iteratorTypes = {
  type: 'string',
  values: ['AFTER_SEQUENCE_NUMBER', 'LATEST', 'AT_TIMESTAMP', 'AT_SEQUENCE_NUMBER', 'TRIM_HORIZON'],
  required: true,
} as const;
const mode = {
  type: 'structure',
  members: { StreamMode: { type: 'string', values: ['PROVISIONED', 'ON_DEMAND'], required: true } },
} as const;

const hours = { type: 'integer', min: -(2 ** 31), max: 2 ** 31 - 1 } as const;
const throughput = { type: 'integer', min: 0, max: 10_240 } as const;
const recordKiB = { type: 'integer', min: 1024, max: 10_240 } as const;
const distribution = { type: 'string', values: ['AUTO', 'USER_PARTITION_KEY'] } as const;
const encryption = { type: 'string', values: ['NONE', 'KMS'], required: true } as const;
const keyId = { type: 'string', max: 2048, required: true } as const;
/** Metrics of single shards. */
export const SHARD_LEVEL_METRICS = [
  'IncomingBytes',
  'IncomingRecords',
  'OutgoingBytes',
  'OutgoingRecords',
  'WriteProvisionedThroughputExceeded',
  'ReadProvisionedThroughputExceeded',
  'IteratorAgeMilliseconds',
];

const metrics = {
  type: 'list',
  min: 1,
  max: 7,
  required: true,
  member: {
    type: 'string',
    values: [...SHARD_LEVEL_METRICS, 'ALL'],
  },
} as const;
const tagKeys = {
  type: 'list',
  min: 1,
  max: 50,
  required: true,
  member: { type: 'string', max: 128 },
} as const;
const resourceArn = {
  type: 'string',
  max: 2048,
  pattern: 'arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+',
  required: true,
} as const;
const channelArn = { type: 'string', max: 2048, required: true } as const;

/** The members of each operation's request, with the constraints of the service's model. */
export const REQUESTS: Readonly<Record<string, Readonly<Record<string, Member>>>> = {
  CreateStream: {
    StreamName: { ...name, required: true },
    ShardCount: { type: 'integer', min: 1, max: 100_000 },
    StreamModeDetails: mode,
    Tags: { type: 'map' },
    MaxRecordSizeInKiB: recordKiB,
    RecordDistributionStrategy: distribution,
    WarmThroughputMiBps: throughput,
  },
  DeleteStream: { ...stream, EnforceConsumerDeletion: { type: 'boolean' } },
  DescribeStream: { ...stream, Limit: page, ExclusiveStartShardId: name },
  DescribeStreamSummary: stream,
  ListStreams: { Limit: page, ExclusiveStartStreamName: name, NextToken: token },
  ListShards: {
    ...stream,
    NextToken: token,
    ExclusiveStartShardId: name,
    MaxResults: page,
    StreamCreationTimestamp: timestamp,
    ShardFilter: {
      type: 'structure',
      members: {
        Type: {
          type: 'string',
          values: [
            'AFTER_SHARD_ID',
            'AT_TRIM_HORIZON',
            'FROM_TRIM_HORIZON',
            'AT_LATEST',
            'AT_TIMESTAMP',
            'FROM_TIMESTAMP',
          ],
          required: true,
        },
        ShardId: name,
        Timestamp: timestamp,
      },
    },
  },
  PutRecord: {
    ...stream,
    DryRun: { type: 'boolean' },
    Data: data,
    PartitionKey: partitionKey,
    ExplicitHashKey: hashKey,
    SequenceNumberForOrdering: sequenceNumber,
  },
  PutRecords: {
    ...stream,
    DryRun: { type: 'boolean' },
    Records: {
      type: 'list',
      min: 1,
      max: 500,
      required: true,
      member: {
        type: 'structure',
        members: {
          Data: data,
          PartitionKey: partitionKey,
          ExplicitHashKey: hashKey,
        },
      },
    },
  },
  GetShardIterator: {
    ...stream,
    DryRun: { type: 'boolean' },
    ShardId: { ...name, required: true },
    ShardIteratorType: iteratorTypes,
    StartingSequenceNumber: sequenceNumber,
    Timestamp: timestamp,
  },
  GetRecords: {
    DryRun: { type: 'boolean' },
    StreamARN: streamArn,
    ShardIterator: { type: 'string', max: 512, required: true },
    Limit: { type: 'integer', min: 1, max: 10_000 },
  },
  SplitShard: {
    ...stream,
    ShardToSplit: { ...name, required: true },
    NewStartingHashKey: { ...hashKey, required: true },
  },
  MergeShards: {
    ...stream,
    ShardToMerge: { ...name, required: true },
    AdjacentShardToMerge: { ...name, required: true },
  },
  UpdateShardCount: {
    ...stream,
    TargetShardCount: { type: 'integer', min: 1, max: 100_000, required: true },
    ScalingType: { type: 'string', values: ['UNIFORM_SCALING'], required: true },
  },
  RegisterStreamConsumer: {
    StreamARN: { ...streamArn, required: true },
    ConsumerName: { ...name, required: true },
    Tags: { type: 'map' },
  },
  DescribeStreamConsumer: { StreamARN: streamArn, ConsumerName: name, ConsumerARN: consumerArn },
  DeregisterStreamConsumer: { StreamARN: streamArn, ConsumerName: name, ConsumerARN: consumerArn },
  ListStreamConsumers: {
    StreamARN: { ...streamArn, required: true },
    NextToken: token,
    MaxResults: page,
    StreamCreationTimestamp: timestamp,
  },
  SubscribeToShard: {
    DryRun: { type: 'boolean' },
    ConsumerARN: { ...consumerArn, required: true },
    ShardId: { ...name, required: true },
    StartingPosition: {
      type: 'structure',
      required: true,
      members: { Type: iteratorTypes, SequenceNumber: sequenceNumber, Timestamp: timestamp },
    },
  },
  IncreaseStreamRetentionPeriod: { ...stream, RetentionPeriodHours: { ...hours, required: true } },
  DecreaseStreamRetentionPeriod: { ...stream, RetentionPeriodHours: { ...hours, required: true } },
  UpdateStreamMode: {
    StreamARN: { ...streamArn, required: true },
    StreamModeDetails: { ...mode, required: true },
    WarmThroughputMiBps: throughput,
  },
  UpdateMaxRecordSize: {
    StreamARN: streamArn,
    MaxRecordSizeInKiB: { ...recordKiB, required: true },
  },
  UpdateStreamWarmThroughput: { ...stream, WarmThroughputMiBps: { ...throughput, required: true } },
  UpdateStreamRecordDistributionStrategy: {
    StreamARN: { ...streamArn, required: true },
    RecordDistributionStrategy: { ...distribution, required: true },
  },
  StartStreamEncryption: { ...stream, EncryptionType: encryption, KeyId: keyId },
  StopStreamEncryption: { ...stream, EncryptionType: encryption, KeyId: keyId },
  EnableEnhancedMonitoring: { ...stream, ShardLevelMetrics: metrics },
  DisableEnhancedMonitoring: { ...stream, ShardLevelMetrics: metrics },
  DescribeLimits: {},
  DescribeAccountSettings: {},
  UpdateAccountSettings: {
    MinimumThroughputBillingCommitment: {
      type: 'structure',
      required: true,
      members: { Status: { type: 'string', values: ['ENABLED', 'DISABLED'], required: true } },
    },
  },
  AddTagsToStream: { ...stream, Tags: { type: 'map', required: true } },
  RemoveTagsFromStream: { ...stream, TagKeys: tagKeys },
  ListTagsForStream: {
    ...stream,
    ExclusiveStartTagKey: { type: 'string', max: 128 },
    Limit: { type: 'integer', min: 1, max: 50 },
  },
  TagResource: { ResourceARN: resourceArn, Tags: { type: 'map', required: true } },
  UntagResource: { ResourceARN: resourceArn, TagKeys: tagKeys },
  ListTagsForResource: { ResourceARN: resourceArn },
  PutResourcePolicy: {
    ResourceARN: resourceArn,
    Policy: { type: 'string', max: 20_480, required: true },
  },
  GetResourcePolicy: { ResourceARN: resourceArn },
  DeleteResourcePolicy: { ResourceARN: resourceArn },
  CreateChannel: {
    ChannelName: { ...name, required: true },
    ServiceExecutionRoleARN: { type: 'string', max: 2048, required: true },
    StreamConfigurationList: {
      type: 'list',
      min: 1,
      max: 1,
      required: true,
      member: { type: 'structure', members: { StreamARN: { ...streamArn, required: true } } },
    },
    Tags: { type: 'map' },
  },
  DescribeChannel: { ChannelARN: channelArn },
  UpdateChannel: { ChannelARN: channelArn },
  DeleteChannel: { ChannelARN: channelArn },
  ListChannels: { NextToken: token, MaxResults: page },
};
