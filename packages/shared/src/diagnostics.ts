import { channel, type Channel } from 'node:diagnostics_channel';

import type { ShardlineError } from './errors.js';

/** One PutRecords request has been answered, or failed as a whole. */
export interface PutRequestMessage {
  readonly streamName: string;
  readonly kinesisRecords: number;
  readonly userRecords: number;
  /** Data and partition keys, before base64. */
  readonly bytes: number;
  readonly failedRecords: number;
  readonly durationMs: number;
  readonly error: ShardlineError | undefined;
}

/** User records of one Kinesis record were stored or given up. */
export interface SettledMessage {
  readonly streamName: string;
  readonly userRecords: number;
  readonly attempts: number;
  /** From `put` of the first of them. */
  readonly ageMs: number;
  /** Undefined if they were given up. */
  readonly shardId: string | undefined;
  /** The error's code if they were given up. */
  readonly error: string | undefined;
}

/** A producer looked at the stream's shards again. */
export interface ShardMapMessage {
  readonly streamName: string;
  readonly openShards: number;
  readonly reason: 'start' | 'periodic' | 'mispredicted';
}

/** A worker gained, lost or gave away a lease. */
export interface LeaseMessage {
  readonly workerId: string;
  readonly leaseKey: string;
  readonly change: 'taken' | 'stolen' | 'lost' | 'released' | 'finished';
}

/** One owned shard moved from one state to another. */
export interface ShardStateMessage {
  readonly workerId: string;
  readonly shardId: string;
  readonly state: string;
  readonly reason: string;
}

/** One answer to a read: a GetRecords call or an event of a subscription. */
export interface FetchMessage {
  readonly shardId: string;
  readonly retrieval: 'polling' | 'fanOut';
  readonly kinesisRecords: number;
  readonly bytes: number;
  readonly millisBehindLatest: number;
}

/** A handler failed; it will be called again with the same records. */
export interface HandlerFailureMessage {
  readonly shardId: string;
  readonly attempt: number;
  readonly error: unknown;
}

/** A position was stored. */
export interface CheckpointMessage {
  readonly leaseKey: string;
  readonly sequenceNumber: string;
  readonly subSequenceNumber: number;
}

/**
 * Everything Shardline tells machines, by `node:diagnostics_channel` name. A message is built only if
 * somebody listens. Record data, partition keys and credentials are never published.
 */
export interface DiagnosticsMessages {
  'shardline:producer:request': PutRequestMessage;
  'shardline:producer:settled': SettledMessage;
  'shardline:producer:shard-map': ShardMapMessage;
  'shardline:consumer:lease': LeaseMessage;
  'shardline:consumer:shard-state': ShardStateMessage;
  'shardline:consumer:fetch': FetchMessage;
  'shardline:consumer:handler-failure': HandlerFailureMessage;
  'shardline:consumer:checkpoint': CheckpointMessage;
}

const channels = new Map<keyof DiagnosticsMessages, Channel>();

/** Publishes what `build` returns, if anybody listens on `name`. */
export function publishDiagnostics<Name extends keyof DiagnosticsMessages>(
  name: Name,
  build: () => DiagnosticsMessages[Name],
): void {
  let target = channels.get(name);
  if (target === undefined) {
    target = channel(name);
    channels.set(name, target);
  }
  if (target.hasSubscribers) target.publish(build());
}
