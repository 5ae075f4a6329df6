import { ShardlineError } from './errors.js';

/**
 * A 128-bit hash key as four unsigned 32-bit words, most significant first: the form in which the hot
 * path compares keys without BigInt.
 */
export type HashKeyWords = Uint32Array;

/** The greatest hash key: 2^128 - 1. */
export const MAX_HASH_KEY = 2n ** 128n - 1n;

const MAX_DECIMAL_DIGITS = 39;
// 2^32 times this stays a safe integer.
const DIGITS_PER_STEP = 6;

/** One MD5 block, and its state: module-wide scratch, so that hashing a key allocates nothing. */
const block = new Int32Array(16);
const state = new Int32Array(4);
// The longest key is 256 characters of up to 4 bytes; padding needs 9 bytes more, in blocks of 64.
let encoded = Buffer.allocUnsafeSlow(1088);

/**
 * Hashes a partition key as the service does: MD5 of its UTF-8 bytes, big-endian.
 *
 * @param out - Receives the hash key.
 * @returns How many UTF-8 bytes the key has.
 */
export function hashPartitionKey(partitionKey: string, out: HashKeyWords): number {
  state[0] = 0x67452301;
  state[1] = 0xefcdab89 | 0;
  state[2] = 0x98badcfe | 0;
  state[3] = 0x10325476;
  const { length } = partitionKey;
  const bytes =
    length <= 55 && fillAsciiBlock(partitionKey, length) ? length : hashLong(partitionKey);
  if (bytes <= 55) compress(block);
  out[0] = swapBytes(state[0]);
  out[1] = swapBytes(state[1]);
  out[2] = swapBytes(state[2]);
  out[3] = swapBytes(state[3]);
  return bytes;
}

/** The hash key of a partition key as a number. */
export function hashKeyOf(partitionKey: string): bigint {
  const words = new Uint32Array(4);
  hashPartitionKey(partitionKey, words);
  return hashKeyToBigInt(words);
}

export function hashKeyToBigInt(words: HashKeyWords): bigint {
  return (
    (BigInt(words[0] ?? 0) << 96n) |
    (BigInt(words[1] ?? 0) << 64n) |
    (BigInt(words[2] ?? 0) << 32n) |
    BigInt(words[3] ?? 0)
  );
}

export function hashKeyFromBigInt(value: bigint, out: HashKeyWords): void {
  out[0] = Number((value >> 96n) & 0xffffffffn);
  out[1] = Number((value >> 64n) & 0xffffffffn);
  out[2] = Number((value >> 32n) & 0xffffffffn);
  out[3] = Number(value & 0xffffffffn);
}

/**
 * Reads a decimal hash key; leading zeros are taken as decimal, never as octal.
 *
 * @returns False if the text is not a whole number from 0 to 2^128 - 1; `out` is then undefined.
 */
export function parseHashKey(decimal: string, out: HashKeyWords): boolean {
  if (!/^[0-9]+$/.test(decimal)) return false;
  let at = 0;
  while (at < decimal.length - 1 && decimal.charCodeAt(at) === 48) at += 1;
  if (decimal.length - at > MAX_DECIMAL_DIGITS) return false;
  out.fill(0);
  while (at < decimal.length) {
    const end = Math.min(at + DIGITS_PER_STEP, decimal.length);
    const scale = 10 ** (end - at);
    let carry = Number(decimal.slice(at, end));
    for (let word = 3; word >= 0; word -= 1) {
      const product = (out[word] ?? 0) * scale + carry;
      out[word] = product >>> 0;
      carry = Math.floor(product / 2 ** 32);
    }
    if (carry > 0) return false;
    at = end;
  }
  return true;
}

/**
 * The canonical decimal form of an explicit hash key: no leading zero.
 *
 * @throws ShardlineError `INVALID_RECORD`.
 */
export function canonicalHashKey(decimal: string): string {
  const words = new Uint32Array(4);
  if (!parseHashKey(decimal, words)) {
    throw new ShardlineError(
      'INVALID_RECORD',
      'an explicit hash key must be a decimal number from 0 to 2^128 - 1',
      { limit: '0 to 2^128 - 1' },
    );
  }
  return decimal.charCodeAt(0) === 48 ? hashKeyToBigInt(words).toString() : decimal;
}

/** Fills the only block of a short ASCII key, padding included; false if a character is not ASCII. */
function fillAsciiBlock(key: string, length: number): boolean {
  const whole = length >> 2;
  let seen = 0;
  let at = 0;
  for (let word = 0; word < whole; word += 1) {
    const c0 = key.charCodeAt(at);
    const c1 = key.charCodeAt(at + 1);
    const c2 = key.charCodeAt(at + 2);
    const c3 = key.charCodeAt(at + 3);
    seen |= c0 | c1 | c2 | c3;
    block[word] = c0 | (c1 << 8) | (c2 << 16) | (c3 << 24);
    at += 4;
  }
  let last = 0;
  let shift = 0;
  while (at < length) {
    const c = key.charCodeAt(at);
    seen |= c;
    last |= c << shift;
    shift += 8;
    at += 1;
  }
  if (seen > 127) return false;
  block[whole] = last | (0x80 << shift);
  for (let word = whole + 1; word < 14; word += 1) block[word] = 0;
  block[14] = length << 3;
  block[15] = 0;
  return true;
}

/** Hashes all blocks of a long or non-ASCII key but a single one, which the caller still compresses. */
function hashLong(key: string): number {
  const worst = key.length * 3 + 72;
  if (encoded.length < worst) encoded = Buffer.allocUnsafeSlow(worst);
  const bytes = encoded.write(key, 'utf8');
  const blocks = ((bytes + 8) >>> 6) + 1;
  encoded[bytes] = 0x80;
  encoded.fill(0, bytes + 1, blocks * 64);
  encoded.writeUInt32LE((bytes << 3) >>> 0, blocks * 64 - 8);
  for (let index = 0; index < blocks; index += 1) {
    for (let word = 0; word < 16; word += 1) {
      block[word] = encoded.readInt32LE(index * 64 + word * 4);
    }
    if (blocks > 1) compress(block);
  }
  return bytes;
}

function swapBytes(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

/** MD5's 64 steps over one block (RFC 1321), unrolled: a loop over tables takes three times as long. */
function compress(words: Int32Array): void {
  const x0 = words[0] as number;
  const x1 = words[1] as number;
  const x2 = words[2] as number;
  const x3 = words[3] as number;
  const x4 = words[4] as number;
  const x5 = words[5] as number;
  const x6 = words[6] as number;
  const x7 = words[7] as number;
  const x8 = words[8] as number;
  const x9 = words[9] as number;
  const x10 = words[10] as number;
  const x11 = words[11] as number;
  const x12 = words[12] as number;
  const x13 = words[13] as number;
  const x14 = words[14] as number;
  const x15 = words[15] as number;
  let a = state[0] as number;
  let b = state[1] as number;
  let c = state[2] as number;
  let d = state[3] as number;
  a = (a + (d ^ (b & (c ^ d))) + x0 - 680876936) | 0;
  a = (((a << 7) | (a >>> 25)) + b) | 0;
  d = (d + (c ^ (a & (b ^ c))) + x1 - 389564586) | 0;
  d = (((d << 12) | (d >>> 20)) + a) | 0;
  c = (c + (b ^ (d & (a ^ b))) + x2 + 606105819) | 0;
  c = (((c << 17) | (c >>> 15)) + d) | 0;
  b = (b + (a ^ (c & (d ^ a))) + x3 - 1044525330) | 0;
  b = (((b << 22) | (b >>> 10)) + c) | 0;
  a = (a + (d ^ (b & (c ^ d))) + x4 - 176418897) | 0;
  a = (((a << 7) | (a >>> 25)) + b) | 0;
  d = (d + (c ^ (a & (b ^ c))) + x5 + 1200080426) | 0;
  d = (((d << 12) | (d >>> 20)) + a) | 0;
  c = (c + (b ^ (d & (a ^ b))) + x6 - 1473231341) | 0;
  c = (((c << 17) | (c >>> 15)) + d) | 0;
  b = (b + (a ^ (c & (d ^ a))) + x7 - 45705983) | 0;
  b = (((b << 22) | (b >>> 10)) + c) | 0;
  a = (a + (d ^ (b & (c ^ d))) + x8 + 1770035416) | 0;
  a = (((a << 7) | (a >>> 25)) + b) | 0;
  d = (d + (c ^ (a & (b ^ c))) + x9 - 1958414417) | 0;
  d = (((d << 12) | (d >>> 20)) + a) | 0;
  c = (c + (b ^ (d & (a ^ b))) + x10 - 42063) | 0;
  c = (((c << 17) | (c >>> 15)) + d) | 0;
  b = (b + (a ^ (c & (d ^ a))) + x11 - 1990404162) | 0;
  b = (((b << 22) | (b >>> 10)) + c) | 0;
  a = (a + (d ^ (b & (c ^ d))) + x12 + 1804603682) | 0;
  a = (((a << 7) | (a >>> 25)) + b) | 0;
  d = (d + (c ^ (a & (b ^ c))) + x13 - 40341101) | 0;
  d = (((d << 12) | (d >>> 20)) + a) | 0;
  c = (c + (b ^ (d & (a ^ b))) + x14 - 1502002290) | 0;
  c = (((c << 17) | (c >>> 15)) + d) | 0;
  b = (b + (a ^ (c & (d ^ a))) + x15 + 1236535329) | 0;
  b = (((b << 22) | (b >>> 10)) + c) | 0;
  a = (a + (c ^ (d & (b ^ c))) + x1 - 165796510) | 0;
  a = (((a << 5) | (a >>> 27)) + b) | 0;
  d = (d + (b ^ (c & (a ^ b))) + x6 - 1069501632) | 0;
  d = (((d << 9) | (d >>> 23)) + a) | 0;
  c = (c + (a ^ (b & (d ^ a))) + x11 + 643717713) | 0;
  c = (((c << 14) | (c >>> 18)) + d) | 0;
  b = (b + (d ^ (a & (c ^ d))) + x0 - 373897302) | 0;
  b = (((b << 20) | (b >>> 12)) + c) | 0;
  a = (a + (c ^ (d & (b ^ c))) + x5 - 701558691) | 0;
  a = (((a << 5) | (a >>> 27)) + b) | 0;
  d = (d + (b ^ (c & (a ^ b))) + x10 + 38016083) | 0;
  d = (((d << 9) | (d >>> 23)) + a) | 0;
  c = (c + (a ^ (b & (d ^ a))) + x15 - 660478335) | 0;
  c = (((c << 14) | (c >>> 18)) + d) | 0;
  b = (b + (d ^ (a & (c ^ d))) + x4 - 405537848) | 0;
  b = (((b << 20) | (b >>> 12)) + c) | 0;
  a = (a + (c ^ (d & (b ^ c))) + x9 + 568446438) | 0;
  a = (((a << 5) | (a >>> 27)) + b) | 0;
  d = (d + (b ^ (c & (a ^ b))) + x14 - 1019803690) | 0;
  d = (((d << 9) | (d >>> 23)) + a) | 0;
  c = (c + (a ^ (b & (d ^ a))) + x3 - 187363961) | 0;
  c = (((c << 14) | (c >>> 18)) + d) | 0;
  b = (b + (d ^ (a & (c ^ d))) + x8 + 1163531501) | 0;
  b = (((b << 20) | (b >>> 12)) + c) | 0;
  a = (a + (c ^ (d & (b ^ c))) + x13 - 1444681467) | 0;
  a = (((a << 5) | (a >>> 27)) + b) | 0;
  d = (d + (b ^ (c & (a ^ b))) + x2 - 51403784) | 0;
  d = (((d << 9) | (d >>> 23)) + a) | 0;
  c = (c + (a ^ (b & (d ^ a))) + x7 + 1735328473) | 0;
  c = (((c << 14) | (c >>> 18)) + d) | 0;
  b = (b + (d ^ (a & (c ^ d))) + x12 - 1926607734) | 0;
  b = (((b << 20) | (b >>> 12)) + c) | 0;
  a = (a + (b ^ c ^ d) + x5 - 378558) | 0;
  a = (((a << 4) | (a >>> 28)) + b) | 0;
  d = (d + (a ^ b ^ c) + x8 - 2022574463) | 0;
  d = (((d << 11) | (d >>> 21)) + a) | 0;
  c = (c + (d ^ a ^ b) + x11 + 1839030562) | 0;
  c = (((c << 16) | (c >>> 16)) + d) | 0;
  b = (b + (c ^ d ^ a) + x14 - 35309556) | 0;
  b = (((b << 23) | (b >>> 9)) + c) | 0;
  a = (a + (b ^ c ^ d) + x1 - 1530992060) | 0;
  a = (((a << 4) | (a >>> 28)) + b) | 0;
  d = (d + (a ^ b ^ c) + x4 + 1272893353) | 0;
  d = (((d << 11) | (d >>> 21)) + a) | 0;
  c = (c + (d ^ a ^ b) + x7 - 155497632) | 0;
  c = (((c << 16) | (c >>> 16)) + d) | 0;
  b = (b + (c ^ d ^ a) + x10 - 1094730640) | 0;
  b = (((b << 23) | (b >>> 9)) + c) | 0;
  a = (a + (b ^ c ^ d) + x13 + 681279174) | 0;
  a = (((a << 4) | (a >>> 28)) + b) | 0;
  d = (d + (a ^ b ^ c) + x0 - 358537222) | 0;
  d = (((d << 11) | (d >>> 21)) + a) | 0;
  c = (c + (d ^ a ^ b) + x3 - 722521979) | 0;
  c = (((c << 16) | (c >>> 16)) + d) | 0;
  b = (b + (c ^ d ^ a) + x6 + 76029189) | 0;
  b = (((b << 23) | (b >>> 9)) + c) | 0;
  a = (a + (b ^ c ^ d) + x9 - 640364487) | 0;
  a = (((a << 4) | (a >>> 28)) + b) | 0;
  d = (d + (a ^ b ^ c) + x12 - 421815835) | 0;
  d = (((d << 11) | (d >>> 21)) + a) | 0;
  c = (c + (d ^ a ^ b) + x15 + 530742520) | 0;
  c = (((c << 16) | (c >>> 16)) + d) | 0;
  b = (b + (c ^ d ^ a) + x2 - 995338651) | 0;
  b = (((b << 23) | (b >>> 9)) + c) | 0;
  a = (a + (c ^ (b | ~d)) + x0 - 198630844) | 0;
  a = (((a << 6) | (a >>> 26)) + b) | 0;
  d = (d + (b ^ (a | ~c)) + x7 + 1126891415) | 0;
  d = (((d << 10) | (d >>> 22)) + a) | 0;
  c = (c + (a ^ (d | ~b)) + x14 - 1416354905) | 0;
  c = (((c << 15) | (c >>> 17)) + d) | 0;
  b = (b + (d ^ (c | ~a)) + x5 - 57434055) | 0;
  b = (((b << 21) | (b >>> 11)) + c) | 0;
  a = (a + (c ^ (b | ~d)) + x12 + 1700485571) | 0;
  a = (((a << 6) | (a >>> 26)) + b) | 0;
  d = (d + (b ^ (a | ~c)) + x3 - 1894986606) | 0;
  d = (((d << 10) | (d >>> 22)) + a) | 0;
  c = (c + (a ^ (d | ~b)) + x10 - 1051523) | 0;
  c = (((c << 15) | (c >>> 17)) + d) | 0;
  b = (b + (d ^ (c | ~a)) + x1 - 2054922799) | 0;
  b = (((b << 21) | (b >>> 11)) + c) | 0;
  a = (a + (c ^ (b | ~d)) + x8 + 1873313359) | 0;
  a = (((a << 6) | (a >>> 26)) + b) | 0;
  d = (d + (b ^ (a | ~c)) + x15 - 30611744) | 0;
  d = (((d << 10) | (d >>> 22)) + a) | 0;
  c = (c + (a ^ (d | ~b)) + x6 - 1560198380) | 0;
  c = (((c << 15) | (c >>> 17)) + d) | 0;
  b = (b + (d ^ (c | ~a)) + x13 + 1309151649) | 0;
  b = (((b << 21) | (b >>> 11)) + c) | 0;
  a = (a + (c ^ (b | ~d)) + x4 - 145523070) | 0;
  a = (((a << 6) | (a >>> 26)) + b) | 0;
  d = (d + (b ^ (a | ~c)) + x11 - 1120210379) | 0;
  d = (((d << 10) | (d >>> 22)) + a) | 0;
  c = (c + (a ^ (d | ~b)) + x2 + 718787259) | 0;
  c = (((c << 15) | (c >>> 17)) + d) | 0;
  b = (b + (d ^ (c | ~a)) + x9 - 343485551) | 0;
  b = (((b << 21) | (b >>> 11)) + c) | 0;
  state[0] = (state[0] as number) + a;
  state[1] = (state[1] as number) + b;
  state[2] = (state[2] as number) + c;
  state[3] = (state[3] as number) + d;
}
