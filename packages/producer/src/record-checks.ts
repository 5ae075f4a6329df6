// The global of that name is a getter: a call each time it is used.
import { Buffer } from 'node:buffer';

import { ShardlineError } from '@shardline/shared';

/** Characters, at most. @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecordsRequestEntry.html */
const MAX_PARTITION_KEY_CHARACTERS = 256;

/** @throws ShardlineError `INVALID_RECORD`. */
export function checkPartitionKey(partitionKey: unknown): asserts partitionKey is string {
  if (typeof partitionKey !== 'string') {
    throw new ShardlineError(
      'INVALID_RECORD',
      `a partition key must be a string, got ${typeof partitionKey}`,
      {
        value: typeof partitionKey,
      },
    );
  }
  // As many UTF-16 units are at most as many characters.
  if (partitionKey.length >= 1 && partitionKey.length <= MAX_PARTITION_KEY_CHARACTERS) return;
  const characters = Array.from(partitionKey).length;
  if (characters >= 1 && characters <= MAX_PARTITION_KEY_CHARACTERS) return;
  throw new ShardlineError(
    'INVALID_RECORD',
    `a partition key must have 1 to ${MAX_PARTITION_KEY_CHARACTERS} characters, got ${characters}`,
    { value: characters, limit: `1 to ${MAX_PARTITION_KEY_CHARACTERS}`, unit: 'characters' },
  );
}

/** @throws ShardlineError `INVALID_RECORD` unless data are bytes, or text that is to be UTF-8. */
export function bytesOfData(data: unknown): Uint8Array {
  if (typeof data === 'string') return Buffer.from(data);
  if (data instanceof Uint8Array) return data;
  throw new ShardlineError('INVALID_RECORD', `data must be a string or bytes, got ${typeof data}`, {
    value: typeof data,
  });
}

/**
 * @param bytes - Of data and partition key.
 * @throws ShardlineError `RECORD_TOO_LARGE`.
 */
export function checkSize(bytes: number, limit: number): void {
  if (bytes <= limit) return;
  throw new ShardlineError(
    'RECORD_TOO_LARGE',
    `data and partition key must have at most ${limit} bytes, got ${bytes} bytes`,
    { value: bytes, limit, unit: 'bytes' },
  );
}
