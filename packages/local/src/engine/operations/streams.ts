import type { KinesisEngine, Operation, Output } from '../engine.js';
import { inUse, invalidArgument } from '../service-fault.js';
import { Stream } from '../stream.js';
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
    const now = engine.now();
    const stream = new Stream({
      name,
      arn: engine.streamArn(name),
      accountId: engine.accountId,
      createdAt: now,
      mode,
      limits: engine.limits,
    });
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
        Shards: shards.slice(0, limit).map(describeShard),
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
        StreamModeDetails: { StreamMode: stream.birth.mode },
        StreamCreationTimestamp: new Date(stream.birth.createdAt),
      })),
    };
  },

  IncreaseStreamRetentionPeriod: (engine, input) => changeRetention(engine, input, 1),
  DecreaseStreamRetentionPeriod: (engine, input) => changeRetention(engine, input, -1),
};

function changeRetention(engine: KinesisEngine, input: Output, direction: 1 | -1): Output {
  const stream = engine.stream(input);
  stream.requireStatus('ACTIVE');
  const hours = input['RetentionPeriodHours'];
  if (typeof hours !== 'number' || hours < 24 || hours > 8760) {
    throw invalidArgument('Retention period must be from 24 to 8760 hours.');
  }
  if ((hours - stream.retentionHours) * direction < 0) {
    throw invalidArgument(
      `Requested retention period (${hours} hours) for stream ${stream.birth.name} is on the wrong side of the present one (${stream.retentionHours} hours).`,
    );
  }
  stream.retentionHours = hours;
  return {};
}

function describe(stream: Stream): Output {
  return {
    StreamName: stream.birth.name,
    StreamARN: stream.birth.arn,
    StreamStatus: stream.status,
    StreamModeDetails: { StreamMode: stream.birth.mode },
    RetentionPeriodHours: stream.retentionHours,
    StreamCreationTimestamp: new Date(stream.birth.createdAt),
    EnhancedMonitoring: [{ ShardLevelMetrics: [] }],
    EncryptionType: 'NONE',
  };
}
