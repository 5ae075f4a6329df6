import { promisify } from 'node:util';
import * as zlib from 'node:zlib';

import { ShardlineError } from '../errors.js';

/** How an envelope's payload is compressed; `stored` means not at all. */
export type Codec = 'stored' | 'gzip' | 'deflate' | 'brotli' | 'zstd';

/** The codecs by their number on the wire. */
export const CODECS: readonly Codec[] = ['stored', 'gzip', 'deflate', 'brotli', 'zstd'];

/** What `node:zlib` has from Node 22.15 on. */
interface ZstdFunctions {
  readonly zstdCompress?: (
    raw: Uint8Array,
    options: object,
    done: (error: Error | null, result: Buffer) => void,
  ) => void;
  readonly zstdDecompressSync?: (bytes: Uint8Array, options: object) => Buffer;
}

const { zstdCompress, zstdDecompressSync } = zlib as ZstdFunctions;
const gzip = promisify(zlib.gzip as (raw: Uint8Array, options: object, done: Done) => void);
const deflate = promisify(zlib.deflate as (raw: Uint8Array, options: object, done: Done) => void);
const brotli = promisify(
  zlib.brotliCompress as (raw: Uint8Array, options: object, done: Done) => void,
);

type Done = (error: Error | null, result: Buffer) => void;

/** True if this runtime can compress and decompress with the codec. */
export function isCodecAvailable(codec: Codec): boolean {
  return codec !== 'zstd' || (zstdCompress !== undefined && zstdDecompressSync !== undefined);
}

/**
 * Compresses off the event loop, in the runtime's thread pool.
 *
 * @throws ShardlineError `CODEC_UNAVAILABLE`.
 */
export async function compress(codec: Codec, raw: Uint8Array): Promise<Uint8Array> {
  switch (codec) {
    case 'stored':
      return raw;
    case 'gzip':
      return gzip(raw, { level: 1 });
    case 'deflate':
      return deflate(raw, { level: 1 });
    case 'brotli':
      return brotli(raw, {
        params: {
          // Level 1 packs log lines like gzip 6 does, at five times its speed.
          [zlib.constants.BROTLI_PARAM_QUALITY]: 1,
          [zlib.constants.BROTLI_PARAM_SIZE_HINT]: raw.length,
        },
      });
    case 'zstd':
      if (zstdCompress === undefined) throw unavailable(codec);
      return promisify(zstdCompress)(raw, {});
  }
}

/**
 * Decompresses at most `maxBytes`: more makes the runtime's decoder stop and throw.
 *
 * @throws ShardlineError `CODEC_UNAVAILABLE`; the decoder's own error for damaged bytes.
 */
export function decompress(codec: Codec, bytes: Uint8Array, maxBytes: number): Uint8Array {
  const options = { maxOutputLength: Math.max(maxBytes, 1) };
  switch (codec) {
    case 'stored':
      return bytes;
    case 'gzip':
      return zlib.gunzipSync(bytes, options);
    case 'deflate':
      return zlib.inflateSync(bytes, options);
    case 'brotli':
      return zlib.brotliDecompressSync(bytes, options);
    case 'zstd':
      if (zstdDecompressSync === undefined) throw unavailable(codec);
      return zstdDecompressSync(bytes, options);
  }
}

function unavailable(codec: Codec): ShardlineError {
  return new ShardlineError(
    'CODEC_UNAVAILABLE',
    `codec '${codec}' needs Node 22.15 or later, this is ${process.version}`,
    { value: codec, limit: 'Node 22.15' },
  );
}
