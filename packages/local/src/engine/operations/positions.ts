import { parseSequenceNumber } from '../sequence-numbers.js';
import { invalidArgument } from '../service-fault.js';
import { type Shard, shardIdOf } from '../shard.js';

/** Where to begin to read, as GetShardIterator and SubscribeToShard take it. */
export interface StartingPosition {
  readonly type: string;
  readonly sequenceNumber: string | undefined;
  readonly timestamp: Date | undefined;
}

/** The counter of the first record to read. */
export function counterOf(shard: Shard, position: StartingPosition, now: number): number {
  switch (position.type) {
    case 'TRIM_HORIZON':
      return shard.horizon;
    case 'LATEST':
      return shard.tip;
    case 'AT_TIMESTAMP':
      return counterAtTimestamp(shard, position.timestamp, now);
    case 'AT_SEQUENCE_NUMBER':
      return counterAtSequenceNumber(shard, position.sequenceNumber);
    default:
      return counterAtSequenceNumber(shard, position.sequenceNumber) + 1;
  }
}

function counterAtTimestamp(shard: Shard, timestamp: Date | undefined, now: number): number {
  if (!timestamp) {
    throw invalidArgument(
      'Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP.',
    );
  }
  if (timestamp.getTime() > now) {
    throw invalidArgument(
      'The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. ' +
        `timestampInMillis: ${timestamp.getTime()}, currentTimestampInMillis: ${now}`,
    );
  }
  return shard.counterAtTime(timestamp.getTime());
}

function counterAtSequenceNumber(shard: Shard, text: string | undefined): number {
  if (text === undefined) {
    throw invalidArgument('Must specify startingSequenceNumber parameter for this iterator type.');
  }
  const fields = parseSequenceNumber(text);
  if (!fields) {
    throw invalidArgument(
      `StartingSequenceNumber ${text} used in GetShardIterator on shard ${shard.id} is invalid.`,
    );
  }
  if (fields.shardIndex !== shard.birth.index) {
    throw invalidArgument(
      `Invalid StartingSequenceNumber. It encodes ${shardIdOf(fields.shardIndex)}, while it was used in a call to a shard with ${shard.id}`,
    );
  }
  return Math.min(fields.counter, shard.tip);
}
