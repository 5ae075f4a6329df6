/** First bytes of an aggregated record. */
export const AGGREGATE_MAGIC = Buffer.from([0xf3, 0x89, 0x9a, 0xc2]);

/** Bytes of the MD5 behind the message. */
export const CHECKSUM_BYTES = 16;

/** Bytes every aggregate has besides its protobuf message. */
export const ENVELOPE_BYTES = AGGREGATE_MAGIC.length + CHECKSUM_BYTES;

/** Tag bytes of the protobuf fields: `field number << 3 | wire type`. */
export const TAG = {
  partitionKeyTable: 0x0a,
  explicitHashKeyTable: 0x12,
  record: 0x1a,
  partitionKeyIndex: 0x08,
  explicitHashKeyIndex: 0x10,
  data: 0x1a,
  tag: 0x22,
  tagKey: 0x0a,
  tagValue: 0x12,
} as const;

/**
 * Key of the tag by which a producer marks a user record so that readers know a copy of it. Its value
 * is the producer's id, a colon and a decimal number that is different for each of its records.
 */
export const ORIGIN_TAG = 'o';

/** Bytes of a number as a protobuf varint. */
export function varintBytes(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x200000) return 3;
  if (value < 0x10000000) return 4;
  return 5;
}

/** True if other readers would take these bytes for an aggregate, whatever follows the magic. */
export function startsLikeAggregate(data: Uint8Array): boolean {
  return data[0] === 0xf3 && data[1] === 0x89 && data[2] === 0x9a && data[3] === 0xc2;
}
