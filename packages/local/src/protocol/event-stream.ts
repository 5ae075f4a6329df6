import { crc32 } from 'node:zlib';

const PRELUDE_BYTES = 12;
const CRC_BYTES = 4;
const STRING_HEADER = 7;

/** The first frame of a subscription. */
export const INITIAL_RESPONSE = frame(
  {
    ':message-type': 'event',
    ':event-type': 'initial-response',
    ':content-type': 'application/json',
  },
  Buffer.from('{}'),
);

/** A frame that carries one SubscribeToShardEvent. */
export function eventFrame(json: string): Buffer {
  return frame(
    {
      ':message-type': 'event',
      ':event-type': 'SubscribeToShardEvent',
      ':content-type': 'application/json',
    },
    Buffer.from(json),
  );
}

/** A frame that ends a subscription with one of the service's errors. */
export function exceptionFrame(name: string, message: string): Buffer {
  return frame(
    { ':message-type': 'exception', ':exception-type': name, ':content-type': 'application/json' },
    Buffer.from(JSON.stringify({ message })),
  );
}

/** One message of `application/vnd.amazon.eventstream`. */
function frame(headers: Readonly<Record<string, string>>, payload: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (const [name, value] of Object.entries(headers)) {
    const part = Buffer.alloc(1 + name.length + 3 + value.length);
    part.writeUInt8(name.length, 0);
    part.write(name, 1, 'latin1');
    part.writeUInt8(STRING_HEADER, 1 + name.length);
    part.writeUInt16BE(value.length, 2 + name.length);
    part.write(value, 4 + name.length, 'latin1');
    parts.push(part);
  }
  const header = Buffer.concat(parts);
  const total = PRELUDE_BYTES + header.length + payload.length + CRC_BYTES;
  const result = Buffer.allocUnsafe(total);
  result.writeUInt32BE(total, 0);
  result.writeUInt32BE(header.length, 4);
  result.writeUInt32BE(crc32(result.subarray(0, 8)), 8);
  header.copy(result, PRELUDE_BYTES);
  payload.copy(result, PRELUDE_BYTES + header.length);
  result.writeUInt32BE(crc32(result.subarray(0, total - CRC_BYTES)), total - CRC_BYTES);
  return result;
}
