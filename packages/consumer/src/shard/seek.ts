import { type Position, ShardlineError } from '@shardline/shared';

import type { LeaseStore } from '../lease/lease-store.js';
import { isFinished, type Lease, ownerOf, progressAt, type SeekTarget } from '../lease/lease.js';
import { compareShardIds } from './shard-sync.js';

/**
 * Where an application is to go on from.
 *
 * - `'TRIM_HORIZON'`: the oldest records there are, shards that were finished included.
 * - `'LATEST'`: what comes from now on.
 * - `timestamp`: the first record that arrived then or later, by the service's clock.
 * - `shardId` with `sequenceNumber`: a record of one shard, that one included; other shards stay.
 */
export type SeekTo =
  | 'TRIM_HORIZON'
  | 'LATEST'
  | { readonly timestamp: Date }
  | {
      readonly shardId: string;
      /** Needed if the application reads several streams. */
      readonly streamName?: string;
      readonly sequenceNumber: string;
      /** @defaultValue 0 */
      readonly subSequenceNumber?: number;
    };

/** What a seek does to one shard. */
export interface SeekMove {
  readonly shardId: string;
  /** If the application reads several streams: `account:name:creationSeconds`. */
  readonly streamId: string | undefined;
  readonly from: Position;
  readonly to: Position;
  /** Who reads the shard: it is asked to go there. Undefined if nobody does: it is moved at once. */
  readonly owner: string | undefined;
}

/** A move with what carries it out. */
export interface PlannedMove extends SeekMove {
  readonly lease: Lease;
  readonly target: SeekTarget;
}

/**
 * Plans a seek: what becomes of each lease. Shards nobody reads come first, parents before children,
 * so that no child that is asked to begin anew finds its parent finished still.
 *
 * @throws ShardlineError `INVALID_OPTION` if there is no such shard.
 */
export function planSeek(leases: readonly Lease[], to: SeekTo): PlannedMove[] {
  if (typeof to === 'object' && 'shardId' in to) {
    const lease = leases.find(
      ({ shardId, streamId }) =>
        shardId === to.shardId &&
        (streamId === undefined || streamId.split(':')[1] === to.streamName),
    );
    if (!lease) {
      throw new ShardlineError('INVALID_OPTION', `there is no lease of shard '${to.shardId}'`, {
        value: to.shardId,
      });
    }
    return [moveTo(lease, justBefore(to.sequenceNumber, to.subSequenceNumber ?? 0), undefined)];
  }
  const timestampMs = typeof to === 'object' ? to.timestamp.getTime() : undefined;
  const position = {
    sequenceNumber: typeof to === 'object' ? 'AT_TIMESTAMP' : to,
    subSequenceNumber: 0,
  };
  return leases
    .filter((lease) => to !== 'LATEST' || !isFinished(lease))
    .map((lease) => moveTo(lease, position, timestampMs))
    .sort(
      (a, b) =>
        Number(a.owner !== undefined) - Number(b.owner !== undefined) ||
        compareShardIds(a.shardId, b.shardId),
    );
}

/** Carries out a planned seek. @returns The moves that were made or asked for. */
export async function carryOutSeek(
  store: LeaseStore,
  moves: readonly PlannedMove[],
): Promise<SeekMove[]> {
  const done: SeekMove[] = [];
  for (const { lease, target, ...move } of moves) {
    const progress = progressAt(target.position, target.timestampMs);
    const isMoved =
      move.owner === undefined && (await store.seek(lease, undefined, progress)) !== undefined;
    // Somebody has taken it meanwhile, or reads it: then that worker goes there.
    if (isMoved || (await store.requestSeek(lease.leaseKey, target))) done.push(move);
  }
  return done;
}

function moveTo(lease: Lease, position: Position, timestampMs: number | undefined): PlannedMove {
  return {
    shardId: lease.shardId,
    streamId: lease.streamId,
    from: lease.checkpoint,
    to: position,
    owner: ownerOf(lease),
    lease,
    target: { position, timestampMs },
  };
}

/** The checkpoint with which the record at a place is the next to be handled. */
function justBefore(sequenceNumber: string, subSequenceNumber: number): Position {
  // Reading begins at the number itself, and drops what is at or before the checkpoint.
  return { sequenceNumber, subSequenceNumber: subSequenceNumber - 1 };
}
