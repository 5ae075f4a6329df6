import type { KinesisEngine } from './engine.js';
import type { Channel } from './operations/channels.js';
import type { ShardBirth, StoredRecord } from './shard.js';
import { Stream, type StreamConsumer } from './stream.js';

const VERSION = 1;

interface ShardSnapshot {
  readonly birth: ShardBirth;
  readonly endingSequenceNumber: string | undefined;
  readonly closedAt: number | undefined;
  readonly childIndexes: readonly number[];
  readonly firstCounter: number;
  readonly records: readonly StoredRecord[];
}

type StreamSettings = Pick<
  Stream,
  | 'retentionHours'
  | 'maxRecordKiB'
  | 'mode'
  | 'modeSwitches'
  | 'shardCountUpdates'
  | 'distribution'
  | 'warmThroughputMiBps'
  | 'keyId'
  | 'metrics'
>;

interface StreamSnapshot {
  readonly name: string;
  readonly createdAt: number;
  readonly settings: StreamSettings;
  readonly tags: ReadonlyMap<string, string>;
  readonly consumers: readonly StreamConsumer[];
  readonly shards: readonly ShardSnapshot[];
}

/** Everything an engine keeps, as plain values. */
export interface EngineSnapshot {
  readonly version: number;
  readonly streams: readonly StreamSnapshot[];
  readonly channels: readonly Channel[];
  readonly policies: ReadonlyMap<string, string>;
  readonly commitment: KinesisEngine['commitment'];
}

/** Streams that are not ACTIVE are left out: what they were becoming is not known. */
export function takeSnapshot(engine: KinesisEngine): EngineSnapshot {
  return {
    version: VERSION,
    channels: [...engine.channels.values()],
    policies: engine.policies,
    commitment: engine.commitment,
    streams: [...engine.streams.values()]
      .filter(({ status }) => status === 'ACTIVE')
      .map((stream) => ({
        name: stream.birth.name,
        createdAt: stream.birth.createdAt,
        settings: settingsOf(stream),
        tags: stream.tags,
        consumers: [...stream.consumers.values()].filter(({ status }) => status === 'ACTIVE'),
        shards: stream.shards.map((shard) => ({
          birth: shard.birth,
          endingSequenceNumber: shard.endingSequenceNumber,
          closedAt: shard.closedAt,
          childIndexes: shard.children.map(({ birth }) => birth.index),
          firstCounter: shard.horizon,
          records: shard.records,
        })),
      })),
  };
}

/** Fills an empty engine. False if the snapshot is of another version. */
export function restoreSnapshot(engine: KinesisEngine, snapshot: EngineSnapshot): boolean {
  if (snapshot.version !== VERSION) return false;
  for (const { name, createdAt, settings, tags, consumers, shards } of snapshot.streams) {
    const stream = new Stream({
      name,
      arn: engine.streamArn(name),
      accountId: engine.accountId,
      createdAt,
      limits: engine.limits,
      maxShardBytes: engine.maxShardBytes,
    });
    Object.assign(stream, settings);
    stream.status = 'ACTIVE';
    for (const [key, value] of tags) stream.tags.set(key, value);
    for (const consumer of consumers) stream.consumers.set(consumer.name, consumer);
    for (const { birth, endingSequenceNumber, closedAt, firstCounter, records } of shards) {
      const shard = stream.restoreShard(birth);
      shard.endingSequenceNumber = endingSequenceNumber;
      shard.closedAt = closedAt;
      shard.restore(
        records.map((record) => ({ ...record, Data: Buffer.from(record.Data) })),
        firstCounter,
      );
    }
    shards.forEach(({ childIndexes }, index) => {
      const shard = stream.shards[index];
      if (shard) shard.children = childIndexes.flatMap((child) => stream.shards[child] ?? []);
    });
    stream.reindex();
    engine.streams.set(name, stream);
  }
  for (const channel of snapshot.channels) engine.channels.set(channel.arn, channel);
  for (const [arn, policy] of snapshot.policies) engine.policies.set(arn, policy);
  engine.commitment = snapshot.commitment;
  return true;
}

function settingsOf(stream: Stream): StreamSettings {
  const { retentionHours, maxRecordKiB, mode, modeSwitches, shardCountUpdates } = stream;
  const { distribution, warmThroughputMiBps, keyId, metrics } = stream;
  return {
    retentionHours,
    maxRecordKiB,
    mode,
    modeSwitches,
    shardCountUpdates,
    distribution,
    warmThroughputMiBps,
    keyId,
    metrics,
  };
}
