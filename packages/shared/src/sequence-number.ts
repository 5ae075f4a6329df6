/** What a checkpoint holds in place of a number. */
export const SENTINELS = ['AT_TIMESTAMP', 'TRIM_HORIZON', 'LATEST', 'SHARD_END'] as const;

export type Sentinel = (typeof SENTINELS)[number];

/** A place in a shard: a Kinesis record, and a user record inside it. */
export interface Position {
  /** A decimal sequence number or a {@link Sentinel}. */
  readonly sequenceNumber: string;
  /** 0 for the first user record of a Kinesis record, and for sentinels. */
  readonly subSequenceNumber: number;
}

export function isSentinel(sequenceNumber: string): sequenceNumber is Sentinel {
  return (SENTINELS as readonly string[]).includes(sequenceNumber);
}

/**
 * Negative if `a` is before `b`, 0 if equal. AT_TIMESTAMP < TRIM_HORIZON < LATEST < any number <
 * SHARD_END, the KCL's order.
 */
export function compareSequenceNumbers(a: string, b: string): number {
  if (a === b) return 0;
  const rankA = rank(a);
  const rankB = rank(b);
  if (rankA !== rankB) return rankA - rankB;
  // Canonical decimals: the longer is the greater, and equal lengths compare as text.
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : 1;
}

/** {@link compareSequenceNumbers}, then the user record inside the Kinesis record. */
export function comparePositions(a: Position, b: Position): number {
  return (
    compareSequenceNumbers(a.sequenceNumber, b.sequenceNumber) ||
    a.subSequenceNumber - b.subSequenceNumber
  );
}

const NUMBER_RANK = 3;

function rank(sequenceNumber: string): number {
  switch (sequenceNumber) {
    case 'AT_TIMESTAMP':
      return 0;
    case 'TRIM_HORIZON':
      return 1;
    case 'LATEST':
      return 2;
    case 'SHARD_END':
      return 4;
    default:
      return NUMBER_RANK;
  }
}
