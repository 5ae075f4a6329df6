import { type HashKeyWords, hashKeyToBigInt, parseHashKey } from './hash-key.js';

/** A block of MD5. */
const BLOCK_BYTES = 64;
const WORDS = BLOCK_BYTES / 4;
/** MD5's padding: a bit, zeros up to a whole block, and the length of the message. */
const LEAST_PADDING_BYTES = 9;
const MOST_PADDING_BYTES = BLOCK_BYTES + 8;
const utf8 = new TextEncoder();

/**
 * A partition key and its hash key. Holds one at a time, in memory that is used again for the next, so
 * that hashing a key allocates next to nothing.
 */
export class HashedKey {
  /** The explicit hash key, or MD5 of the partition key's UTF-8 bytes, big-endian, as the service has it. */
  readonly words: HashKeyWords = new Uint32Array(4);
  /** How many UTF-8 bytes the key has. */
  bytes = 0;
  /** Below 2^30, and always the same for the same key, for look-ups. */
  tableHash = 0;
  readonly #state = new Int32Array(4);
  #blocks = new Int32Array(WORDS);
  #utf8 = new Uint8Array(this.#blocks.buffer);

  /** The key in UTF-8 from the start, {@link bytes} of it, and padding: see {@link utf8Words}. */
  get utf8(): Uint8Array {
    return this.#utf8;
  }

  /** The same bytes, four to a word, the first the lowest. */
  get utf8Words(): Int32Array {
    return this.#blocks;
  }

  /** @param explicitHashKey - A decimal that {@link parseHashKey} can read. */
  set(partitionKey: string, explicitHashKey?: string): void {
    let { written, read } = utf8.encodeInto(partitionKey, this.#utf8);
    if (read < partitionKey.length || written + LEAST_PADDING_BYTES > this.#utf8.length) {
      // A key has at most three bytes a UTF-16 unit.
      this.#reserve(partitionKey.length * 3 + MOST_PADDING_BYTES);
      ({ written, read } = utf8.encodeInto(partitionKey, this.#utf8));
    }
    this.bytes = written;
    const { words } = this;
    this.#md5(written);
    // Not of the first word, whose bits are much the same all over a shard.
    this.tableHash = (words[3] as number) >>> 2;
    if (explicitHashKey !== undefined) parseHashKey(explicitHashKey, words);
  }

  #md5(bytes: number): void {
    const blocks = this.#blocks;
    const end = ((bytes + 8) >>> 6) * WORDS + WORDS;
    const last = bytes >> 2;
    const shift = (bytes & 3) * 8;
    blocks[last] = ((blocks[last] as number) & ~(-1 << shift)) | (0x80 << shift);
    for (let word = last + 1; word < end; word += 1) blocks[word] = 0;
    blocks[end - 2] = bytes << 3;
    const state = this.#state;
    state[0] = 0x67452301;
    state[1] = 0xefcdab89 | 0;
    state[2] = 0x98badcfe | 0;
    state[3] = 0x10325476;
    for (let at = 0; at < end; at += WORDS) compress(blocks, at, state);
    const { words } = this;
    words[0] = swapBytes(state[0]);
    words[1] = swapBytes(state[1]);
    words[2] = swapBytes(state[2]);
    words[3] = swapBytes(state[3]);
  }

  #reserve(bytes: number): void {
    this.#blocks = new Int32Array(Math.ceil(bytes / BLOCK_BYTES) * WORDS);
    this.#utf8 = new Uint8Array(this.#blocks.buffer);
  }
}

const scratch = new HashedKey();

/**
 * Hashes a partition key as the service does.
 *
 * @param out - Receives the hash key.
 * @returns How many UTF-8 bytes the key has.
 */
export function hashPartitionKey(partitionKey: string, out: HashKeyWords): number {
  scratch.set(partitionKey);
  const { words } = scratch;
  out[0] = words[0] as number;
  out[1] = words[1] as number;
  out[2] = words[2] as number;
  out[3] = words[3] as number;
  return scratch.bytes;
}

/** The hash key of a partition key as a number. */
export function hashKeyOf(partitionKey: string): bigint {
  scratch.set(partitionKey);
  return hashKeyToBigInt(scratch.words);
}

function swapBytes(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

/**
 * MD5's 64 steps over one block (RFC 1321), unrolled: a loop over tables takes three times as long. Each step waits
 * for the word that the one before computed, so that word comes in last, behind all that is known earlier.
 */
function compress(words: Int32Array, at: number, state: Int32Array): void {
  const x0 = words[at] as number;
  const x1 = words[at + 1] as number;
  const x2 = words[at + 2] as number;
  const x3 = words[at + 3] as number;
  const x4 = words[at + 4] as number;
  const x5 = words[at + 5] as number;
  const x6 = words[at + 6] as number;
  const x7 = words[at + 7] as number;
  const x8 = words[at + 8] as number;
  const x9 = words[at + 9] as number;
  const x10 = words[at + 10] as number;
  const x11 = words[at + 11] as number;
  const x12 = words[at + 12] as number;
  const x13 = words[at + 13] as number;
  const x14 = words[at + 14] as number;
  const x15 = words[at + 15] as number;
  let a = state[0] as number;
  let b = state[1] as number;
  let c = state[2] as number;
  let d = state[3] as number;
  a = (((a + x0 - 680876936) | 0) + (d ^ (b & (c ^ d)))) | 0;
  a = (((a << 7) | (a >>> 25)) + b) | 0;
  d = (((d + x1 - 389564586) | 0) + (c ^ (a & (b ^ c)))) | 0;
  d = (((d << 12) | (d >>> 20)) + a) | 0;
  c = (((c + x2 + 606105819) | 0) + (b ^ (d & (a ^ b)))) | 0;
  c = (((c << 17) | (c >>> 15)) + d) | 0;
  b = (((b + x3 - 1044525330) | 0) + (a ^ (c & (d ^ a)))) | 0;
  b = (((b << 22) | (b >>> 10)) + c) | 0;
  a = (((a + x4 - 176418897) | 0) + (d ^ (b & (c ^ d)))) | 0;
  a = (((a << 7) | (a >>> 25)) + b) | 0;
  d = (((d + x5 + 1200080426) | 0) + (c ^ (a & (b ^ c)))) | 0;
  d = (((d << 12) | (d >>> 20)) + a) | 0;
  c = (((c + x6 - 1473231341) | 0) + (b ^ (d & (a ^ b)))) | 0;
  c = (((c << 17) | (c >>> 15)) + d) | 0;
  b = (((b + x7 - 45705983) | 0) + (a ^ (c & (d ^ a)))) | 0;
  b = (((b << 22) | (b >>> 10)) + c) | 0;
  a = (((a + x8 + 1770035416) | 0) + (d ^ (b & (c ^ d)))) | 0;
  a = (((a << 7) | (a >>> 25)) + b) | 0;
  d = (((d + x9 - 1958414417) | 0) + (c ^ (a & (b ^ c)))) | 0;
  d = (((d << 12) | (d >>> 20)) + a) | 0;
  c = (((c + x10 - 42063) | 0) + (b ^ (d & (a ^ b)))) | 0;
  c = (((c << 17) | (c >>> 15)) + d) | 0;
  b = (((b + x11 - 1990404162) | 0) + (a ^ (c & (d ^ a)))) | 0;
  b = (((b << 22) | (b >>> 10)) + c) | 0;
  a = (((a + x12 + 1804603682) | 0) + (d ^ (b & (c ^ d)))) | 0;
  a = (((a << 7) | (a >>> 25)) + b) | 0;
  d = (((d + x13 - 40341101) | 0) + (c ^ (a & (b ^ c)))) | 0;
  d = (((d << 12) | (d >>> 20)) + a) | 0;
  c = (((c + x14 - 1502002290) | 0) + (b ^ (d & (a ^ b)))) | 0;
  c = (((c << 17) | (c >>> 15)) + d) | 0;
  b = (((b + x15 + 1236535329) | 0) + (a ^ (c & (d ^ a)))) | 0;
  b = (((b << 22) | (b >>> 10)) + c) | 0;
  a = (((a + x1 - 165796510 + (c & ~d)) | 0) + (b & d)) | 0;
  a = (((a << 5) | (a >>> 27)) + b) | 0;
  d = (((d + x6 - 1069501632 + (b & ~c)) | 0) + (a & c)) | 0;
  d = (((d << 9) | (d >>> 23)) + a) | 0;
  c = (((c + x11 + 643717713 + (a & ~b)) | 0) + (d & b)) | 0;
  c = (((c << 14) | (c >>> 18)) + d) | 0;
  b = (((b + x0 - 373897302 + (d & ~a)) | 0) + (c & a)) | 0;
  b = (((b << 20) | (b >>> 12)) + c) | 0;
  a = (((a + x5 - 701558691 + (c & ~d)) | 0) + (b & d)) | 0;
  a = (((a << 5) | (a >>> 27)) + b) | 0;
  d = (((d + x10 + 38016083 + (b & ~c)) | 0) + (a & c)) | 0;
  d = (((d << 9) | (d >>> 23)) + a) | 0;
  c = (((c + x15 - 660478335 + (a & ~b)) | 0) + (d & b)) | 0;
  c = (((c << 14) | (c >>> 18)) + d) | 0;
  b = (((b + x4 - 405537848 + (d & ~a)) | 0) + (c & a)) | 0;
  b = (((b << 20) | (b >>> 12)) + c) | 0;
  a = (((a + x9 + 568446438 + (c & ~d)) | 0) + (b & d)) | 0;
  a = (((a << 5) | (a >>> 27)) + b) | 0;
  d = (((d + x14 - 1019803690 + (b & ~c)) | 0) + (a & c)) | 0;
  d = (((d << 9) | (d >>> 23)) + a) | 0;
  c = (((c + x3 - 187363961 + (a & ~b)) | 0) + (d & b)) | 0;
  c = (((c << 14) | (c >>> 18)) + d) | 0;
  b = (((b + x8 + 1163531501 + (d & ~a)) | 0) + (c & a)) | 0;
  b = (((b << 20) | (b >>> 12)) + c) | 0;
  a = (((a + x13 - 1444681467 + (c & ~d)) | 0) + (b & d)) | 0;
  a = (((a << 5) | (a >>> 27)) + b) | 0;
  d = (((d + x2 - 51403784 + (b & ~c)) | 0) + (a & c)) | 0;
  d = (((d << 9) | (d >>> 23)) + a) | 0;
  c = (((c + x7 + 1735328473 + (a & ~b)) | 0) + (d & b)) | 0;
  c = (((c << 14) | (c >>> 18)) + d) | 0;
  b = (((b + x12 - 1926607734 + (d & ~a)) | 0) + (c & a)) | 0;
  b = (((b << 20) | (b >>> 12)) + c) | 0;
  a = (((a + x5 - 378558) | 0) + (b ^ (c ^ d))) | 0;
  a = (((a << 4) | (a >>> 28)) + b) | 0;
  d = (((d + x8 - 2022574463) | 0) + (a ^ (b ^ c))) | 0;
  d = (((d << 11) | (d >>> 21)) + a) | 0;
  c = (((c + x11 + 1839030562) | 0) + (d ^ (a ^ b))) | 0;
  c = (((c << 16) | (c >>> 16)) + d) | 0;
  b = (((b + x14 - 35309556) | 0) + (c ^ (d ^ a))) | 0;
  b = (((b << 23) | (b >>> 9)) + c) | 0;
  a = (((a + x1 - 1530992060) | 0) + (b ^ (c ^ d))) | 0;
  a = (((a << 4) | (a >>> 28)) + b) | 0;
  d = (((d + x4 + 1272893353) | 0) + (a ^ (b ^ c))) | 0;
  d = (((d << 11) | (d >>> 21)) + a) | 0;
  c = (((c + x7 - 155497632) | 0) + (d ^ (a ^ b))) | 0;
  c = (((c << 16) | (c >>> 16)) + d) | 0;
  b = (((b + x10 - 1094730640) | 0) + (c ^ (d ^ a))) | 0;
  b = (((b << 23) | (b >>> 9)) + c) | 0;
  a = (((a + x13 + 681279174) | 0) + (b ^ (c ^ d))) | 0;
  a = (((a << 4) | (a >>> 28)) + b) | 0;
  d = (((d + x0 - 358537222) | 0) + (a ^ (b ^ c))) | 0;
  d = (((d << 11) | (d >>> 21)) + a) | 0;
  c = (((c + x3 - 722521979) | 0) + (d ^ (a ^ b))) | 0;
  c = (((c << 16) | (c >>> 16)) + d) | 0;
  b = (((b + x6 + 76029189) | 0) + (c ^ (d ^ a))) | 0;
  b = (((b << 23) | (b >>> 9)) + c) | 0;
  a = (((a + x9 - 640364487) | 0) + (b ^ (c ^ d))) | 0;
  a = (((a << 4) | (a >>> 28)) + b) | 0;
  d = (((d + x12 - 421815835) | 0) + (a ^ (b ^ c))) | 0;
  d = (((d << 11) | (d >>> 21)) + a) | 0;
  c = (((c + x15 + 530742520) | 0) + (d ^ (a ^ b))) | 0;
  c = (((c << 16) | (c >>> 16)) + d) | 0;
  b = (((b + x2 - 995338651) | 0) + (c ^ (d ^ a))) | 0;
  b = (((b << 23) | (b >>> 9)) + c) | 0;
  a = (((a + x0 - 198630844) | 0) + (c ^ (b | ~d))) | 0;
  a = (((a << 6) | (a >>> 26)) + b) | 0;
  d = (((d + x7 + 1126891415) | 0) + (b ^ (a | ~c))) | 0;
  d = (((d << 10) | (d >>> 22)) + a) | 0;
  c = (((c + x14 - 1416354905) | 0) + (a ^ (d | ~b))) | 0;
  c = (((c << 15) | (c >>> 17)) + d) | 0;
  b = (((b + x5 - 57434055) | 0) + (d ^ (c | ~a))) | 0;
  b = (((b << 21) | (b >>> 11)) + c) | 0;
  a = (((a + x12 + 1700485571) | 0) + (c ^ (b | ~d))) | 0;
  a = (((a << 6) | (a >>> 26)) + b) | 0;
  d = (((d + x3 - 1894986606) | 0) + (b ^ (a | ~c))) | 0;
  d = (((d << 10) | (d >>> 22)) + a) | 0;
  c = (((c + x10 - 1051523) | 0) + (a ^ (d | ~b))) | 0;
  c = (((c << 15) | (c >>> 17)) + d) | 0;
  b = (((b + x1 - 2054922799) | 0) + (d ^ (c | ~a))) | 0;
  b = (((b << 21) | (b >>> 11)) + c) | 0;
  a = (((a + x8 + 1873313359) | 0) + (c ^ (b | ~d))) | 0;
  a = (((a << 6) | (a >>> 26)) + b) | 0;
  d = (((d + x15 - 30611744) | 0) + (b ^ (a | ~c))) | 0;
  d = (((d << 10) | (d >>> 22)) + a) | 0;
  c = (((c + x6 - 1560198380) | 0) + (a ^ (d | ~b))) | 0;
  c = (((c << 15) | (c >>> 17)) + d) | 0;
  b = (((b + x13 + 1309151649) | 0) + (d ^ (c | ~a))) | 0;
  b = (((b << 21) | (b >>> 11)) + c) | 0;
  a = (((a + x4 - 145523070) | 0) + (c ^ (b | ~d))) | 0;
  a = (((a << 6) | (a >>> 26)) + b) | 0;
  d = (((d + x11 - 1120210379) | 0) + (b ^ (a | ~c))) | 0;
  d = (((d << 10) | (d >>> 22)) + a) | 0;
  c = (((c + x2 + 718787259) | 0) + (a ^ (d | ~b))) | 0;
  c = (((c << 15) | (c >>> 17)) + d) | 0;
  b = (((b + x9 - 343485551) | 0) + (d ^ (c | ~a))) | 0;
  b = (((b << 21) | (b >>> 11)) + c) | 0;
  state[0] = (state[0] as number) + a;
  state[1] = (state[1] as number) + b;
  state[2] = (state[2] as number) + c;
  state[3] = (state[3] as number) + d;
}
