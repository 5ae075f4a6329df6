import { ARRAY, BYTES, MAP, NEGATIVE, TAG, TEXT, TIMESTAMP_TAG, UNSIGNED } from './format.js';

/** Bytes of the longest head of an item. */
const MAX_HEAD_BYTES = 9;
const MAX_UTF8_BYTES = 3;
const FIRST_BYTES = 256;

/** Encodes a value: Dates as tag 1 with epoch milliseconds; undefined members are left out. */
export function encodeCbor(value: unknown): Buffer {
  const writer = new Writer();
  writer.item(value);
  return writer.finish();
}

/** Bytes that grow by doubling. */
class Writer {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES);
  #at = 0;

  finish(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#at));
  }

  item(value: unknown): void {
    if (typeof value === 'string') this.#text(value);
    else if (typeof value === 'number') this.#number(value);
    else if (typeof value === 'boolean') this.#byte(value ? 0xf5 : 0xf4);
    else if (value === null || typeof value !== 'object') this.#byte(0xf6);
    else if (value instanceof Uint8Array) this.#data(value);
    else if (value instanceof Date) {
      this.#head(TAG, TIMESTAMP_TAG);
      this.#number(value.getTime());
    } else if (Array.isArray(value)) {
      this.#head(ARRAY, value.length);
      for (const member of value) this.item(member);
    } else this.#map(value);
  }

  #map(value: object): void {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    this.#head(MAP, members.length);
    for (const [name, member] of members) {
      this.#text(name);
      this.item(member);
    }
  }

  #text(text: string): void {
    this.#reserve(MAX_HEAD_BYTES + text.length * MAX_UTF8_BYTES);
    this.#at = writeCborText(this.#bytes, this.#at, text);
  }

  #data(data: Uint8Array): void {
    this.#head(BYTES, data.length);
    this.#reserve(data.length);
    this.#bytes.set(data, this.#at);
    this.#at += data.length;
  }

  #number(value: number): void {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
      if (value >= 0) this.#head(UNSIGNED, value);
      else this.#head(NEGATIVE, -1 - value);
      return;
    }
    this.#byte(0xfb);
    this.#reserve(8);
    this.#at = this.#bytes.writeDoubleBE(value, this.#at);
  }

  #byte(byte: number): void {
    this.#reserve(1);
    this.#bytes[this.#at] = byte;
    this.#at += 1;
  }

  #head(major: number, argument: number): void {
    this.#reserve(MAX_HEAD_BYTES);
    this.#at = writeCborHead(this.#bytes, this.#at, major, argument);
  }

  #reserve(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(needed, this.#bytes.length * 2));
    larger.set(this.#bytes.subarray(0, this.#at));
    this.#bytes = larger;
  }
}

/**
 * Writes a text where there is room for nine bytes and three for each of its UTF-16 units.
 *
 * @returns Where it ends.
 */
export function writeCborText(target: Buffer, at: number, text: string): number {
  const start = writeCborHead(target, at, TEXT, Buffer.byteLength(text));
  return start + target.write(text, start);
}

/**
 * Writes what stands before the bytes or the members of an item.
 *
 * @param argument - How many there are.
 * @returns Where it ends: nine bytes on at most.
 */
export function writeCborHead(target: Buffer, at: number, major: number, argument: number): number {
  const type = major << 5;
  if (argument < 24) {
    target[at] = type | argument;
    return at + 1;
  }
  if (argument < 0x100) {
    target[at] = type | 24;
    target[at + 1] = argument;
    return at + 2;
  }
  if (argument < 0x10000) {
    target[at] = type | 25;
    return target.writeUInt16BE(argument, at + 1);
  }
  if (argument < 2 ** 32) {
    target[at] = type | 26;
    return target.writeUInt32BE(argument, at + 1);
  }
  target[at] = type | 27;
  target.writeUInt32BE(Math.floor(argument / 2 ** 32), at + 1);
  return target.writeUInt32BE(argument % 2 ** 32, at + 5);
}
