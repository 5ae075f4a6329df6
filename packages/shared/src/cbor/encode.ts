import { ARRAY, BYTES, MAP, NEGATIVE, TAG, TEXT, TIMESTAMP_TAG, UNSIGNED } from './format.js';

/** Bytes of the longest head of an item. */
const MAX_HEAD_BYTES = 9;

/** Encodes a value: Dates as tag 1 with epoch milliseconds; undefined members are left out. */
export function encodeCbor(value: unknown): Buffer {
  const parts: Uint8Array[] = [];
  write(value, parts);
  return Buffer.concat(parts);
}

function write(value: unknown, parts: Uint8Array[]): void {
  if (typeof value === 'string') {
    const text = Buffer.from(value);
    parts.push(head(TEXT, text.length), text);
  } else if (typeof value === 'number') parts.push(numberItem(value));
  else if (typeof value === 'boolean') parts.push(Buffer.from([value ? 0xf5 : 0xf4]));
  else if (value === null || typeof value !== 'object') parts.push(Buffer.from([0xf6]));
  else if (value instanceof Uint8Array) parts.push(head(BYTES, value.length), value);
  else if (value instanceof Date) parts.push(head(TAG, TIMESTAMP_TAG), numberItem(value.getTime()));
  else if (Array.isArray(value)) {
    parts.push(head(ARRAY, value.length));
    for (const member of value) write(member, parts);
  } else {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    parts.push(head(MAP, members.length));
    for (const [name, member] of members) {
      write(name, parts);
      write(member, parts);
    }
  }
}

function numberItem(value: number): Buffer {
  if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
    return value >= 0 ? head(UNSIGNED, value) : head(NEGATIVE, -1 - value);
  }
  const item = Buffer.allocUnsafe(9);
  item[0] = 0xfb;
  item.writeDoubleBE(value, 1);
  return item;
}

function head(major: number, argument: number): Buffer {
  const item = Buffer.allocUnsafe(MAX_HEAD_BYTES);
  return item.subarray(0, writeCborHead(item, 0, major, argument));
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
