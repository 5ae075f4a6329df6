import { ServiceFault } from '../engine/service-fault.js';

/** Major types of RFC 8949. */
const UNSIGNED = 0;
const NEGATIVE = 1;
const BYTES = 2;
const TEXT = 3;
const ARRAY = 4;
const MAP = 5;
const TAG = 6;

/** Timestamps: tag 1, but in milliseconds, as the service's clients write it. */
const TIMESTAMP_TAG = 1;
const INDEFINITE = 31;
const BREAK = 0xff;
/** Deeper than any request; a bound, so that nesting cannot exhaust the stack. */
const MAX_DEPTH = 32;

/**
 * Decodes one CBOR item: maps as objects, byte strings as Buffers over the input, tag 1 as a Date of
 * epoch milliseconds, null as undefined.
 *
 * @throws ServiceFault `SerializationException`.
 */
export function decodeCbor(bytes: Buffer): unknown {
  const reader = new Reader(bytes);
  const value = reader.item(0);
  if (!reader.isAtEnd) throw malformed('bytes follow the item');
  return value;
}

/** Encodes an answer: Dates as tag 1 with epoch milliseconds; undefined members are left out. */
export function encodeCbor(value: unknown): Buffer {
  const parts: Buffer[] = [];
  write(value, parts);
  return Buffer.concat(parts);
}

class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  item(depth: number): unknown {
    if (depth > MAX_DEPTH) throw malformed(`items nest deeper than ${MAX_DEPTH}`);
    const initial = this.#byte();
    const major = initial >> 5;
    const info = initial & 31;
    switch (major) {
      case UNSIGNED:
        return this.#argument(info);
      case NEGATIVE:
        return -1 - this.#argument(info);
      case BYTES:
        return this.#string(info, BYTES);
      case TEXT:
        return this.#string(info, TEXT).toString('utf8');
      case ARRAY:
        return this.#array(info, depth);
      case MAP:
        return this.#map(info, depth);
      case TAG: {
        const tag = this.#argument(info);
        const value = this.item(depth + 1);
        if (tag !== TIMESTAMP_TAG) return value;
        if (typeof value !== 'number') throw malformed('a timestamp is no number');
        return new Date(value);
      }
      default:
        return this.#simple(info);
    }
  }

  #string(info: number, major: number): Buffer {
    if (info !== INDEFINITE) return this.#take(this.#argument(info));
    const chunks: Buffer[] = [];
    while (!this.#isBreak()) {
      const initial = this.#byte();
      if (initial >> 5 !== major) throw malformed('a chunk is of another type');
      chunks.push(this.#take(this.#argument(initial & 31)));
    }
    return Buffer.concat(chunks);
  }

  #array(info: number, depth: number): unknown[] {
    const values: unknown[] = [];
    const length = info === INDEFINITE ? Infinity : this.#argument(info);
    while (values.length < length && !(length === Infinity && this.#isBreak())) {
      values.push(this.item(depth + 1));
    }
    return values;
  }

  #map(info: number, depth: number): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    const length = info === INDEFINITE ? Infinity : this.#argument(info);
    for (let count = 0; count < length; count += 1) {
      if (length === Infinity && this.#isBreak()) break;
      const key = this.item(depth + 1);
      if (typeof key !== 'string') throw malformed('a key is no text');
      const value = this.item(depth + 1);
      // Not by assignment: `__proto__` is a name like any other here.
      Object.defineProperty(result, key, {
        value,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    }
    return result;
  }

  #simple(info: number): unknown {
    switch (info) {
      case 20:
        return false;
      case 21:
        return true;
      case 22:
      case 23:
        return undefined;
      case 25:
        return halfFloat(this.#take(2).readUInt16BE());
      case 26:
        return this.#take(4).readFloatBE();
      case 27:
        return this.#take(8).readDoubleBE();
      default:
        throw malformed(`simple value ${info} is not known`);
    }
  }

  #argument(info: number): number {
    if (info < 24) return info;
    switch (info) {
      case 24:
        return this.#byte();
      case 25:
        return this.#take(2).readUInt16BE();
      case 26:
        return this.#take(4).readUInt32BE();
      case 27: {
        const bytes = this.#take(8);
        return bytes.readUInt32BE() * 2 ** 32 + bytes.readUInt32BE(4);
      }
      default:
        throw malformed(`length ${info} is not known`);
    }
  }

  #isBreak(): boolean {
    if (this.#bytes[this.#at] !== BREAK) {
      if (this.isAtEnd) throw malformed('it is cut off');
      return false;
    }
    this.#at += 1;
    return true;
  }

  #byte(): number {
    return this.#take(1)[0] as number;
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw malformed('it is cut off');
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }
}

function halfFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function write(value: unknown, parts: Buffer[]): void {
  if (typeof value === 'string') {
    const text = Buffer.from(value);
    parts.push(head(TEXT, text.length), text);
  } else if (typeof value === 'number') parts.push(numberItem(value));
  else if (typeof value === 'boolean') parts.push(Buffer.from([value ? 0xf5 : 0xf4]));
  else if (value === null || typeof value !== 'object') parts.push(Buffer.from([0xf6]));
  else if (Buffer.isBuffer(value)) parts.push(head(BYTES, value.length), value);
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
  const type = major << 5;
  if (argument < 24) return Buffer.from([type | argument]);
  if (argument < 0x100) return Buffer.from([type | 24, argument]);
  const item = Buffer.allocUnsafe(argument < 0x10000 ? 3 : argument < 2 ** 32 ? 5 : 9);
  if (item.length === 3) {
    item[0] = type | 25;
    item.writeUInt16BE(argument, 1);
  } else if (item.length === 5) {
    item[0] = type | 26;
    item.writeUInt32BE(argument, 1);
  } else {
    item[0] = type | 27;
    item.writeUInt32BE(Math.floor(argument / 2 ** 32), 1);
    item.writeUInt32BE(argument % 2 ** 32, 5);
  }
  return item;
}

function malformed(what: string): ServiceFault {
  return new ServiceFault('SerializationException', `The request body is not valid CBOR: ${what}.`);
}
