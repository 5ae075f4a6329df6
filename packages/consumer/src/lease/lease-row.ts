import type { AttributeValue } from '@aws-sdk/client-dynamodb';
import { type HashRange, isSentinel, parseHashKey } from '@shardline/shared';

import type { Lease, PendingCheckpoint, Progress, SeekTarget } from './lease.js';

/** A row of the lease table, in the KCL's layout. */
export type Row = Record<string, AttributeValue>;

/** Attributes the KCL does not know; it leaves them alone. */
export const OWN = {
  startAtMs: 'shardlineStartAtMs',
  finishedAbove: 'shardlineFinishedAbove',
  windowState: 'shardlineWindowState',
  seek: 'shardlineSeek',
} as const;

/** A lease as it is first written. */
export function newRow(lease: Lease): Row {
  const { parentShardIds, hashRange, checkpoint } = lease;
  return {
    leaseKey: { S: lease.leaseKey },
    leaseCounter: { N: '0' },
    ownerSwitchesSinceCheckpoint: { N: '0' },
    checkpoint: { S: checkpoint.sequenceNumber },
    checkpointSubSequenceNumber: { N: String(checkpoint.subSequenceNumber) },
    entityType: { S: 'LEASE' },
    ...(parentShardIds.length > 0 && { parentShardId: { SS: [...parentShardIds] } }),
    ...(hashRange && {
      startingHashKey: { S: hashRange.start.toString() },
      endingHashKey: { S: hashRange.end.toString() },
    }),
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
export function parseLease(item: Row): Lease | undefined {
  const leaseKey = item['leaseKey']?.S;
  const leaseCounter = Number(item['leaseCounter']?.N);
  const sequenceNumber = item['checkpoint']?.S;
  const entityType = item['entityType']?.S ?? 'LEASE';
  if (leaseKey === undefined || sequenceNumber === undefined || entityType !== 'LEASE') {
    return undefined;
  }
  if (!Number.isSafeInteger(leaseCounter) || !isPosition(sequenceNumber)) return undefined;
  return {
    leaseKey,
    leaseCounter,
    leaseOwner: item['leaseOwner']?.S,
    checkpointOwner: item['checkpointOwner']?.S,
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

function numberOf(item: Row, name: string): number | undefined {
  const text = item[name]?.N;
  const value = Number(text);
  return text === undefined || !Number.isFinite(value) ? undefined : value;
}
