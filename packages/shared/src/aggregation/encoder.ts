import { writeChecksums } from '../md5/checksums.js';
import { HashedKey } from '../partition-key.js';
import { AGGREGATE_MAGIC, ENVELOPE_BYTES, ORIGIN_TAG, TAG, varintBytes } from './format.js';

const SMALLEST_REGION_BYTES = 512;
const ABSENT = -1;
const EMPTY = Buffer.alloc(0);
const FEWEST_SLOTS = 16;
/** See {@link KeyTable}. */
const KEY_WORDS = 3;

/**
 * Builds one record in the KPL's aggregated format, byte for byte as the KPL does, knowing its exact
 * size at every moment. Knows nothing about shards, limits or time.
 *
 * Data is copied once, on {@link add}. Explicit hash keys must be canonical decimals.
 */
export class AggregateEncoder {
  readonly #partitionKeys = new KeyTable(TAG.partitionKeyTable);
  /** Few producers give any. */
  #explicitHashKeys: KeyTable | undefined;
  readonly #records = new Region();
  #count = 0;
  #lastDataBytes = 0;

  /** User records added. */
  get count(): number {
    return this.#count;
  }

  /** Exact length of what {@link finish} would return now. */
  get sizeBytes(): number {
    return (
      ENVELOPE_BYTES +
      this.#partitionKeys.length +
      (this.#explicitHashKeys?.length ?? 0) +
      this.#records.length
    );
  }

  /** Memory it holds, in use or not. Unit: bytes. */
  get heldBytes(): number {
    return this.#partitionKeys.capacityBytes + this.#records.capacityBytes;
  }

  /** @param origin - ASCII of at most 100 characters that marks the record; other readers ignore it. */
  add(
    partitionKey: string,
    explicitHashKey: string | undefined,
    data: Uint8Array,
    origin?: string,
  ): void {
    scratchKey.set(partitionKey);
    this.addWithin(Infinity, scratchKey, explicitHashKey, data, origin);
  }

  /**
   * As {@link add}, unless {@link finish} would return more bytes than a limit then.
   *
   * @returns False if it was not added.
   */
  addWithin(
    maxBytes: number,
    partitionKey: HashedKey,
    explicitHashKey: string | undefined,
    data: Uint8Array,
    origin: string | undefined,
  ): boolean {
    const partitionKeys = this.#partitionKeys;
    const dataBytes = data.length;
    let newBytes = 0;
    let keyIndex = partitionKeys.indexOf(partitionKey);
    const isNewKey = keyIndex === ABSENT;
    if (isNewKey) {
      keyIndex = partitionKeys.count;
      newBytes = entryBytes(partitionKey.bytes);
    }
    let inner = 1 + varintBytes(keyIndex) + 1 + varintBytes(dataBytes) + dataBytes;
    let hashIndex = ABSENT;
    let isNewHash = false;
    if (explicitHashKey !== undefined) {
      scratchHash.set(explicitHashKey);
      const hashKeys = (this.#explicitHashKeys ??= new KeyTable(TAG.explicitHashKeyTable));
      hashIndex = hashKeys.indexOf(scratchHash);
      isNewHash = hashIndex === ABSENT;
      if (isNewHash) {
        hashIndex = hashKeys.count;
        newBytes += entryBytes(explicitHashKey.length);
      }
      inner += 1 + varintBytes(hashIndex);
    }
    if (origin !== undefined) inner += tagFieldBytes(origin);
    const recordBytes = 1 + varintBytes(inner) + inner;
    if (this.sizeBytes + newBytes + recordBytes > maxBytes) return false;
    if (isNewKey) partitionKeys.add(partitionKey);
    if (isNewHash) this.#explicitHashKeys?.add(scratchHash);
    const records = this.#records;
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
    records.varint(dataBytes);
    records.bytes(data);
    if (origin !== undefined) this.#writeTag(origin);
    this.#lastDataBytes = dataBytes;
    this.#count += 1;
    return true;
  }

  /** A copy of the data added last, which must not have had an origin. */
  copyLastData(): Buffer {
    return this.#records.copyEnd(this.#lastDataBytes);
  }

  #writeTag(origin: string): void {
    const records = this.#records;
    records.byte(TAG.tag);
    records.varint(tagBytes(origin));
    records.byte(TAG.tagKey);
    records.varint(ORIGIN_TAG.length);
    records.ascii(ORIGIN_TAG);
    records.byte(TAG.tagValue);
    records.varint(origin.length);
    records.ascii(origin);
  }

  /** The finished record in a buffer of its own. The encoder is unchanged. */
  finish(): Buffer {
    const result = this.finishUnsummed();
    sumAggregates([result]);
    return result;
  }

  /**
   * As {@link finish}, with room for the checksum, which {@link sumAggregates} fills in.
   *
   * @param result - Of {@link sizeBytes}, to be written to and returned.
   */
  finishUnsummed(result: Buffer = Buffer.allocUnsafe(this.sizeBytes)): Buffer {
    result.set(AGGREGATE_MAGIC);
    let at = this.#partitionKeys.copyTo(result, AGGREGATE_MAGIC.length);
    at = this.#explicitHashKeys?.copyTo(result, at) ?? at;
    this.#records.copyTo(result, at);
    return result;
  }

  /** Makes it empty again, keeping its memory. */
  reset(): void {
    this.#partitionKeys.reset();
    this.#explicitHashKeys?.reset();
    this.#records.length = 0;
    this.#count = 0;
  }
}

/** Fills in the checksums of several aggregates: side by side that takes a quarter of the time. */
export function sumAggregates(aggregates: readonly Uint8Array[]): void {
  writeChecksums(aggregates, AGGREGATE_MAGIC.length);
}

const scratchKey = new HashedKey();
const scratchHash = new HashedKey();

function entryBytes(keyBytes: number): number {
  return 1 + varintBytes(keyBytes) + keyBytes;
}

function tagBytes(origin: string): number {
  return 2 + ORIGIN_TAG.length + 2 + origin.length;
}

function tagFieldBytes(origin: string): number {
  return 2 + tagBytes(origin);
}

/** Room behind what is written, so that keys can be written four bytes at a time. Unit: bytes. */
const SLACK_BYTES = 4;

/** Bytes that grow by doubling. Callers reserve before they write. */
class Region {
  length = 0;
  #buffer: Uint8Array = EMPTY;
  #view = new DataView(EMPTY.buffer);

  get capacityBytes(): number {
    return this.#buffer.length;
  }

  reserve(bytes: number): void {
    const needed = this.length + bytes + SLACK_BYTES;
    const { length: capacity } = this.#buffer;
    if (needed <= capacity) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, capacity * 2, SMALLEST_REGION_BYTES));
    larger.set(this.#written());
    this.#buffer = larger;
    this.#view = new DataView(larger.buffer);
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

  ascii(text: string): void {
    for (let at = 0; at < text.length; at += 1) this.byte(text.charCodeAt(at));
  }

  bytes(from: Uint8Array): void {
    this.#buffer.set(from, this.length);
    this.length += from.length;
  }

  /** A call into the runtime for so few bytes costs more than this loop. */
  key({ utf8Words, bytes }: HashedKey): void {
    const view = this.#view;
    const start = this.length;
    for (let word = 0; word * 4 < bytes; word += 1) {
      view.setInt32(start + word * 4, utf8Words[word] as number, true);
    }
    this.length = start + bytes;
  }

  /** Whether a key stands at an offset. */
  holds(offset: number, { utf8, bytes }: HashedKey): boolean {
    const buffer = this.#buffer;
    for (let at = 0; at < bytes; at += 1) if (buffer[offset + at] !== utf8[at]) return false;
    return true;
  }

  copyTo(target: Uint8Array, at: number): number {
    target.set(this.#written(), at);
    return at + this.length;
  }

  copyEnd(bytes: number): Buffer {
    return Buffer.from(this.#buffer.subarray(this.length - bytes, this.length));
  }

  #written(): Uint8Array {
    return this.#buffer.subarray(0, this.length);
  }
}

/**
 * A repeated string field in which each key stands once. Found by hashes the caller has anyway: a Map
 * would compute its own of every key, and keep what it allocates.
 */
class KeyTable extends Region {
  readonly #tag: number;
  #count = 0;
  /** How many slots there are, a power of two, at least twice the count. */
  #slotCount = FEWEST_SLOTS;
  /**
   * First the slots: index and one, by hash; 0 is free. Then hash, length and offset of each key. One array, as
   * each costs a look at memory that is far away where many shards are written.
   */
  #table = new Int32Array(tableWords(FEWEST_SLOTS));

  constructor(tag: number) {
    super();
    this.#tag = tag;
  }

  get count(): number {
    return this.#count;
  }

  override get capacityBytes(): number {
    return super.capacityBytes + this.#table.byteLength;
  }

  indexOf(key: HashedKey): number {
    const table = this.#table;
    const slots = this.#slotCount;
    const mask = slots - 1;
    const { tableHash, bytes } = key;
    for (let slot = tableHash & mask; ; slot = (slot + 1) & mask) {
      const index = (table[slot] as number) - 1;
      if (index < 0) return ABSENT;
      const at = slots + index * KEY_WORDS;
      if (table[at] !== tableHash || table[at + 1] !== bytes) continue;
      if (this.holds(table[at + 2] as number, key)) return index;
    }
  }

  /** Adds a key that is not there. */
  add(key: HashedKey): void {
    const { tableHash, bytes } = key;
    const index = this.#count;
    if ((index + 1) * 2 > this.#slotCount) this.#grow();
    this.reserve(entryBytes(bytes));
    this.byte(this.#tag);
    this.varint(bytes);
    const table = this.#table;
    const at = this.#slotCount + index * KEY_WORDS;
    table[at] = tableHash;
    table[at + 1] = bytes;
    table[at + 2] = this.length;
    this.key(key);
    this.#count = index + 1;
    this.#place(index, tableHash);
  }

  reset(): void {
    if (this.#count > 0) this.#table.fill(0, 0, this.#slotCount);
    this.#count = 0;
    this.length = 0;
  }

  #place(index: number, hash: number): void {
    const table = this.#table;
    const mask = this.#slotCount - 1;
    let at = hash & mask;
    while (table[at] !== 0) at = (at + 1) & mask;
    table[at] = index + 1;
  }

  #grow(): void {
    const before = this.#table;
    const slotsBefore = this.#slotCount;
    const slots = slotsBefore * 2;
    const table = new Int32Array(tableWords(slots));
    table.set(before.subarray(slotsBefore), slots);
    this.#table = table;
    this.#slotCount = slots;
    for (let index = 0; index < this.#count; index += 1) {
      this.#place(index, table[slots + index * KEY_WORDS] as number);
    }
  }
}

/** Words of a table with so many slots, and with as many keys as they are for. */
function tableWords(slots: number): number {
  return slots + (slots / 2) * KEY_WORDS;
}
