import { writeChecksums } from '../md5/checksums.js';
import { AGGREGATE_MAGIC, ENVELOPE_BYTES, ORIGIN_TAG, TAG, varintBytes } from './format.js';

const SMALLEST_REGION_BYTES = 512;
const SHORT_TEXT_BYTES = 64;
const ABSENT = -1;
const EMPTY = Buffer.alloc(0);
const FEWEST_SLOTS = 16;

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
    const keyIndex = this.#partitionKeys.indexOf(partitionKey, hashText(partitionKey));
    let size = this.sizeBytes;
    if (keyIndex < 0) size += entryBytes(partitionKeyBytes);
    let inner =
      1 +
      varintBytes(keyIndex < 0 ? this.#partitionKeys.count : keyIndex) +
      dataFieldBytes(dataBytes);
    if (explicitHashKey !== undefined) {
      const hashIndex = this.#explicitHashKeys.indexOf(explicitHashKey, hashText(explicitHashKey));
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
    const keyHash = hashText(partitionKey);
    this.addWithin(
      Infinity,
      partitionKey,
      partitionKeyBytes,
      keyHash,
      explicitHashKey,
      data,
      origin,
    );
  }

  /**
   * As {@link add}, unless {@link finish} would return more bytes than a limit then.
   *
   * @param keyHash - Any number below 2^30 that is always the same for the same key.
   * @returns False if it was not added.
   */
  addWithin(
    maxBytes: number,
    partitionKey: string,
    partitionKeyBytes: number,
    keyHash: number,
    explicitHashKey: string | undefined,
    data: Uint8Array,
    origin: string | undefined,
  ): boolean {
    const partitionKeys = this.#partitionKeys;
    const records = this.#records;
    let keyIndex = partitionKeys.indexOf(partitionKey, keyHash);
    let newBytes = 0;
    const isNewKey = keyIndex === ABSENT;
    if (isNewKey) {
      keyIndex = partitionKeys.count;
      newBytes = entryBytes(partitionKeyBytes);
    }
    let inner = 1 + varintBytes(keyIndex) + dataFieldBytes(data.length);
    let hashIndex = ABSENT;
    let isNewHash = false;
    if (explicitHashKey !== undefined) {
      hashIndex = this.#explicitHashKeys.indexOf(explicitHashKey, hashText(explicitHashKey));
      isNewHash = hashIndex === ABSENT;
      if (isNewHash) {
        hashIndex = this.#explicitHashKeys.count;
        newBytes += entryBytes(explicitHashKey.length);
      }
      inner += 1 + varintBytes(hashIndex);
    }
    if (origin !== undefined) inner += tagFieldBytes(origin);
    const recordBytes = 1 + varintBytes(inner) + inner;
    if (this.sizeBytes + newBytes + recordBytes > maxBytes) return false;
    if (isNewKey) partitionKeys.add(partitionKey, partitionKeyBytes, keyHash);
    if (isNewHash && explicitHashKey !== undefined) {
      const { length } = explicitHashKey;
      this.#explicitHashKeys.add(explicitHashKey, length, hashText(explicitHashKey));
    }
    records.reserve(recordBytes);
    records.byte(TAG.record);
    records.varint(inner);
    records.byte(TAG.partitionKeyIndex);
    records.varint(keyIndex);
    if (hashIndex !== ABSENT) {
      records.byte(TAG.explicitHashKeyIndex);
      records.varint(hashIndex);
    }
    records.byte(TAG.data);
    records.varint(data.length);
    records.bytes(data);
    if (origin !== undefined) this.#writeTag(origin);
    this.#count += 1;
    return true;
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
    const result = this.finishUnsummed();
    sumAggregates([result]);
    return result;
  }

  /** As {@link finish}, with room for the checksum, which {@link sumAggregates} fills in. */
  finishUnsummed(): Buffer {
    const result = Buffer.allocUnsafe(this.sizeBytes);
    AGGREGATE_MAGIC.copy(result);
    let at = this.#partitionKeys.copyTo(result, AGGREGATE_MAGIC.length);
    at = this.#explicitHashKeys.copyTo(result, at);
    this.#records.copyTo(result, at);
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

/** Fills in the checksums of several aggregates: side by side that takes a quarter of the time. */
export function sumAggregates(aggregates: readonly Uint8Array[]): void {
  writeChecksums(aggregates, AGGREGATE_MAGIC.length);
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

/**
 * A repeated string field in which each text stands once. Found by hashes the caller has anyway: a Map
 * would compute its own of every key, and keep what it allocates.
 */
class StringTable {
  readonly #tag: number;
  readonly #texts: string[] = [];
  readonly #region = new Region();
  /** Index and one, by hash; 0 is free. Its length is a power of two, at least twice the count. */
  #slots = new Int32Array(FEWEST_SLOTS);
  #hashes = new Int32Array(FEWEST_SLOTS);

  constructor(tag: number) {
    this.#tag = tag;
  }

  get count(): number {
    return this.#texts.length;
  }

  get sizeBytes(): number {
    return this.#region.length;
  }

  indexOf(text: string, hash: number): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const index = (slots[at] ?? 0) - 1;
      if (index < 0) return ABSENT;
      if (this.#hashes[index] === hash && this.#texts[index] === text) return index;
    }
  }

  /** Adds a text that is not there. */
  add(text: string, bytes: number, hash: number): void {
    const index = this.#texts.length;
    if ((index + 1) * 2 > this.#slots.length) this.#grow();
    this.#texts.push(text);
    this.#hashes[index] = hash;
    this.#place(index, hash);
    const region = this.#region;
    region.reserve(entryBytes(bytes));
    region.byte(this.#tag);
    region.varint(bytes);
    region.text(text, bytes);
  }

  copyTo(target: Buffer, at: number): number {
    return this.#region.copyTo(target, at);
  }

  reset(): void {
    if (this.#texts.length > 0) this.#slots.fill(0);
    this.#texts.length = 0;
    this.#region.length = 0;
  }

  #place(index: number, hash: number): void {
    const slots = this.#slots;
    const mask = slots.length - 1;
    let at = hash & mask;
    while (slots[at] !== 0) at = (at + 1) & mask;
    slots[at] = index + 1;
  }

  #grow(): void {
    const before = this.#hashes;
    this.#slots = new Int32Array(this.#slots.length * 2);
    this.#hashes = new Int32Array(this.#slots.length);
    this.#hashes.set(before);
    for (let index = 0; index < this.#texts.length; index += 1) {
      this.#place(index, this.#hashes[index] ?? 0);
    }
  }
}

/** A hash of a text for tables; FNV-1a over its UTF-16 units. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  }
  return hash >>> 2;
}

/** Bytes that grow by doubling. Callers reserve before they write. */
class Region {
  length = 0;
  #buffer = EMPTY;

  reserve(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.#buffer.length) return;
    const capacity = Math.max(needed, this.#buffer.length * 2, SMALLEST_REGION_BYTES);
    const larger = Buffer.allocUnsafeSlow(capacity);
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
