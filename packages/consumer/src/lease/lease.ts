import { comparePositions, type HashRange, type Position } from '@shardline/shared';

/**
 * How the row of a lease is kept, which its attributes tell.
 *
 * - `kcl`: as the KCL does. Its owner lives while the row's own counter grows.
 * - `native`: its owner lives while that worker's heartbeat goes on. No KCL reads such a row as a lease.
 */
export type LeaseLayout = 'kcl' | 'native';

/** One row of the lease table: who reads a shard, and how far it was read. */
export interface Lease {
  readonly leaseKey: string;
  readonly shardId: string;
  /** Which stream the shard is of, if the application reads several: `account:name:creationSeconds`. */
  readonly streamId: string | undefined;
  /** When the stream was created, in epoch seconds, if the row tells: one of the same name may be another. */
  readonly streamEpochSeconds: number | undefined;
  readonly layout: LeaseLayout;
  /** Grows by one with every write of its owner or a taker: the only fencing token. */
  readonly leaseCounter: number;
  /** Absent if nobody owns the shard. During a hand-over the next owner. */
  readonly leaseOwner: string | undefined;
  /** Present during a hand-over: who still owns the shard. */
  readonly checkpointOwner: string | undefined;
  /** How long the owner's handlers have to finish in a hand-over, if whoever asked for it said so. */
  readonly handOverMs: number | undefined;
  /** In the KCL's layout, the last worker of ours that owned it: any other owner is a KCL's. */
  readonly shardlineOwner: string | undefined;
  /** What was handled of the shard, as its owner measured, in KiB a second. */
  readonly throughputKBps: number | undefined;
  readonly ownerSwitchesSinceCheckpoint: number;
  readonly checkpoint: Position;
  /** Where reading begins while `checkpoint` is LATEST or AT_TIMESTAMP, epoch milliseconds of the service. */
  readonly startAtMs: number | undefined;
  /** A position that was prepared and not yet made the checkpoint. */
  readonly pendingCheckpoint: PendingCheckpoint | undefined;
  /** Positions ahead of the checkpoint whose records are handled, as `finished-above.ts` writes them. */
  readonly finishedAbove: string | undefined;
  /** The open tumbling window at the checkpoint, as `tumbling-window.ts` writes it. */
  readonly windowState: string | undefined;
  /** Where somebody wants the shard to be read from next. */
  readonly seek: SeekTarget | undefined;
  /** Shards that must be finished before this one is started. */
  readonly parentShardIds: readonly string[];
  readonly childShardIds: readonly string[];
  readonly hashRange: HashRange | undefined;
}

/** The first half of a checkpoint in two phases. */
export interface PendingCheckpoint {
  readonly position: Position;
  /** The application's own bytes, given to the next owner with the position. */
  readonly state: Uint8Array | undefined;
}

/** A position to read from next, ahead of or behind where a shard is. */
export interface SeekTarget {
  readonly position: Position;
  /** For the position AT_TIMESTAMP, epoch milliseconds. */
  readonly timestampMs: number | undefined;
}

/** What an owner writes about how far it is. */
export type Progress = Pick<
  Lease,
  'checkpoint' | 'startAtMs' | 'pendingCheckpoint' | 'finishedAbove' | 'windowState'
>;

/** Who reads the shard now. */
export function ownerOf(lease: Lease): string | undefined {
  return lease.checkpointOwner ?? lease.leaseOwner;
}

/** True if every record of the shard has been handled, and nobody wants them again. */
export function isFinished(lease: Lease): boolean {
  return lease.checkpoint.sequenceNumber === 'SHARD_END' && lease.seek === undefined;
}

/** True if its owner is a worker of the KCL's, as far as the row tells. */
export function isForeign(lease: Lease): boolean {
  const owner = ownerOf(lease);
  return lease.layout === 'kcl' && owner !== undefined && owner !== lease.shardlineOwner;
}

/** What leases of one stream have in common. */
export type LeaseOrigin = Pick<Lease, 'streamId' | 'streamEpochSeconds' | 'layout'>;

/** The key of a shard's lease. */
export function leaseKeyOf(streamId: string | undefined, shardId: string): string {
  return streamId === undefined ? shardId : `${streamId}:${shardId}`;
}

/** A lease as it is first written. */
export function newLease(
  origin: LeaseOrigin,
  fields: Pick<Lease, 'shardId' | 'checkpoint' | 'parentShardIds' | 'hashRange'>,
): Lease {
  return {
    streamId: origin.streamId,
    streamEpochSeconds: origin.streamEpochSeconds,
    layout: origin.layout,
    leaseKey: leaseKeyOf(origin.streamId, fields.shardId),
    ...fields,
    leaseCounter: 0,
    leaseOwner: undefined,
    checkpointOwner: undefined,
    handOverMs: undefined,
    shardlineOwner: undefined,
    throughputKBps: undefined,
    ownerSwitchesSinceCheckpoint: 0,
    childShardIds: [],
    startAtMs: undefined,
    pendingCheckpoint: undefined,
    finishedAbove: undefined,
    windowState: undefined,
    seek: undefined,
  };
}

/** Progress of somebody who has just come to a position. */
export function progressAt(checkpoint: Position, startAtMs?: number): Progress {
  return {
    checkpoint,
    startAtMs,
    pendingCheckpoint: undefined,
    finishedAbove: undefined,
    windowState: undefined,
  };
}

/** True if two say the same. */
export function isSameProgress(a: Progress, b: Progress): boolean {
  return (
    comparePositions(a.checkpoint, b.checkpoint) === 0 &&
    a.startAtMs === b.startAtMs &&
    a.finishedAbove === b.finishedAbove &&
    a.windowState === b.windowState &&
    isSamePending(a.pendingCheckpoint, b.pendingCheckpoint)
  );
}

function isSamePending(
  a: PendingCheckpoint | undefined,
  b: PendingCheckpoint | undefined,
): boolean {
  if (!a || !b) return a === b;
  return (
    comparePositions(a.position, b.position) === 0 &&
    Buffer.compare(a.state ?? NOTHING, b.state ?? NOTHING) === 0
  );
}

const NOTHING = new Uint8Array();
