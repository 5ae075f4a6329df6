import { createHash } from 'node:crypto';

import {
  canonicalHashKey,
  hashKeyFromBigInt,
  hashKeyOf,
  hashKeyToBigInt,
  hashPartitionKey,
  MAX_HASH_KEY,
  parseHashKey,
} from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

describe('hashPartitionKey', () => {
  it.each([
    ['a', 16955237001963240173058271559858726497n],
    ['pk1', 329398341438914906102347661116985167824n],
    ['7', 190188081314515644627836686569786975555n],
    ['é€😀', 78464116533342956180008979403388593282n],
  ])('gives the hash key the KPL gives for %s', (key, expected) => {
    expect(hashKeyOf(key)).toBe(expected);
  });

  it('is MD5 of the UTF-8 bytes, big-endian, for any key, and tells their number', () => {
    const words = new Uint32Array(4);
    const anyKey = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 300 }),
      fc.string({ unit: 'grapheme', maxLength: 256 }),
      fc.string({ unit: 'binary-ascii', maxLength: 300 }),
    );
    fc.assert(
      fc.property(anyKey, (key) => {
        const bytes = hashPartitionKey(key, words);
        expect(bytes).toBe(Buffer.byteLength(key));
        const digest = createHash('md5').update(key).digest('hex');
        expect(hashKeyToBigInt(words)).toBe(BigInt(`0x${digest}`));
      }),
      { numRuns: 500 },
    );
  });

  it('is right at every length around the block boundaries', () => {
    for (let length = 0; length <= 200; length += 1) {
      const key = 'k'.repeat(length);
      expect(hashKeyOf(key)).toBe(BigInt(`0x${createHash('md5').update(key).digest('hex')}`));
    }
  });

  it('takes a lone surrogate as the replacement character, as UTF-8 does', () => {
    expect(hashKeyOf('\ud800')).toBe(hashKeyOf('\ufffd'));
  });
});

describe('parseHashKey', () => {
  it('reads every number from 0 to 2^128 - 1', () => {
    const words = new Uint32Array(4);
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: MAX_HASH_KEY }), (value) => {
        expect(parseHashKey(value.toString(), words)).toBe(true);
        expect(hashKeyToBigInt(words)).toBe(value);
        hashKeyFromBigInt(value, words);
        expect(hashKeyToBigInt(words)).toBe(value);
      }),
    );
    expect(parseHashKey(MAX_HASH_KEY.toString(), words)).toBe(true);
    expect(hashKeyToBigInt(words)).toBe(MAX_HASH_KEY);
  });

  it.each([
    '',
    '-1',
    '1.5',
    '0x10',
    'abc',
    ' 1',
    (MAX_HASH_KEY + 1n).toString(),
    '9'.repeat(39),
    '1'.repeat(40),
  ])('refuses %j', (text) => {
    expect(parseHashKey(text, new Uint32Array(4))).toBe(false);
  });

  it('takes leading zeros as decimal, not octal', () => {
    expect(canonicalHashKey('0123')).toBe('123');
    expect(canonicalHashKey('000')).toBe('0');
    expect(canonicalHashKey('0'.repeat(60) + '7')).toBe('7');
    expect(canonicalHashKey('0')).toBe('0');
  });

  it('refuses a bad explicit hash key with a typed error', () => {
    expect(() => canonicalHashKey('x')).toThrow(
      expect.objectContaining({ code: 'INVALID_RECORD', limit: '0 to 2^128 - 1' }),
    );
  });
});
