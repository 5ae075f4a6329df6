import type { AttributeValue } from '@aws-sdk/client-dynamodb';
import { type HashRange, isSentinel, parseHashKey } from '@shardline/shared';

import type { Row } from './lease-table.js';
import {
  type Lease,
  type LeaseLayout,
  leaseKeyOf,
  type PendingCheckpoint,
  type Progress,
  type SeekTarget,
} from './lease.js';

/**
 * What tells the two layouts apart. A row without `leaseCounter` stops a KCL 2.x with an error, and later
 * ones pass rows of other entity types over: none of them can take a native lease.
 */
export const LAYOUTS = {
  kcl: { counter: 'leaseCounter', entityType: 'LEASE' },
  native: { counter: 'shardlineCounter', entityType: 'SHARDLINE_LEASE' },
} as const;

/** Attributes the KCL does not know; it leaves them alone. */
export const OWN = {
  owner: 'shardlineOwner',
  handOverMs: 'shardlineHandOverMs',
  streamEpochSeconds: 'shardlineStreamEpochSeconds',
  startAtMs: 'shardlineStartAtMs',
  finishedAbove: 'shardlineFinishedAbove',
  windowState: 'shardlineWindowState',
  seek: 'shardlineSeek',
} as const;

/** A lease as it is first written. */
export function newRow(lease: Lease): Row {
  const { parentShardIds, hashRange, checkpoint, streamId, streamEpochSeconds } = lease;
  const { counter, entityType } = LAYOUTS[lease.layout];
  return {
    leaseKey: { S: lease.leaseKey },
    [counter]: { N: String(lease.leaseCounter) },
    ownerSwitchesSinceCheckpoint: { N: '0' },
    checkpoint: { S: checkpoint.sequenceNumber },
    checkpointSubSequenceNumber: { N: String(checkpoint.subSequenceNumber) },
    entityType: { S: entityType },
    ...(streamId !== undefined && {
      streamName: { S: streamId },
      shardId: { S: lease.shardId },
    }),
    ...(streamEpochSeconds !== undefined && {
      [OWN.streamEpochSeconds]: { N: String(streamEpochSeconds) },
    }),
    ...(parentShardIds.length > 0 && { parentShardId: { SS: [...parentShardIds] } }),
    ...(hashRange && rangeAttributes(hashRange)),
  };
}

/** The shard's range of hash keys. */
export function rangeAttributes(range: HashRange): Row {
  return {
    startingHashKey: { S: range.start.toString() },
    endingHashKey: { S: range.end.toString() },
  };
}

/** What somebody asks of whoever reads the shard. */
export function seekAttribute({ position, timestampMs }: SeekTarget): AttributeValue {
  return {
    M: {
      sequenceNumber: { S: position.sequenceNumber },
      subSequenceNumber: { N: String(position.subSequenceNumber) },
      ...(timestampMs !== undefined && { timestampMs: { N: String(timestampMs) } }),
    },
  };
}

/** Every attribute of the progress, undefined where there is none. */
export function progressAttributes(progress: Progress): Record<string, AttributeValue | undefined> {
  const { checkpoint, pendingCheckpoint, startAtMs, finishedAbove, windowState } = progress;
  return {
    checkpoint: { S: checkpoint.sequenceNumber },
    checkpointSubSequenceNumber: { N: String(checkpoint.subSequenceNumber) },
    pendingCheckpoint: pendingCheckpoint && { S: pendingCheckpoint.position.sequenceNumber },
    pendingCheckpointSubSequenceNumber: pendingCheckpoint && {
      N: String(pendingCheckpoint.position.subSequenceNumber),
    },
    pendingCheckpointState: pendingCheckpoint?.state && { B: pendingCheckpoint.state },
    [OWN.startAtMs]: startAtMs === undefined ? undefined : { N: String(startAtMs) },
    [OWN.finishedAbove]: finishedAbove === undefined ? undefined : { S: finishedAbove },
    [OWN.windowState]: windowState === undefined ? undefined : { S: windowState },
  };
}

/** The lease a row holds; undefined for rows of other kinds and rows that cannot be read. */
export function parseLease(item: Row, keyPrefix = ''): Lease | undefined {
  const key = item['leaseKey']?.S;
  const sequenceNumber = item['checkpoint']?.S;
  const layout = layoutOf(item);
  if (typeof key !== 'string' || !key.startsWith(keyPrefix)) return undefined;
  if (sequenceNumber === undefined || !layout) return undefined;
  const leaseCounter = numberOf(item, LAYOUTS[layout].counter);
  if (!Number.isSafeInteger(leaseCounter) || !isPosition(sequenceNumber)) return undefined;
  const leaseKey = key.slice(keyPrefix.length);
  return {
    leaseKey,
    ...shardOf(item, leaseKey),
    layout,
    leaseCounter: leaseCounter as number,
    leaseOwner: item['leaseOwner']?.S,
    checkpointOwner: item['checkpointOwner']?.S,
    handOverMs: numberOf(item, OWN.handOverMs),
    shardlineOwner: item[OWN.owner]?.S,
    throughputKBps: numberOf(item, 'throughputKBps'),
    streamEpochSeconds: numberOf(item, OWN.streamEpochSeconds),
    ownerSwitchesSinceCheckpoint: numberOf(item, 'ownerSwitchesSinceCheckpoint') ?? 0,
    checkpoint: {
      sequenceNumber,
      subSequenceNumber: numberOf(item, 'checkpointSubSequenceNumber') ?? 0,
    },
    startAtMs: numberOf(item, OWN.startAtMs),
    pendingCheckpoint: parsePending(item),
    finishedAbove: item[OWN.finishedAbove]?.S,
    windowState: item[OWN.windowState]?.S,
    seek: parseSeek(item),
    parentShardIds: item['parentShardId']?.SS ?? [],
    childShardIds: item['childShardIds']?.SS ?? [],
    hashRange: parseRange(item['startingHashKey']?.S, item['endingHashKey']?.S),
  };
}

function layoutOf(item: Row): LeaseLayout | undefined {
  const entityType = item['entityType']?.S ?? 'LEASE';
  if (entityType === LAYOUTS.kcl.entityType) return 'kcl';
  return entityType === LAYOUTS.native.entityType ? 'native' : undefined;
}

/** Half of what names a shard of one of several streams is nothing: then the key is the shard. */
function shardOf(item: Row, leaseKey: string): Pick<Lease, 'streamId' | 'shardId'> {
  const streamId = item['streamName']?.S;
  const shardId = item['shardId']?.S;
  if (streamId === undefined || shardId === undefined) {
    return { streamId: undefined, shardId: leaseKey };
  }
  const isKey = leaseKeyOf(streamId, shardId) === leaseKey;
  return isKey ? { streamId, shardId } : { streamId: undefined, shardId: leaseKey };
}

function parsePending(item: Row): PendingCheckpoint | undefined {
  const sequenceNumber = item['pendingCheckpoint']?.S;
  if (sequenceNumber === undefined || !isPosition(sequenceNumber)) return undefined;
  const subSequenceNumber = numberOf(item, 'pendingCheckpointSubSequenceNumber') ?? 0;
  return {
    position: { sequenceNumber, subSequenceNumber },
    state: item['pendingCheckpointState']?.B,
  };
}

function parseSeek(item: Row): SeekTarget | undefined {
  const target = item[OWN.seek]?.M ?? {};
  const sequenceNumber = target['sequenceNumber']?.S;
  if (sequenceNumber === undefined || !isPosition(sequenceNumber)) return undefined;
  const subSequenceNumber = numberOf(target, 'subSequenceNumber') ?? 0;
  return {
    position: { sequenceNumber, subSequenceNumber },
    timestampMs: numberOf(target, 'timestampMs'),
  };
}

/** Both ends are needed: half a range is none. */
function parseRange(start: string | undefined, end: string | undefined): HashRange | undefined {
  const words = new Uint32Array(4);
  if (start === undefined || end === undefined) return undefined;
  if (!parseHashKey(start, words) || !parseHashKey(end, words)) return undefined;
  return { start: BigInt(start), end: BigInt(end) };
}

function isPosition(sequenceNumber: string): boolean {
  return isSentinel(sequenceNumber) || /^\d+$/.test(sequenceNumber);
}

/** The number of an attribute, if it has one. */
export function numberOf(item: Row, name: string): number | undefined {
  const text = item[name]?.N;
  const value = Number(text);
  return text === undefined || !Number.isFinite(value) ? undefined : value;
}
