import { type HashKeyWords, parseHashKey } from '../hash-key.js';
import { checkChecksums, hashParts } from '../md5/checksums.js';
import {
  AGGREGATE_MAGIC,
  CHECKSUM_BYTES,
  ENVELOPE_BYTES,
  ORIGIN_TAG,
  startsLikeAggregate,
  TAG,
} from './format.js';

/** Why bytes that begin like an aggregate are not a whole one. */
export type AggregateDamage = 'checksum' | 'malformed' | 'index';

/**
 * The user records of one aggregate, in order. Data are views of the bytes that were decoded, not
 * copies.
 */
export interface DecodedAggregate {
  readonly count: number;
  partitionKey(index: number): string;
  /** Undefined where the writer gave none; then the hash key is the MD5 of the partition key. */
  explicitHashKey(index: number): string | undefined;
  /** The hash key by which the record finds its shard. */
  hashKey(index: number, out: HashKeyWords): void;
  data(index: number): Buffer;
  /** What a producer marked the record with so that copies are known. */
  origin(index: number): string | undefined;
}

export type AggregateDecoding =
  /** Not in the aggregated format: the bytes are the user's own. */
  | { readonly kind: 'plain' }
  | { readonly kind: 'aggregate'; readonly aggregate: DecodedAggregate }
  /** `prefix` holds the user records before the damage; it is empty unless `damage` is `index`. */
  | {
      readonly kind: 'damaged';
      readonly damage: AggregateDamage;
      readonly prefix: DecodedAggregate;
    };

const PLAIN: AggregateDecoding = { kind: 'plain' };

/** True for bytes whose checksum says whether they are an aggregate. */
export function mayBeAggregate(bytes: Uint8Array): boolean {
  return bytes.length > ENVELOPE_BYTES && startsLikeAggregate(bytes);
}

/** Whether the checksums of several aggregates are right: side by side that takes a quarter of the time. */
export function checkAggregates(aggregates: readonly Uint8Array[]): boolean[] {
  return checkChecksums(aggregates, AGGREGATE_MAGIC.length);
}

/**
 * Takes an aggregated record apart, accepting fields in any order, unknown fields and repeated
 * singular fields (the last counts), as protobuf asks of readers. The checksum is always verified.
 *
 * @param isRight - What {@link checkAggregates} said of it, if it was asked.
 */
export function decodeAggregate(bytes: Uint8Array, isRight?: boolean): AggregateDecoding {
  if (!mayBeAggregate(bytes)) return PLAIN;
  const buffer = asBuffer(bytes);
  const end = buffer.length - CHECKSUM_BYTES;
  if (!(isRight ?? checkAggregates([buffer])[0])) {
    return { kind: 'damaged', damage: 'checksum', prefix: new Message(buffer) };
  }
  const message = new Message(buffer);
  if (!message.parse(AGGREGATE_MAGIC.length, end)) {
    return { kind: 'damaged', damage: 'malformed', prefix: new Message(buffer) };
  }
  return message.keepValidIndexes()
    ? { kind: 'aggregate', aggregate: message }
    : { kind: 'damaged', damage: 'index', prefix: message };
}

/** A Buffer over the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const WIRE_VARINT = 0;
const WIRE_FIXED_64 = 1;
const WIRE_BYTES = 2;
const WIRE_GROUP_START = 3;
const WIRE_GROUP_END = 4;
const WIRE_FIXED_32 = 5;
const ABSENT = -1;
const NO_HASHES = new Uint32Array(0);

/** Parallel arrays rather than an object a record: half the garbage for the same answer. */
class Message implements DecodedAggregate {
  readonly #buffer: Buffer;
  readonly #partitionKeys: string[] = [];
  readonly #keyStarts: number[] = [];
  readonly #keyEnds: number[] = [];
  /** Of all partition keys, four words each; empty until one is asked for. */
  #hashes = NO_HASHES;
  readonly #explicitHashKeys: string[] = [];
  readonly #keyIndexes: number[] = [];
  readonly #hashIndexes: number[] = [];
  readonly #dataStarts: number[] = [];
  readonly #dataEnds: number[] = [];
  /** By record; few producers mark theirs. */
  readonly #origins = new Map<number, string>();
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
  }

  get count(): number {
    return this.#keyIndexes.length;
  }

  partitionKey(index: number): string {
    return this.#partitionKeys[this.#keyIndexes[index] ?? ABSENT] ?? '';
  }

  explicitHashKey(index: number): string | undefined {
    const hashIndex = this.#hashIndexes[index] ?? ABSENT;
    // Asked first: a look-up at -1 takes ten times as long as one that finds something.
    return hashIndex === ABSENT ? undefined : this.#explicitHashKeys[hashIndex];
  }

  hashKey(index: number, out: HashKeyWords): void {
    const explicitHashKey = this.explicitHashKey(index);
    if (explicitHashKey !== undefined && parseHashKey(explicitHashKey, out)) return;
    if (this.#hashes.length === 0) {
      this.#hashes = new Uint32Array(this.#keyStarts.length * 4);
      hashParts(this.#buffer, this.#keyStarts, this.#keyEnds, this.#hashes);
    }
    const at = (this.#keyIndexes[index] as number) * 4;
    for (let word = 0; word < 4; word += 1) out[word] = this.#hashes[at + word] as number;
  }

  data(index: number): Buffer {
    return this.#buffer.subarray(this.#dataStarts[index], this.#dataEnds[index]);
  }

  origin(index: number): string | undefined {
    return this.#origins.get(index);
  }

  /** Drops the first record whose index points outside a table, and all behind it; true if none does. */
  keepValidIndexes(): boolean {
    const keys = this.#partitionKeys.length;
    const hashes = this.#explicitHashKeys.length;
    for (let index = 0; index < this.count; index += 1) {
      if ((this.#keyIndexes[index] ?? 0) < keys && (this.#hashIndexes[index] ?? 0) < hashes)
        continue;
      this.#keyIndexes.length = index;
      return false;
    }
    return true;
  }

  parse(start: number, end: number): boolean {
    this.#at = start;
    while (this.#at < end) {
      const tag = this.#varint(end);
      const wire = tag % 8;
      const field = Math.floor(tag / 8);
      if (tag < 0 || field === 0) return false;
      if (wire === WIRE_BYTES && field >= 1 && field <= 3) {
        const length = this.#varint(end);
        const valueEnd = this.#at + length;
        if (length < 0 || valueEnd > end) return false;
        if (field === 3) {
          if (!this.#record(valueEnd)) return false;
        } else {
          const key = this.#buffer.toString('utf8', this.#at, valueEnd);
          if (field === 2) this.#explicitHashKeys.push(key);
          else {
            this.#partitionKeys.push(key);
            this.#keyStarts.push(this.#at);
            this.#keyEnds.push(valueEnd);
          }
        }
        this.#at = valueEnd;
      } else if (!this.#skip(field, wire, end)) {
        return false;
      }
    }
    return true;
  }

  #record(end: number): boolean {
    let keyIndex = ABSENT;
    let hashIndex = ABSENT;
    let dataStart = ABSENT;
    let dataEnd = ABSENT;
    while (this.#at < end) {
      const tag = this.#varint(end);
      const wire = tag % 8;
      const field = Math.floor(tag / 8);
      if (tag < 0 || field === 0) return false;
      if (wire === WIRE_VARINT && (field === 1 || field === 2)) {
        const value = this.#varint(end);
        if (value < 0) return false;
        if (field === 1) keyIndex = value;
        else hashIndex = value;
      } else if (wire === WIRE_BYTES && field === 3) {
        const length = this.#varint(end);
        dataStart = this.#at;
        dataEnd = dataStart + length;
        if (length < 0 || dataEnd > end) return false;
        this.#at = dataEnd;
      } else if (wire === WIRE_BYTES && field === 4) {
        const length = this.#varint(end);
        const tagEnd = this.#at + length;
        if (length < 0 || tagEnd > end) return false;
        this.#tag(tagEnd);
        this.#at = tagEnd;
      } else if (!this.#skip(field, wire, end)) {
        return false;
      }
    }
    if (keyIndex === ABSENT || dataStart === ABSENT) return false;
    this.#keyIndexes.push(keyIndex);
    this.#hashIndexes.push(hashIndex);
    this.#dataStarts.push(dataStart);
    this.#dataEnds.push(dataEnd);
    return true;
  }

  /** Notes the origin of the record being read; a tag that says anything else is nobody's business. */
  #tag(end: number): void {
    let isOrigin = false;
    let value: string | undefined;
    while (this.#at < end) {
      const tag = this.#varint(end);
      const length = this.#varint(end);
      const valueEnd = this.#at + length;
      if (tag < 0 || length < 0 || valueEnd > end) return;
      const text = this.#buffer.toString('utf8', this.#at, valueEnd);
      if (tag === TAG.tagKey) isOrigin = text === ORIGIN_TAG;
      else if (tag === TAG.tagValue) value = text;
      this.#at = valueEnd;
    }
    if (isOrigin && value !== undefined) this.#origins.set(this.count, value);
  }

  /** The next varint, at most 64 bits, or -1 where the bytes end first or hold more than 64 bits. */
  #varint(end: number): number {
    const buffer = this.#buffer;
    let at = this.#at;
    const first = buffer[at] as number;
    if (at < end && first < 0x80) {
      this.#at = at + 1;
      return first;
    }
    let value = 0;
    let scale = 1;
    for (let length = 0; length < 10 && at < end; length += 1) {
      const byte = buffer[at] as number;
      at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        this.#at = at;
        return value;
      }
      scale *= 128;
    }
    return -1;
  }

  #skip(field: number, wire: number, end: number): boolean {
    let length: number;
    switch (wire) {
      case WIRE_VARINT:
        return this.#varint(end) >= 0;
      case WIRE_FIXED_64:
        length = 8;
        break;
      case WIRE_BYTES:
        length = this.#varint(end);
        break;
      case WIRE_FIXED_32:
        length = 4;
        break;
      case WIRE_GROUP_START:
        return this.#skipGroup(field, end);
      default:
        return false;
    }
    if (length < 0 || this.#at + length > end) return false;
    this.#at += length;
    return true;
  }

  /** Skips to the end of a group, keeping the open groups in a list: nesting cannot exhaust the stack. */
  #skipGroup(field: number, end: number): boolean {
    const open = [field];
    while (open.length > 0) {
      if (this.#at >= end) return false;
      const tag = this.#varint(end);
      const wire = tag % 8;
      const inner = Math.floor(tag / 8);
      if (tag < 0 || inner === 0) return false;
      if (wire === WIRE_GROUP_START) open.push(inner);
      else if (wire === WIRE_GROUP_END) {
        if (open.pop() !== inner) return false;
      } else if (!this.#skip(inner, wire, end)) {
        return false;
      }
    }
    return true;
  }
}
