/** What the service allows; every number can be changed, and `null` lifts a rate. */
export interface Limits {
  /** Unit: records per second and shard. @defaultValue 1000 */
  readonly writeRecordsPerSecond: number | null;
  /** Data and partition keys. Unit: bytes per second and shard. @defaultValue 1 MiB */
  readonly writeBytesPerSecond: number | null;
  /** GetRecords. Unit: calls per second and shard. @defaultValue 5 */
  readonly readCallsPerSecond: number | null;
  /** GetRecords, shared by all readers; a larger answer blocks the shard for as long as it takes at this rate. Unit: bytes per second and shard. @defaultValue 2 MiB */
  readonly readBytesPerSecond: number | null;
  /** GetShardIterator. Unit: calls per second and shard. @defaultValue 5 */
  readonly iteratorCallsPerSecond: number | null;
  /** Enhanced fan-out. Unit: bytes per second, consumer and shard. @defaultValue 2 MiB */
  readonly fanOutBytesPerSecond: number | null;
  /** All other operations. Unit: calls per second, by operation. @defaultValue the service's */
  readonly callsPerSecond: Readonly<Record<string, number | null>>;
  /** How long after a subscription began another for the same consumer and shard is refused. Unit: milliseconds. @defaultValue 5000 */
  readonly resubscribePauseMs: number;
  /** Life of a subscription. Unit: milliseconds. @defaultValue 300000 */
  readonly subscriptionLifeMs: number;
  /** Life of a shard iterator. Unit: milliseconds. @defaultValue 300000 */
  readonly iteratorLifeMs: number;
  /** Open shards of all provisioned streams. @defaultValue 20000 */
  readonly shardQuota: number;
  /** On-demand streams. @defaultValue 50 */
  readonly onDemandStreamQuota: number;
  /** Fan-out consumers of a stream. @defaultValue 20 */
  readonly consumersPerStream: number;
  /** Streams that may be CREATING at once, and consumers of a stream. @defaultValue 5 */
  readonly creatingAtOnce: number;
  /** UpdateShardCount. Unit: calls per 24 hours and stream. @defaultValue 10 */
  readonly shardCountUpdatesPerDay: number;
}

/** @see https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html */
export const SERVICE_LIMITS: Limits = {
  writeRecordsPerSecond: 1_000,
  writeBytesPerSecond: 2 ** 20,
  readCallsPerSecond: 5,
  readBytesPerSecond: 2 * 2 ** 20,
  iteratorCallsPerSecond: 5,
  fanOutBytesPerSecond: 2 * 2 ** 20,
  callsPerSecond: {
    AddTagsToStream: 5,
    CreateChannel: 5,
    CreateStream: 5,
    DecreaseStreamRetentionPeriod: 5,
    DeleteChannel: 5,
    DeleteResourcePolicy: 5,
    DeleteStream: 5,
    DeregisterStreamConsumer: 5,
    DescribeAccountSettings: 5,
    DescribeChannel: 5,
    DescribeLimits: 1,
    DescribeStream: 10,
    DescribeStreamConsumer: 20,
    DescribeStreamSummary: 20,
    DisableEnhancedMonitoring: 5,
    EnableEnhancedMonitoring: 5,
    GetResourcePolicy: 5,
    IncreaseStreamRetentionPeriod: 5,
    ListChannels: 5,
    ListShards: 1_000,
    ListStreamConsumers: 5,
    ListStreams: 5,
    ListTagsForResource: 5,
    ListTagsForStream: 5,
    MergeShards: 5,
    PutResourcePolicy: 5,
    RegisterStreamConsumer: 5,
    RemoveTagsFromStream: 5,
    SplitShard: 5,
    StartStreamEncryption: 5,
    StopStreamEncryption: 5,
    TagResource: 5,
    UntagResource: 5,
    UpdateAccountSettings: 5,
    UpdateChannel: 5,
    UpdateMaxRecordSize: 5,
    UpdateShardCount: 10,
    UpdateStreamMode: 5,
    UpdateStreamRecordDistributionStrategy: 5,
    UpdateStreamWarmThroughput: 5,
  },
  resubscribePauseMs: 5_000,
  subscriptionLifeMs: 300_000,
  iteratorLifeMs: 300_000,
  shardQuota: 20_000,
  onDemandStreamQuota: 50,
  consumersPerStream: 20,
  creatingAtOnce: 5,
  shardCountUpdatesPerDay: 10,
};

/** No rate is limited; sizes, quotas and the lives of iterators and subscriptions are the service's. */
export const NO_RATE_LIMITS: Limits = {
  ...SERVICE_LIMITS,
  writeRecordsPerSecond: null,
  writeBytesPerSecond: null,
  readCallsPerSecond: null,
  readBytesPerSecond: null,
  iteratorCallsPerSecond: null,
  fanOutBytesPerSecond: null,
  callsPerSecond: {},
};

/** Bytes of records one GetRecords call gives at most. */
export const MAX_READ_BYTES = 10 * 2 ** 20;
/** Records one GetRecords call gives at most. */
export const MAX_READ_RECORDS = 10_000;
/** Data and partition keys of one PutRecords call. */
export const MAX_PUT_BYTES = 10 * 2 ** 20;
