// The global of that name is a getter: a call each time it is used.
import { Buffer } from 'node:buffer';

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

/** Numbers of a record in the list of all: its indexes into the key tables, and where its data begin and end. */
const NUMBERS = 4;
const NO_NUMBERS: readonly number[] = [];
/** Filled while an aggregate is read and copied then: a list that is new grows a dozen times. */
const recordNumbers: number[] = [];
const keyNumbers: number[] = [];
/** What a larger aggregate took is not kept for the next. */
const MOST_KEPT_NUMBERS = 2 ** 16;

/** Lists of numbers rather than an object a record: half the garbage for the same answer. */
class Message implements DecodedAggregate {
  /** Records before the first that is damaged. */
  count = 0;
  readonly #buffer: Buffer;
  /** What {@link data} are views of: to ask a Buffer for it takes longer than to make a view. */
  readonly #memory: ArrayBufferLike;
  readonly #memoryStart: number;
  readonly #partitionKeys: string[] = [];
  /** Where each of the partition keys begins and ends. */
  #keyBounds = NO_NUMBERS;
  /** Of all partition keys, four words each; empty until one is asked for. */
  #hashes = NO_HASHES;
  readonly #explicitHashKeys: string[] = [];
  #records = NO_NUMBERS;
  /** By record; few producers mark theirs. */
  #origins: Map<number, string> | undefined;
  #at = 0;

  constructor(buffer: Buffer) {
    this.#buffer = buffer;
    this.#memory = buffer.buffer;
    this.#memoryStart = buffer.byteOffset;
  }

  partitionKey(index: number): string {
    return this.#partitionKeys[this.#keyIndex(index)] ?? '';
  }

  explicitHashKey(index: number): string | undefined {
    const hashIndex = this.#hashIndex(index);
    // Asked first: a look-up at -1 takes ten times as long as one that finds something.
    return hashIndex === ABSENT ? undefined : this.#explicitHashKeys[hashIndex];
  }

  hashKey(index: number, out: HashKeyWords): void {
    const explicitHashKey = this.explicitHashKey(index);
    if (explicitHashKey !== undefined && parseHashKey(explicitHashKey, out)) return;
    if (this.#hashes.length === 0) {
      this.#hashes = new Uint32Array(this.#partitionKeys.length * 4);
      hashParts(this.#buffer, this.#keyBounds, this.#hashes);
    }
    const at = this.#keyIndex(index) * 4;
    for (let word = 0; word < 4; word += 1) out[word] = this.#hashes[at + word] as number;
  }

  data(index: number): Buffer {
    const start = this.#records[index * NUMBERS + 2] as number;
    const end = this.#records[index * NUMBERS + 3] as number;
    // Takes three quarters of the time of `subarray`.
    return Buffer.from(this.#memory, this.#memoryStart + start, end - start);
  }

  origin(index: number): string | undefined {
    return this.#origins?.get(index);
  }

  /** Drops the first record whose index points outside a table, and all behind it; true if none does. */
  keepValidIndexes(): boolean {
    const keys = this.#partitionKeys.length;
    const hashes = this.#explicitHashKeys.length;
    const { count } = this;
    for (let index = 0; index < count; index += 1) {
      if (this.#keyIndex(index) < keys && this.#hashIndex(index) < hashes) continue;
      this.count = index;
      return false;
    }
    return true;
  }

  parse(start: number, end: number): boolean {
    this.#at = start;
    while (this.#at < end) {
      const tag = this.#varint(end);
      switch (tag) {
        case TAG.record:
        case TAG.partitionKeyTable:
        case TAG.explicitHashKeyTable: {
          const valueEnd = this.#lengthEnd(end);
          if (valueEnd === ABSENT) return false;
          if (tag !== TAG.record) this.#key(tag, valueEnd);
          else if (!this.#record(valueEnd)) return false;
          this.#at = valueEnd;
          break;
        }
        default:
          if (!this.#skip(tag, end)) return false;
      }
    }
    this.#records = cutOut(recordNumbers, this.count * NUMBERS);
    this.#keyBounds = cutOut(keyNumbers, this.#partitionKeys.length * 2);
    return true;
  }

  #keyIndex(index: number): number {
    return this.#records[index * NUMBERS] as number;
  }

  #hashIndex(index: number): number {
    return this.#records[index * NUMBERS + 1] as number;
  }

  #key(tag: number, end: number): void {
    const key = this.#buffer.toString('utf8', this.#at, end);
    if (tag === TAG.explicitHashKeyTable) {
      this.#explicitHashKeys.push(key);
      return;
    }
    const at = this.#partitionKeys.push(key) * 2;
    keyNumbers[at - 2] = this.#at;
    keyNumbers[at - 1] = end;
  }

  #record(end: number): boolean {
    let keyIndex = ABSENT;
    let hashIndex = ABSENT;
    let dataStart = ABSENT;
    let dataEnd = ABSENT;
    while (this.#at < end) {
      const tag = this.#varint(end);
      switch (tag) {
        case TAG.partitionKeyIndex:
          keyIndex = this.#varint(end);
          if (keyIndex < 0) return false;
          break;
        case TAG.explicitHashKeyIndex:
          hashIndex = this.#varint(end);
          if (hashIndex < 0) return false;
          break;
        case TAG.data:
          dataEnd = this.#lengthEnd(end);
          if (dataEnd === ABSENT) return false;
          dataStart = this.#at;
          this.#at = dataEnd;
          break;
        case TAG.tag: {
          const tagEnd = this.#lengthEnd(end);
          if (tagEnd === ABSENT) return false;
          this.#tag(tagEnd);
          this.#at = tagEnd;
          break;
        }
        default:
          if (!this.#skip(tag, end)) return false;
      }
    }
    if (keyIndex === ABSENT || dataStart === ABSENT) return false;
    const at = this.count * NUMBERS;
    recordNumbers[at] = keyIndex;
    recordNumbers[at + 1] = hashIndex;
    recordNumbers[at + 2] = dataStart;
    recordNumbers[at + 3] = dataEnd;
    this.count += 1;
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
    if (isOrigin && value !== undefined) (this.#origins ??= new Map()).set(this.count, value);
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

  /** Reads a length. @returns Where what is so long ends, or -1 if that is not inside. */
  #lengthEnd(end: number): number {
    const length = this.#varint(end);
    const valueEnd = this.#at + length;
    return length < 0 || valueEnd > end ? ABSENT : valueEnd;
  }

  /** Skips a field whose tag was read. @returns False if it was none, or does not end inside. */
  #skip(tag: number, end: number): boolean {
    const wire = tag % 8;
    const field = Math.floor(tag / 8);
    if (tag < 0 || field === 0) return false;
    let valueEnd: number;
    switch (wire) {
      case WIRE_VARINT:
        return this.#varint(end) >= 0;
      case WIRE_FIXED_64:
        valueEnd = this.#at + 8;
        break;
      case WIRE_BYTES:
        valueEnd = this.#lengthEnd(end);
        break;
      case WIRE_FIXED_32:
        valueEnd = this.#at + 4;
        break;
      case WIRE_GROUP_START:
        return this.#skipGroup(field, end);
      default:
        return false;
    }
    if (valueEnd === ABSENT || valueEnd > end) return false;
    this.#at = valueEnd;
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
      } else if (!this.#skip(tag, end)) {
        return false;
      }
    }
    return true;
  }
}

/** A copy of the first numbers of a list that is filled again. */
function cutOut(numbers: number[], count: number): readonly number[] {
  const copy = numbers.slice(0, count);
  if (numbers.length > MOST_KEPT_NUMBERS) numbers.length = 0;
  return copy;
}
