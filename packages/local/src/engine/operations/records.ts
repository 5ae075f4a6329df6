import { hashPartitionKey, parseHashKey } from '@shardline/shared';

import type { KinesisEngine, Operation } from '../engine.js';
import { MAX_PUT_BYTES, MAX_READ_BYTES, MAX_READ_RECORDS } from '../limits.js';
import { parseSequenceNumber } from '../sequence-numbers.js';
import { invalidArgument, ServiceFault } from '../service-fault.js';
import { formatIterator, parseIterator } from '../shard-iterator.js';
import { recordBytes, type Shard } from '../shard.js';
import type { Stream } from '../stream.js';
import type { Input } from '../validation.js';
import { counterOf } from './positions.js';
import { describeChildren } from './shards.js';

interface PutEntry {
  readonly Data: Buffer;
  readonly PartitionKey?: string;
  readonly ExplicitHashKey?: string;
}

const hash = new Uint32Array(4);

export const recordOperations: Readonly<Record<string, Operation>> = {
  PutRecord(engine, input) {
    const stream = engine.liveStream(input);
    const entry = input as unknown as PutEntry;
    checkSize(stream, entry, 'data');
    const ordering = input['SequenceNumberForOrdering'] as string | undefined;
    if (ordering !== undefined && !parseSequenceNumber(ordering)) {
      throw invalidArgument(
        `ExclusiveMinimumSequenceNumber ${ordering} used in PutRecord on stream ${stream.birth.name} under account ${engine.accountId} is invalid.`,
      );
    }
    const shard = route(engine, stream, entry, 'partitionKey');
    if (ordering !== undefined && stream.distribution === 'AUTO') {
      throw invalidArgument('SequenceNumberForOrdering cannot be used with AUTO distribution.');
    }
    dryRun(input);
    if (!admit(engine, stream, shard, entry)) {
      throw new ServiceFault(
        'ProvisionedThroughputExceededException',
        rateExceeded(engine, stream, shard),
      );
    }
    return {
      ShardId: shard.id,
      SequenceNumber: store(engine, stream, shard, entry),
      EncryptionType: encryptionOf(stream),
    };
  },

  PutRecords(engine, input) {
    const stream = engine.liveStream(input);
    const entries = input['Records'] as readonly PutEntry[];
    let total = 0;
    entries.forEach((entry, index) => {
      checkSize(stream, entry, `records.${index + 1}.member.data`);
      total += bytesOf(entry);
    });
    if (total > MAX_PUT_BYTES) {
      throw invalidArgument(`Records size exceeds ${MAX_PUT_BYTES / 2 ** 20} MB limit`);
    }
    // All hash keys are checked before the first record is stored.
    const shards = entries.map((entry, index) =>
      route(engine, stream, entry, `records.${index + 1}.member.partitionKey`),
    );
    dryRun(input);
    let failed = 0;
    const results = entries.map((entry, index) => {
      const shard = shards[index] as Shard;
      if (admit(engine, stream, shard, entry)) {
        return { ShardId: shard.id, SequenceNumber: store(engine, stream, shard, entry) };
      }
      failed += 1;
      return {
        ErrorCode: 'ProvisionedThroughputExceededException',
        ErrorMessage: rateExceeded(engine, stream, shard),
      };
    });
    return { FailedRecordCount: failed, Records: results, EncryptionType: encryptionOf(stream) };
  },

  GetShardIterator(engine, input) {
    const stream = engine.liveStream(input);
    const shard = stream.readableShard(input['ShardId'] as string, engine.now());
    if (!shard.admitIterator(engine.clock.monotonicMs())) {
      throw new ServiceFault(
        'ProvisionedThroughputExceededException',
        rateExceeded(engine, stream, shard),
      );
    }
    const counter = counterOf(
      shard,
      {
        type: input['ShardIteratorType'] as string,
        sequenceNumber: input['StartingSequenceNumber'] as string | undefined,
        timestamp: input['Timestamp'] as Date | undefined,
      },
      engine.now(),
    );
    dryRun(input);
    return { ShardIterator: iteratorAt(engine, stream, shard, counter) };
  },

  GetRecords(engine, input) {
    const state = parseIterator(input['ShardIterator'] as string);
    const now = engine.now();
    if (
      now - state.issuedAt > engine.limits.iteratorLifeMs ||
      state.issuedAt <= engine.iteratorsExpiredAt
    ) {
      throw new ServiceFault(
        'ExpiredIteratorException',
        `Iterator expired. The iterator was created at time ${new Date(state.issuedAt).toString()} while right now it is ${new Date(now).toString()} which is further in the future than the tolerated delay of ${engine.limits.iteratorLifeMs} milliseconds.`,
      );
    }
    const stream = engine.liveStream({ StreamName: state.streamName });
    if (stream.birth.createdAt !== state.streamCreatedAt)
      throw invalidArgument('Invalid ShardIterator.');
    const shard = stream.shard(state.shardId);
    dryRun(input);
    if (!shard.admitRead(engine.clock.monotonicMs())) {
      throw new ServiceFault(
        'ProvisionedThroughputExceededException',
        rateExceeded(engine, stream, shard),
      );
    }
    stream.trim(now);
    const limit = (input['Limit'] as number | undefined) ?? MAX_READ_RECORDS;
    const records = shard.read(state.counter, limit, MAX_READ_BYTES);
    shard.countRead(records.reduce((sum, record) => sum + recordBytes(record), 0));
    const next = Math.max(state.counter, shard.horizon) + records.length;
    const atEnd = !shard.isOpen && next >= shard.tip;
    return {
      Records: records,
      MillisBehindLatest: shard.millisBehind(next, now),
      ...(atEnd
        ? { ChildShards: describeChildren(shard) }
        : { NextShardIterator: iteratorAt(engine, stream, shard, next) }),
    };
  },
};

function iteratorAt(engine: KinesisEngine, stream: Stream, shard: Shard, counter: number): string {
  return formatIterator({
    streamName: stream.birth.name,
    streamCreatedAt: stream.birth.createdAt,
    shardId: shard.id,
    counter,
    issuedAt: engine.now(),
  });
}

function route(engine: KinesisEngine, stream: Stream, entry: PutEntry, path: string): Shard {
  const { ExplicitHashKey, PartitionKey } = entry;
  if (stream.distribution === 'AUTO') return stream.anyShard(engine.random());
  if (PartitionKey === undefined) {
    throw new ServiceFault(
      'ValidationException',
      `1 validation error detected: Value null at '${path}' failed to satisfy constraint: Member must not be null`,
    );
  }
  if (ExplicitHashKey === undefined) {
    hashPartitionKey(PartitionKey, hash);
  } else if (!parseHashKey(ExplicitHashKey, hash)) {
    throw invalidArgument(
      `Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was ${ExplicitHashKey}`,
    );
  }
  return stream.shardFor(hash);
}

/** Whether the shard takes the record now. An on-demand stream may split a shard that does not. */
function admit(engine: KinesisEngine, stream: Stream, shard: Shard, entry: PutEntry): boolean {
  if (shard.admitWrite(bytesOf(entry), engine.clock.monotonicMs())) {
    return true;
  }
  engine.onThrottled(stream, shard);
  return false;
}

/** @throws ServiceFault `DryRunOperationException` if the request was a rehearsal. */
function dryRun(input: Input): void {
  if (input['DryRun'] !== true) return;
  throw new ServiceFault(
    'DryRunOperationException',
    'Request would have succeeded, but DryRun flag is set.',
  );
}

function bytesOf({ Data, PartitionKey }: PutEntry): number {
  return recordBytes({ Data, PartitionKey });
}

function encryptionOf(stream: Stream): string {
  return stream.keyId === undefined ? 'NONE' : 'KMS';
}

function store(engine: KinesisEngine, stream: Stream, shard: Shard, entry: PutEntry): string {
  const record = shard.append(
    entry.Data,
    entry.PartitionKey,
    engine.now() + engine.timestampSkewMs,
  );
  engine.reportStored({ streamName: stream.birth.name, shardId: shard.id, record });
  return record.SequenceNumber;
}

function checkSize(stream: Stream, entry: PutEntry, path: string): void {
  const limit = stream.maxRecordKiB * 1024;
  if (bytesOf(entry) <= limit) return;
  const { length } = entry.Data;
  throw new ServiceFault(
    'ValidationException',
    `1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=${length} cap=${length}]' at '${path}' failed to satisfy constraint: Member must have length less than or equal to ${limit}`,
  );
}

function rateExceeded(engine: KinesisEngine, stream: Stream, shard: Shard): string {
  return `Rate exceeded for shard ${shard.id} in stream ${stream.birth.name} under account ${engine.accountId}.`;
}
