import type { KinesisEngine, Operation, Output } from '../engine.js';
import { inUse, invalidArgument, ServiceFault } from '../service-fault.js';
import { Stream } from '../stream.js';
import { addTags } from './settings.js';
import { describeShard } from './shards.js';

const DEFAULT_PAGE = 100;
/** Shards of an on-demand stream at its creation. */
const ON_DEMAND_SHARDS = 4;

export const streamOperations: Readonly<Record<string, Operation>> = {
  CreateStream(engine, input) {
    const name = input['StreamName'] as string;
    if (engine.streams.has(name)) {
      throw inUse(`Stream ${name} under account ${engine.accountId} already exists.`);
    }
    const details = input['StreamModeDetails'] as
      | { StreamMode?: 'PROVISIONED' | 'ON_DEMAND' }
      | undefined;
    const mode = details?.StreamMode ?? 'PROVISIONED';
    const shardCount = input['ShardCount'] as number | undefined;
    if (mode === 'PROVISIONED' && shardCount === undefined) {
      throw invalidArgument('ShardCount is required for streams in PROVISIONED mode.');
    }
    checkQuotas(engine, mode, shardCount ?? 0);
    const stream = new Stream({
      name,
      arn: engine.streamArn(name),
      accountId: engine.accountId,
      createdAt: engine.now(),
      limits: engine.limits,
      maxShardBytes: engine.maxShardBytes,
    });
    stream.mode = mode;
    stream.distribution =
      (input['RecordDistributionStrategy'] as Stream['distribution'] | undefined) ??
      'USER_PARTITION_KEY';
    if (stream.distribution === 'AUTO' && mode !== 'ON_DEMAND') {
      throw new ServiceFault('ValidationException', 'AUTO needs a stream in on-demand mode.');
    }
    stream.warmThroughputMiBps = input['WarmThroughputMiBps'] as number | undefined;
    addTags(stream.tags, (input['Tags'] as Record<string, string> | undefined) ?? {});
    stream.maxRecordKiB = (input['MaxRecordSizeInKiB'] as number | undefined) ?? 1024;
    engine.streams.set(name, stream);
    engine.later(() => {
      stream.createInitialShards(
        mode === 'ON_DEMAND' ? ON_DEMAND_SHARDS : (shardCount ?? 1),
        engine.now(),
      );
      stream.status = 'ACTIVE';
    });
    return {};
  },

  DeleteStream(engine, input) {
    const stream = engine.stream(input);
    if (stream.consumers.size > 0 && input['EnforceConsumerDeletion'] !== true) {
      throw inUse(
        `Stream ${stream.birth.name} under account ${engine.accountId} has consumers registered. Deregister them or set EnforceConsumerDeletion.`,
      );
    }
    stream.status = 'DELETING';
    engine.later(() => {
      engine.streams.delete(stream.birth.name);
      for (const { key, subscription } of engine.subscriptions.active()) {
        if (key.startsWith(`${stream.birth.arn}/`)) subscription.end();
      }
    });
    return {};
  },

  DescribeStream(engine, input) {
    const stream = engine.stream(input);
    const after = (input['ExclusiveStartShardId'] as string | undefined) ?? '';
    const limit = Math.min((input['Limit'] as number | undefined) ?? DEFAULT_PAGE, DEFAULT_PAGE);
    const shards = stream.shards.filter(
      (shard) => shard.id > after && stream.isListed(shard, engine.now()),
    );
    return {
      StreamDescription: {
        ...describe(stream),
        Shards: shards.slice(0, limit).map((shard) => describeShard(shard)),
        HasMoreShards: shards.length > limit,
      },
    };
  },

  DescribeStreamSummary(engine, input) {
    const stream = engine.stream(input);
    return {
      StreamDescriptionSummary: {
        ...describe(stream),
        OpenShardCount: stream.openShards.length,
        ConsumerCount: stream.consumers.size,
        MaxRecordSizeInKiB: stream.maxRecordKiB,
        ...(stream.mode === 'ON_DEMAND' && {
          RecordDistributionStrategy: stream.distribution,
          WarmThroughput: {
            TargetMiBps: stream.warmThroughputMiBps ?? 0,
            CurrentMiBps: stream.warmThroughputMiBps ?? 0,
          },
        }),
        ChannelCount: engine.channelsOf(stream).length,
      },
    };
  },

  ListStreams(engine, input) {
    const after =
      (input['NextToken'] as string | undefined) ??
      (input['ExclusiveStartStreamName'] as string | undefined) ??
      '';
    const limit = Math.min((input['Limit'] as number | undefined) ?? DEFAULT_PAGE, DEFAULT_PAGE);
    const streams = [...engine.streams.values()]
      .filter((stream) => stream.birth.name > after)
      .sort((a, b) => (a.birth.name < b.birth.name ? -1 : 1));
    const page = streams.slice(0, limit);
    const hasMore = streams.length > limit;
    return {
      StreamNames: page.map((stream) => stream.birth.name),
      HasMoreStreams: hasMore,
      ...(hasMore && { NextToken: page.at(-1)?.birth.name }),
      StreamSummaries: page.map((stream) => ({
        StreamName: stream.birth.name,
        StreamARN: stream.birth.arn,
        StreamStatus: stream.status,
        StreamModeDetails: { StreamMode: stream.mode },
        StreamCreationTimestamp: new Date(stream.birth.createdAt),
      })),
    };
  },
};

function checkQuotas(engine: KinesisEngine, mode: Stream['mode'], shardCount: number): void {
  const { creatingAtOnce, onDemandStreamQuota, shardQuota } = engine.limits;
  const streams = [...engine.streams.values()];
  const exceeded = (what: string, limit: number): ServiceFault =>
    new ServiceFault('LimitExceededException', `${what} would exceed the limit of ${limit}.`);
  if (streams.filter(({ status }) => status === 'CREATING').length >= creatingAtOnce) {
    throw exceeded('Streams being created at once', creatingAtOnce);
  }
  if (mode === 'ON_DEMAND') {
    const count = streams.filter((stream) => stream.mode === 'ON_DEMAND').length;
    if (count >= onDemandStreamQuota) throw exceeded('On-demand streams', onDemandStreamQuota);
  } else if (engine.openShardCount + shardCount > shardQuota) {
    throw exceeded('Open shards', shardQuota);
  }
}

function describe(stream: Stream): Output {
  return {
    StreamName: stream.birth.name,
    StreamARN: stream.birth.arn,
    StreamStatus: stream.status,
    StreamModeDetails: { StreamMode: stream.mode },
    RetentionPeriodHours: stream.retentionHours,
    StreamCreationTimestamp: new Date(stream.birth.createdAt),
    EnhancedMonitoring: [{ ShardLevelMetrics: [...stream.metrics] }],
    EncryptionType: stream.keyId === undefined ? 'NONE' : 'KMS',
    ...(stream.keyId !== undefined && { KeyId: stream.keyId }),
  };
}
