import { crc32 } from 'node:zlib';

import { asBuffer } from '../aggregation/decoder.js';
import { isShardlineError, ShardlineError } from '../errors.js';
import { type Codec, CODECS, compress, decompress } from './codecs.js';

/** What the bytes inside an envelope are. */
export type EnvelopeContent =
  /** One user record's data, verbatim: not to be looked into, whatever it begins with. */
  | 'data'
  /** A record in the KPL's aggregated format. */
  | 'aggregate';

export interface EnvelopeHeader {
  readonly codec: Codec;
  readonly content: EnvelopeContent;
  /** Length of the content before compression. */
  readonly rawBytes: number;
  /** CRC-32 of the content before compression. */
  readonly rawCrc32: number;
}

/** Bytes in front of the payload. */
export const ENVELOPE_HEADER_BYTES = 20;

/** Largest content a reader expands unless told otherwise: 32 MiB. */
export const DEFAULT_MAX_RAW_BYTES = 32 * 2 ** 20;

// F3 opens a four-byte UTF-8 character that 53 cannot continue: no text begins like this.
const MAGIC = 0xf353_4c5a;
const VERSION = 1;
const CONTENTS: readonly EnvelopeContent[] = ['data', 'aggregate'];

/** True if a reader of envelopes would look at these bytes twice. */
export function startsLikeEnvelope(bytes: Uint8Array): boolean {
  return bytes[0] === 0xf3 && bytes[1] === 0x53 && bytes[2] === 0x4c && bytes[3] === 0x5a;
}

/**
 * The header, or undefined if the bytes are not an envelope. The header has a checksum of its own, so
 * that bytes which merely begin alike are told apart.
 *
 * @throws ShardlineError `DAMAGED_RECORD` for a later version, codec or content than this code knows.
 */
export function readEnvelopeHeader(bytes: Uint8Array): EnvelopeHeader | undefined {
  if (bytes.length < ENVELOPE_HEADER_BYTES || !startsLikeEnvelope(bytes)) return undefined;
  const buffer = asBuffer(bytes);
  if (crc32(buffer.subarray(0, 16)) !== buffer.readUInt32BE(16)) return undefined;
  const codec = CODECS[buffer.readUInt8(5)];
  const content = CONTENTS[buffer.readUInt8(6)];
  if (buffer.readUInt8(4) !== VERSION || codec === undefined || content === undefined) {
    throw damaged('is of a version, codec or content this reader does not know');
  }
  return {
    codec,
    content,
    rawBytes: buffer.readUInt32BE(8),
    rawCrc32: buffer.readUInt32BE(12),
  };
}

/** Compresses `raw` in the runtime's thread pool and puts it into an envelope. */
export async function sealEnvelope(
  raw: Uint8Array,
  codec: Codec,
  content: EnvelopeContent,
): Promise<Buffer> {
  const payload = await compress(codec, raw);
  return envelope(raw, payload, codec, content);
}

/** Puts `raw` into an envelope uncompressed, so that readers take exactly one layer off. */
export function storeInEnvelope(raw: Uint8Array, content: EnvelopeContent): Buffer {
  return envelope(raw, raw, 'stored', content);
}

/**
 * Takes the content out of an envelope.
 *
 * @param maxRawBytes - Refuses to expand more. Unit: bytes.
 * @throws ShardlineError `RAW_SIZE_EXCEEDED`, `CODEC_UNAVAILABLE`, `DAMAGED_RECORD`.
 */
export function openEnvelope(
  bytes: Uint8Array,
  header: EnvelopeHeader,
  maxRawBytes: number,
): Uint8Array {
  if (header.rawBytes > maxRawBytes) {
    throw new ShardlineError(
      'RAW_SIZE_EXCEEDED',
      `a compressed record expands to ${header.rawBytes} bytes, the limit is ${maxRawBytes} bytes`,
      { value: header.rawBytes, limit: maxRawBytes, unit: 'bytes' },
    );
  }
  const payload = bytes.subarray(ENVELOPE_HEADER_BYTES);
  let raw: Uint8Array;
  try {
    // Bounded by what the header announces, not by what the payload turns out to hold.
    raw = decompress(header.codec, payload, header.rawBytes);
  } catch (error) {
    if (isShardlineError(error)) throw error;
    throw damaged('cannot be decompressed to the size it announces', error);
  }
  if (raw.length !== header.rawBytes) throw damaged('is not of the size it announces');
  if (crc32(raw) !== header.rawCrc32) throw damaged('does not match its checksum');
  return raw;
}

function envelope(
  raw: Uint8Array,
  payload: Uint8Array,
  codec: Codec,
  content: EnvelopeContent,
): Buffer {
  const result = Buffer.allocUnsafe(ENVELOPE_HEADER_BYTES + payload.length);
  result.writeUInt32BE(MAGIC, 0);
  result.writeUInt8(VERSION, 4);
  result.writeUInt8(CODECS.indexOf(codec), 5);
  result.writeUInt8(CONTENTS.indexOf(content), 6);
  result.writeUInt8(0, 7);
  result.writeUInt32BE(raw.length, 8);
  result.writeUInt32BE(crc32(raw), 12);
  result.writeUInt32BE(crc32(result.subarray(0, 16)), 16);
  result.set(payload, ENVELOPE_HEADER_BYTES);
  return result;
}

function damaged(what: string, cause?: unknown): ShardlineError {
  return new ShardlineError('DAMAGED_RECORD', `a compressed record ${what}`, { cause });
}
