import { crc32, gzipSync } from 'node:zlib';

import {
  type Codec,
  ENVELOPE_HEADER_BYTES,
  isCodecAvailable,
  openEnvelope,
  readEnvelopeHeader,
  sealEnvelope,
  type ShardlineError,
  storeInEnvelope,
} from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const AVAILABLE = (['gzip', 'deflate', 'brotli', 'zstd'] as const).filter(isCodecAvailable);
const LIMIT = 1_000_000;

function open(bytes: Uint8Array, limit = LIMIT): Buffer {
  const header = readEnvelopeHeader(bytes);
  if (!header) throw new Error('not an envelope');
  return Buffer.from(openEnvelope(bytes, header, limit));
}

/** What is inside, or the code of the error. */
function outcome(bytes: Uint8Array): string {
  try {
    return open(bytes).toString();
  } catch (error) {
    return (error as ShardlineError).code;
  }
}

/** An envelope with a header that is valid in itself. */
function forged(
  codec: number,
  content: number,
  rawBytes: number,
  payload: Uint8Array,
  version = 1,
): Buffer {
  const header = Buffer.alloc(ENVELOPE_HEADER_BYTES);
  header.write('f3534c5a', 'hex');
  header.set([version, codec, content], 4);
  header.writeUInt32BE(rawBytes, 8);
  header.writeUInt32BE(crc32(header.subarray(0, 16)), 16);
  return Buffer.concat([header, payload]);
}

describe('the compressed envelope', () => {
  it.each(AVAILABLE)('gives back what was sealed with %s', async (codec) => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2_000 }), async (raw) => {
        const sealed = await sealEnvelope(raw, codec, 'aggregate');
        expect(readEnvelopeHeader(sealed)).toEqual({
          codec,
          content: 'aggregate',
          rawBytes: raw.length,
          rawCrc32: crc32(raw),
        });
        expect(open(sealed).equals(raw)).toBe(true);
      }),
      { numRuns: 25 },
    );
  });

  it('matches the example of docs/record-format.md', () => {
    expect(storeInEnvelope(Buffer.from('hi'), 'data').toString('hex')).toBe(
      'f3534c5a0100000000000002d8932aaccc4eb3b16869',
    );
  });

  it('is not seen in bytes that merely begin alike', () => {
    const bytes = storeInEnvelope(Buffer.from('hello'), 'data');
    for (let at = 0; at < ENVELOPE_HEADER_BYTES; at += 1) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(readEnvelopeHeader(changed)).toBeUndefined();
    }
    expect(readEnvelopeHeader(bytes.subarray(0, ENVELOPE_HEADER_BYTES - 1))).toBeUndefined();
  });

  it('refuses to expand more than the limit, naming both sizes', () => {
    const bomb = forged(1, 0, 50_000_000, gzipSync(Buffer.alloc(50_000_000)));
    expect(() => open(bomb)).toThrow(
      expect.objectContaining({
        code: 'RAW_SIZE_EXCEEDED',
        value: 50_000_000,
        limit: LIMIT,
        unit: 'bytes',
      }),
    );
  });

  it.each([
    ['gzip', 1],
    ['deflate', 2],
    ['brotli', 3],
  ] as const)('stops a %s payload that holds more than it announces', async (codec, number) => {
    const honest = await sealEnvelope(Buffer.alloc(500_000), codec, 'data');
    const lying = forged(number, 0, 100, honest.subarray(ENVELOPE_HEADER_BYTES));
    expect(() => open(lying)).toThrow(expect.objectContaining({ code: 'DAMAGED_RECORD' }));
  });

  it.each(AVAILABLE)('notices a damaged or shortened %s payload', async (codec) => {
    const raw = Buffer.from('the same line again and again, '.repeat(40));
    const sealed = await sealEnvelope(raw, codec, 'data');
    for (let at = ENVELOPE_HEADER_BYTES; at < sealed.length; at += 1) {
      const changed = Buffer.from(sealed);
      changed[at] = (changed[at] ?? 0) ^ 0x55;
      // A changed byte may not change the content (gzip's file name flags); it must never give other bytes.
      expect(outcome(changed)).toBeOneOf(['DAMAGED_RECORD', raw.toString()]);
    }
    expect(() => open(sealed.subarray(0, -3))).toThrow(
      expect.objectContaining({ code: 'DAMAGED_RECORD' }),
    );
  });

  it.each([
    ['version', forged(1, 0, 0, Buffer.alloc(0), 2)],
    ['codec', forged(9, 0, 0, Buffer.alloc(0))],
    ['content', forged(1, 7, 0, Buffer.alloc(0))],
  ])('says so when it meets a later %s', (_, bytes) => {
    expect(() => readEnvelopeHeader(bytes)).toThrow(
      expect.objectContaining({ code: 'DAMAGED_RECORD' }),
    );
  });

  it('names the runtime that is needed where zstd is missing', async () => {
    const zstd: Codec = 'zstd';
    if (isCodecAvailable(zstd)) return; // Covered by the tests above.
    const missing = expect.objectContaining({ code: 'CODEC_UNAVAILABLE', limit: 'Node 22.15' });
    await expect(sealEnvelope(Buffer.from('z'), zstd, 'data')).rejects.toEqual(missing);
    expect(() => open(forged(4, 0, 1, Buffer.from('z')))).toThrow(missing);
  });
});
