import { createHash } from 'node:crypto';

import {
  AGGREGATE_MAGIC,
  CHECKSUM_BYTES,
  ENVELOPE_BYTES,
  ORIGIN_TAG,
  TAG,
  varintBytes,
} from './format.js';

const SMALLEST_REGION_BYTES = 1024;
const SHORT_TEXT_BYTES = 64;
const ABSENT = -1;

/**
 * Builds one record in the KPL's aggregated format, byte for byte as the KPL does, knowing its exact
 * size at every moment. Knows nothing about shards, limits or time.
 *
 * Data is copied once, on {@link add}. Explicit hash keys must be canonical decimals.
 */
export class AggregateEncoder {
  readonly #partitionKeys = new StringTable(TAG.partitionKeyTable);
  readonly #explicitHashKeys = new StringTable(TAG.explicitHashKeyTable);
  readonly #records = new Region();
  #count = 0;

  /** User records added. */
  get count(): number {
    return this.#count;
  }

  /** Exact length of what {@link finish} would return now. */
  get sizeBytes(): number {
    return (
      ENVELOPE_BYTES +
      this.#partitionKeys.sizeBytes +
      this.#explicitHashKeys.sizeBytes +
      this.#records.length
    );
  }

  /** Exact length of what {@link finish} would return after adding this record. */
  sizeBytesWith(
    partitionKey: string,
    partitionKeyBytes: number,
    explicitHashKey: string | undefined,
    dataBytes: number,
    origin?: string,
  ): number {
    const keyIndex = this.#partitionKeys.indexOf(partitionKey);
    let size = this.sizeBytes;
    if (keyIndex < 0) size += entryBytes(partitionKeyBytes);
    let inner =
      1 +
      varintBytes(keyIndex < 0 ? this.#partitionKeys.count : keyIndex) +
      dataFieldBytes(dataBytes);
    if (explicitHashKey !== undefined) {
      const hashIndex = this.#explicitHashKeys.indexOf(explicitHashKey);
      if (hashIndex < 0) size += entryBytes(explicitHashKey.length);
      inner += 1 + varintBytes(hashIndex < 0 ? this.#explicitHashKeys.count : hashIndex);
    }
    if (origin !== undefined) inner += tagFieldBytes(origin);
    return size + 1 + varintBytes(inner) + inner;
  }

  /**
   * @param partitionKeyBytes - The key's length in UTF-8.
   * @param origin - ASCII of at most 100 characters that marks the record; other readers ignore it.
   */
  add(
    partitionKey: string,
    partitionKeyBytes: number,
    explicitHashKey: string | undefined,
    data: Uint8Array,
    origin?: string,
  ): void {
    const keyIndex = this.#partitionKeys.intern(partitionKey, partitionKeyBytes);
    let inner = 1 + varintBytes(keyIndex) + dataFieldBytes(data.length);
    let hashIndex = -1;
    if (explicitHashKey !== undefined) {
      hashIndex = this.#explicitHashKeys.intern(explicitHashKey, explicitHashKey.length);
      inner += 1 + varintBytes(hashIndex);
    }
    if (origin !== undefined) inner += tagFieldBytes(origin);
    const records = this.#records;
    records.reserve(1 + varintBytes(inner) + inner);
    records.byte(TAG.record);
    records.varint(inner);
    records.byte(TAG.partitionKeyIndex);
    records.varint(keyIndex);
    if (hashIndex >= 0) {
      records.byte(TAG.explicitHashKeyIndex);
      records.varint(hashIndex);
    }
    records.byte(TAG.data);
    records.varint(data.length);
    records.bytes(data);
    if (origin !== undefined) this.#writeTag(origin);
    this.#count += 1;
  }

  #writeTag(origin: string): void {
    const records = this.#records;
    records.byte(TAG.tag);
    records.varint(tagBytes(origin));
    records.byte(TAG.tagKey);
    records.varint(ORIGIN_TAG.length);
    records.text(ORIGIN_TAG, ORIGIN_TAG.length);
    records.byte(TAG.tagValue);
    records.varint(origin.length);
    records.text(origin, origin.length);
  }

  /** The finished record in a buffer of its own. The encoder is unchanged. */
  finish(): Buffer {
    const result = Buffer.allocUnsafe(this.sizeBytes);
    AGGREGATE_MAGIC.copy(result);
    let at = this.#partitionKeys.copyTo(result, AGGREGATE_MAGIC.length);
    at = this.#explicitHashKeys.copyTo(result, at);
    at = this.#records.copyTo(result, at);
    createHash('md5')
      .update(result.subarray(AGGREGATE_MAGIC.length, at))
      .digest()
      .copy(result, at, 0, CHECKSUM_BYTES);
    return result;
  }

  /** Makes it empty again, keeping its memory. */
  reset(): void {
    this.#partitionKeys.reset();
    this.#explicitHashKeys.reset();
    this.#records.length = 0;
    this.#count = 0;
  }
}

function entryBytes(keyBytes: number): number {
  return 1 + varintBytes(keyBytes) + keyBytes;
}

function dataFieldBytes(dataBytes: number): number {
  return 1 + varintBytes(dataBytes) + dataBytes;
}

function tagBytes(origin: string): number {
  return 2 + ORIGIN_TAG.length + 2 + origin.length;
}

function tagFieldBytes(origin: string): number {
  return 2 + tagBytes(origin);
}

/** A repeated string field in which each text stands once. A Map, because objects reorder numeric keys. */
class StringTable {
  readonly #tag: number;
  readonly #indexes = new Map<string, number>();
  readonly #region = new Region();
  /** What was looked up last: the size of a record is asked for before it is added. */
  #lastText: string | undefined;
  #lastIndex = ABSENT;

  constructor(tag: number) {
    this.#tag = tag;
  }

  get count(): number {
    return this.#indexes.size;
  }

  get sizeBytes(): number {
    return this.#region.length;
  }

  indexOf(text: string): number {
    if (this.#lastText === text) return this.#lastIndex;
    this.#lastText = text;
    this.#lastIndex = this.#indexes.get(text) ?? ABSENT;
    return this.#lastIndex;
  }

  intern(text: string, bytes: number): number {
    const known = this.indexOf(text);
    if (known !== ABSENT) return known;
    const index = this.#indexes.size;
    this.#indexes.set(text, index);
    this.#lastIndex = index;
    const region = this.#region;
    region.reserve(entryBytes(bytes));
    region.byte(this.#tag);
    region.varint(bytes);
    region.text(text, bytes);
    return index;
  }

  copyTo(target: Buffer, at: number): number {
    return this.#region.copyTo(target, at);
  }

  reset(): void {
    this.#indexes.clear();
    this.#lastText = undefined;
    this.#region.length = 0;
  }
}

/** Bytes that grow by doubling. Callers reserve before they write. */
class Region {
  length = 0;
  #buffer = Buffer.allocUnsafeSlow(SMALLEST_REGION_BYTES);

  reserve(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.length);
    this.#buffer = larger;
  }

  byte(value: number): void {
    this.#buffer[this.length] = value;
    this.length += 1;
  }

  varint(value: number): void {
    let rest = value;
    while (rest >= 0x80) {
      this.#buffer[this.length] = (rest & 0x7f) | 0x80;
      this.length += 1;
      rest = Math.floor(rest / 128);
    }
    this.#buffer[this.length] = rest;
    this.length += 1;
  }

  text(value: string, bytes: number): void {
    const buffer = this.#buffer;
    if (value.length === bytes && bytes <= SHORT_TEXT_BYTES) {
      // ASCII: as many bytes as characters. A call into the runtime costs more than the loop.
      for (let at = 0; at < bytes; at += 1) buffer[this.length + at] = value.charCodeAt(at);
    } else {
      buffer.write(value, this.length, bytes, 'utf8');
    }
    this.length += bytes;
  }

  bytes(value: Uint8Array): void {
    this.#buffer.set(value, this.length);
    this.length += value.length;
  }

  copyTo(target: Buffer, at: number): number {
    this.#buffer.copy(target, at, 0, this.length);
    return at + this.length;
  }
}
