import type { KinesisEngine, Operation, Output } from '../engine.js';
import { SHARD_LEVEL_METRICS } from '../request-shapes.js';
import { invalidArgument, notFound, ServiceFault } from '../service-fault.js';
import type { Stream } from '../stream.js';
import type { Input } from '../validation.js';

const MAX_TAGS = 50;
const MAX_TAG_PAGE = 50;
const DAY_MS = 86_400_000;
/** @see https://docs.aws.amazon.com/streams/latest/dev/how-do-i-size-a-stream.html */
const MODE_SWITCHES_PER_DAY = 2;

/** Operations that keep and give back a setting; most have no effect on records here. */
export const settingOperations: Readonly<Record<string, Operation>> = {
  IncreaseStreamRetentionPeriod: (engine, input) => changeRetention(engine, input, 1),
  DecreaseStreamRetentionPeriod: (engine, input) => changeRetention(engine, input, -1),

  UpdateStreamMode(engine, input) {
    const stream = engine.stream(input);
    stream.requireStatus('ACTIVE');
    const { StreamMode } = input['StreamModeDetails'] as {
      StreamMode: 'PROVISIONED' | 'ON_DEMAND';
    };
    if (StreamMode === stream.mode) return {};
    const since = engine.now() - DAY_MS;
    stream.modeSwitches = stream.modeSwitches.filter((at) => at > since);
    if (stream.modeSwitches.length >= MODE_SWITCHES_PER_DAY) {
      throw new ServiceFault(
        'LimitExceededException',
        `Stream ${stream.birth.name} was switched ${MODE_SWITCHES_PER_DAY} times within 24 hours.`,
      );
    }
    stream.modeSwitches.push(engine.now());
    stream.status = 'UPDATING';
    engine.later(() => {
      stream.mode = StreamMode;
      stream.status = 'ACTIVE';
    });
    return {};
  },

  UpdateMaxRecordSize(engine, input) {
    const stream = engine.stream(input);
    stream.requireStatus('ACTIVE');
    stream.maxRecordKiB = input['MaxRecordSizeInKiB'] as number;
    return {};
  },

  UpdateStreamWarmThroughput(engine, input) {
    const stream = engine.stream(input);
    requireOnDemand(stream);
    const target = input['WarmThroughputMiBps'] as number;
    const current = stream.warmThroughputMiBps ?? 0;
    stream.warmThroughputMiBps = target;
    return {
      StreamARN: stream.birth.arn,
      StreamName: stream.birth.name,
      WarmThroughput: { TargetMiBps: target, CurrentMiBps: current },
    };
  },

  UpdateStreamRecordDistributionStrategy(engine, input) {
    const stream = engine.stream(input);
    requireOnDemand(stream);
    stream.distribution = input['RecordDistributionStrategy'] as Stream['distribution'];
    return {};
  },

  StartStreamEncryption(engine, input) {
    const stream = engine.stream(input);
    stream.requireStatus('ACTIVE');
    if (input['EncryptionType'] !== 'KMS') throw invalidArgument('EncryptionType must be KMS.');
    stream.keyId = input['KeyId'] as string;
    return {};
  },

  StopStreamEncryption(engine, input) {
    const stream = engine.stream(input);
    stream.requireStatus('ACTIVE');
    stream.keyId = undefined;
    return {};
  },

  EnableEnhancedMonitoring: (engine, input) =>
    changeMonitoring(engine, input, (current, named) => new Set([...current, ...named])),

  DisableEnhancedMonitoring: (engine, input) =>
    changeMonitoring(
      engine,
      input,
      (current, named) => new Set([...current].filter((metric) => !named.has(metric))),
    ),

  DescribeLimits(engine) {
    const streams = [...engine.streams.values()];
    return {
      ShardLimit: engine.limits.shardQuota,
      OpenShardCount: engine.openShardCount,
      OnDemandStreamCount: streams.filter(({ mode }) => mode === 'ON_DEMAND').length,
      OnDemandStreamCountLimit: engine.limits.onDemandStreamQuota,
      ChannelCount: engine.channels.size,
      ChannelCountLimit: 100,
    };
  },

  DescribeAccountSettings: (engine) => ({
    MinimumThroughputBillingCommitment: describeCommitment(engine),
  }),

  UpdateAccountSettings(engine, input) {
    const { Status } = input['MinimumThroughputBillingCommitment'] as { Status: string };
    const now = engine.now();
    engine.commitment =
      Status === 'ENABLED'
        ? { status: 'ENABLED', startedAt: now }
        : { ...engine.commitment, status: 'DISABLED', endedAt: now };
    return { MinimumThroughputBillingCommitment: describeCommitment(engine) };
  },

  AddTagsToStream(engine, input) {
    addTags(engine.stream(input).tags, input['Tags'] as Record<string, string>);
    return {};
  },

  RemoveTagsFromStream(engine, input) {
    for (const key of input['TagKeys'] as string[]) engine.stream(input).tags.delete(key);
    return {};
  },

  ListTagsForStream(engine, input) {
    const after = (input['ExclusiveStartTagKey'] as string | undefined) ?? '';
    const limit = (input['Limit'] as number | undefined) ?? MAX_TAG_PAGE;
    const tags = describeTags(engine.stream(input).tags).filter(({ Key }) => Key > after);
    return { Tags: tags.slice(0, limit), HasMoreTags: tags.length > limit };
  },

  TagResource(engine, input) {
    addTags(resource(engine, input).tags, input['Tags'] as Record<string, string>);
    return {};
  },

  UntagResource(engine, input) {
    for (const key of input['TagKeys'] as string[]) resource(engine, input).tags.delete(key);
    return {};
  },

  ListTagsForResource: (engine, input) => ({ Tags: describeTags(resource(engine, input).tags) }),

  PutResourcePolicy(engine, input) {
    const policy = input['Policy'] as string;
    try {
      JSON.parse(policy);
    } catch {
      throw invalidArgument('Policy is not valid JSON.');
    }
    resource(engine, input);
    engine.policies.set(input['ResourceARN'] as string, policy);
    return {};
  },

  GetResourcePolicy(engine, input) {
    resource(engine, input);
    const policy = engine.policies.get(input['ResourceARN'] as string);
    if (policy === undefined)
      throw notFound(`No policy found for ${String(input['ResourceARN'])}.`);
    return { Policy: policy };
  },

  DeleteResourcePolicy(engine, input) {
    resource(engine, input);
    if (!engine.policies.delete(input['ResourceARN'] as string)) {
      throw notFound(`No policy found for ${String(input['ResourceARN'])}.`);
    }
    return {};
  },
};

/** Adds tags under the service's rules. */
export function addTags(tags: Map<string, string>, added: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(added)) {
    if (key.length < 1 || key.length > 128 || typeof value !== 'string' || value.length > 256) {
      throw new ServiceFault(
        'ValidationException',
        '1 validation error detected: a tag key must have 1 to 128 characters, its value at most 256',
      );
    }
    if (key.startsWith('aws:')) throw invalidArgument('Tag keys starting with aws: are reserved.');
  }
  const keys = new Set([...tags.keys(), ...Object.keys(added)]);
  if (keys.size > MAX_TAGS) {
    throw invalidArgument(`A resource can have at most ${MAX_TAGS} tags, not ${keys.size}.`);
  }
  for (const [key, value] of Object.entries(added)) tags.set(key, value);
}

function describeTags(tags: ReadonlyMap<string, string>): { Key: string; Value: string }[] {
  return [...tags].map(([Key, Value]) => ({ Key, Value })).sort((a, b) => (a.Key < b.Key ? -1 : 1));
}

/** What a ResourceARN names: a stream or a consumer. */
function resource(engine: KinesisEngine, input: Input): { readonly tags: Map<string, string> } {
  const arn = input['ResourceARN'] as string;
  if (arn.includes('/consumer/')) return engine.consumerByArn(arn).consumer;
  return engine.stream({ StreamARN: arn });
}

function requireOnDemand(stream: Stream): void {
  stream.requireStatus('ACTIVE');
  if (stream.mode === 'ON_DEMAND') return;
  throw new ServiceFault(
    'ValidationException',
    `Stream ${stream.birth.name} is not in on-demand mode.`,
  );
}

function changeRetention(engine: KinesisEngine, input: Input, direction: 1 | -1): Output {
  const stream = engine.stream(input);
  stream.requireStatus('ACTIVE');
  const hours = input['RetentionPeriodHours'] as number;
  if (hours < 24 || hours > 8760) {
    throw invalidArgument(`Retention period must be from 24 to 8760 hours, got ${hours}.`);
  }
  if ((hours - stream.retentionHours) * direction < 0) {
    throw invalidArgument(
      `Requested retention period (${hours} hours) for stream ${stream.birth.name} is on the wrong side of the present one (${stream.retentionHours} hours).`,
    );
  }
  stream.retentionHours = hours;
  return {};
}

function changeMonitoring(
  engine: KinesisEngine,
  input: Input,
  change: (current: ReadonlySet<string>, named: ReadonlySet<string>) => Set<string>,
): Output {
  const stream = engine.stream(input);
  const named = input['ShardLevelMetrics'] as string[];
  const before = [...stream.metrics];
  stream.metrics = change(
    stream.metrics,
    new Set(named.includes('ALL') ? SHARD_LEVEL_METRICS : named),
  );
  return {
    StreamName: stream.birth.name,
    StreamARN: stream.birth.arn,
    CurrentShardLevelMetrics: before,
    DesiredShardLevelMetrics: [...stream.metrics],
  };
}

function describeCommitment(engine: KinesisEngine): Output {
  const { status, startedAt, endedAt } = engine.commitment;
  return {
    Status: status,
    ...(startedAt !== undefined && {
      StartedAt: new Date(startedAt),
      EarliestAllowedEndAt: new Date(startedAt + DAY_MS),
    }),
    ...(endedAt !== undefined && { EndedAt: new Date(endedAt) }),
  };
}
