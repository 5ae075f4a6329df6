/**
 * Sequence numbers as the service lays them out: 47 hexadecimal digits, written in decimal.
 *
 * | digits | content |
 * |---|---|
 * | 1 | `2` |
 * | 2-10 | creation of the shard, epoch seconds |
 * | 11 | shard index, lowest 4 bits |
 * | 12-27 | counter |
 * | 28-29 | `00` |
 * | 30-38 | time of the record, epoch seconds |
 * | 39-46 | shard index |
 * | 47 | `2` |
 */
export interface SequenceNumberFields {
  readonly shardIndex: number;
  readonly shardCreatedAtSeconds: number;
  /** Counts the records of a shard from 1; 0 is the shard's beginning. */
  readonly counter: number;
  readonly atSeconds: number;
}

/** Counter of a closed shard's EndingSequenceNumber. */
const END_COUNTER = '7fffffffffffffff';

export function formatSequenceNumber(fields: SequenceNumberFields): string {
  return format(fields, hex(fields.counter, 16));
}

/** The EndingSequenceNumber of a shard that has been closed: greater than all its records'. */
export function endingSequenceNumber(fields: Omit<SequenceNumberFields, 'counter'>): string {
  return format(fields, END_COUNTER);
}

/** The fields of a sequence number, or undefined if the text cannot be one. */
export function parseSequenceNumber(text: string): SequenceNumberFields | undefined {
  if (!/^\d{1,129}$/.test(text)) return undefined;
  const digits = BigInt(text).toString(16);
  if (digits.length !== 47 || digits[0] !== '2' || digits[46] !== '2') return undefined;
  const counter = digits.slice(11, 27);
  return {
    shardCreatedAtSeconds: Number.parseInt(digits.slice(1, 10), 16),
    counter: counter === END_COUNTER ? Number.MAX_SAFE_INTEGER : Number.parseInt(counter, 16),
    atSeconds: Number.parseInt(digits.slice(29, 38), 16),
    shardIndex: Number.parseInt(digits.slice(38, 46), 16),
  };
}

function format(fields: Omit<SequenceNumberFields, 'counter'>, counter: string): string {
  const digits =
    `2${hex(fields.shardCreatedAtSeconds, 9)}${(fields.shardIndex % 16).toString(16)}${counter}` +
    `00${hex(fields.atSeconds, 9)}${hex(fields.shardIndex, 8)}2`;
  return BigInt(`0x${digits}`).toString();
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
