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

export function hashKeyToBigInt(words: HashKeyWords): bigint {
  return (
    (BigInt(words[0] ?? 0) << 96n) |
    (BigInt(words[1] ?? 0) << 64n) |
    (BigInt(words[2] ?? 0) << 32n) |
    BigInt(words[3] ?? 0)
  );
}

const wide = new DataView(new ArrayBuffer(16));

export function hashKeyFromBigInt(value: bigint, out: HashKeyWords): void {
  // Each takes the lowest 64 bits.
  wide.setBigUint64(0, value >> 64n);
  wide.setBigUint64(8, value);
  for (let word = 0; word < 4; word += 1) out[word] = wide.getUint32(word * 4);
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
