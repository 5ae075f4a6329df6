import { ARRAY, BYTES, MAP, NEGATIVE, TAG, TEXT, TIMESTAMP_TAG, UNSIGNED } from './format.js';

const INDEFINITE = 31;
const BREAK = 0xff;
/** Deeper than any request or answer; a bound, so that nesting cannot exhaust the stack. */
const MAX_DEPTH = 32;

/** Bytes that are no CBOR, or none as Kinesis speaks it. */
export class CborError extends SyntaxError {
  override readonly name = 'CborError';
  /** More bytes may make it whole. */
  readonly isCutOff: boolean;

  constructor(what: string, isCutOff = false) {
    super(`not valid CBOR: ${what}`);
    this.isCutOff = isCutOff;
  }
}

/**
 * Decodes one item: maps as objects, byte strings as Buffers over the input, tag 1 as a Date of
 * epoch milliseconds, null as undefined.
 *
 * @throws CborError
 */
export function decodeCbor(bytes: Buffer): unknown {
  const reader = new CborReader(bytes);
  const value = reader.item();
  if (reader.at < bytes.length) throw new CborError('bytes follow the item');
  return value;
}

/** Reads item by item, in place. What it throws is a {@link CborError}. */
export class CborReader {
  /** Where the next item begins. */
  at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  /** Any item: see {@link decodeCbor}. */
  item(depth = 0): unknown {
    if (depth > MAX_DEPTH) throw new CborError(`items nest deeper than ${MAX_DEPTH}`);
    const initial = this.#byte();
    const info = initial & 31;
    switch (initial >> 5) {
      case UNSIGNED:
        return this.#argument(info);
      case NEGATIVE:
        return -1 - this.#argument(info);
      case BYTES:
        return this.#string(info, BYTES);
      case TEXT:
        return this.#text(info);
      case ARRAY:
        return this.#items(this.#lengthOf(info), () => this.item(depth + 1));
      case MAP:
        return this.#map(info, depth);
      case TAG: {
        const tag = this.#argument(info);
        const value = this.item(depth + 1);
        if (tag !== TIMESTAMP_TAG) return value;
        if (typeof value !== 'number') throw new CborError('a timestamp is no number');
        return new Date(value);
      }
      default:
        return this.#simple(info);
    }
  }

  /** The number of members of the map that begins here; `Infinity` if only {@link isBreak} tells. */
  mapLength(): number {
    return this.#length(MAP);
  }

  /** As {@link mapLength}, of an array. */
  arrayLength(): number {
    return this.#length(ARRAY);
  }

  /** Whether a map or an array without a length ends here; if so it is passed over. */
  isBreak(): boolean {
    const { at } = this;
    if (this.#byte() === BREAK) return true;
    this.at = at;
    return false;
  }

  /**
   * Passes over the name of a member.
   *
   * @returns Its position in a list of names; -1 if it is not there.
   */
  name(names: readonly Buffer[]): number {
    const initial = this.#byte();
    if (initial >> 5 !== TEXT) throw new CborError('a name is no text');
    const info = initial & 31;
    if (info === INDEFINITE) {
      const name = this.#string(info, TEXT);
      return names.findIndex((each) => each.equals(name));
    }
    const bytes = this.#argument(info);
    const start = this.at;
    this.at = this.#endOf(bytes);
    for (let index = 0; index < names.length; index += 1) {
      const name = names[index] as Buffer;
      if (name.length === bytes && this.#holds(start, name)) return index;
    }
    return -1;
  }

  /**
   * Reads a map.
   *
   * @param read - Reads the value of the member whose name is at a position.
   * @returns Values by positions of names; undefined for what is not there. Other members are passed over.
   */
  members<Value>(names: readonly Buffer[], read: (index: number) => Value): (Value | undefined)[] {
    const values: (Value | undefined)[] = names.map(() => undefined);
    const length = this.mapLength();
    for (let count = 0; count < length; count += 1) {
      if (length === Infinity && this.isBreak()) break;
      const index = this.name(names);
      if (index < 0) this.item();
      else values[index] = read(index);
    }
    return values;
  }

  /** Reads an array, item by item. */
  items<Item>(read: () => Item): Item[] {
    return this.#items(this.arrayLength(), read);
  }

  #items<Item>(length: number, read: () => Item): Item[] {
    const items: Item[] = [];
    while (items.length < length && !(length === Infinity && this.isBreak())) items.push(read());
    return items;
  }

  #holds(start: number, name: Buffer): boolean {
    const bytes = this.#bytes;
    for (let at = 0; at < name.length; at += 1) if (bytes[start + at] !== name[at]) return false;
    return true;
  }

  #length(major: number): number {
    const initial = this.#byte();
    if (initial >> 5 !== major) throw new CborError('an item is of another type');
    return this.#lengthOf(initial & 31);
  }

  #lengthOf(info: number): number {
    return info === INDEFINITE ? Infinity : this.#argument(info);
  }

  #text(info: number): string {
    if (info === INDEFINITE) return this.#string(info, TEXT).toString();
    const end = this.#endOf(this.#argument(info));
    const text = this.#bytes.toString('utf8', this.at, end);
    this.at = end;
    return text;
  }

  #string(info: number, major: number): Buffer {
    if (info !== INDEFINITE) return this.#take(this.#argument(info));
    const chunks: Buffer[] = [];
    while (!this.isBreak()) {
      const initial = this.#byte();
      if (initial >> 5 !== major) throw new CborError('a chunk is of another type');
      chunks.push(this.#take(this.#argument(initial & 31)));
    }
    return Buffer.concat(chunks);
  }

  #map(info: number, depth: number): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    const length = this.#lengthOf(info);
    for (let count = 0; count < length; count += 1) {
      if (length === Infinity && this.isBreak()) break;
      const key = this.item(depth + 1);
      if (typeof key !== 'string') throw new CborError('a name is no text');
      const value = this.item(depth + 1);
      if (key === '__proto__') {
        // A name like any other here, but not to an assignment.
        Object.defineProperty(result, key, {
          value,
          enumerable: true,
          configurable: true,
          writable: true,
        });
      } else result[key] = value;
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
        throw new CborError(`simple value ${info} is not known`);
    }
  }

  #argument(info: number): number {
    if (info < 24) return info;
    const { at } = this;
    switch (info) {
      case 24:
        return this.#byte();
      case 25:
        this.at = this.#endOf(2);
        return this.#bytes.readUInt16BE(at);
      case 26:
        this.at = this.#endOf(4);
        return this.#bytes.readUInt32BE(at);
      case 27:
        this.at = this.#endOf(8);
        return this.#bytes.readUInt32BE(at) * 2 ** 32 + this.#bytes.readUInt32BE(at + 4);
      default:
        throw new CborError(`length ${info} is not known`);
    }
  }

  #byte(): number {
    const end = this.#endOf(1);
    const byte = this.#bytes[this.at] as number;
    this.at = end;
    return byte;
  }

  #take(length: number): Buffer {
    const end = this.#endOf(length);
    const bytes = this.#bytes.subarray(this.at, end);
    this.at = end;
    return bytes;
  }

  /** Where the next so many bytes end, which must be there. */
  #endOf(length: number): number {
    const end = this.at + length;
    if (end > this.#bytes.length) throw new CborError('it is cut off', true);
    return end;
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
