import { crc32 } from 'node:zlib';

import { nextTurn } from '@shardline/shared';

import { ByteQueue } from './byte-queue.js';
import { type RecordsAnswer, JsonRecordsParser } from './records-answer.js';

/** Lengths and their checksum, before the headers of a message. */
const PRELUDE_BYTES = 12;
const CHECKSUM_BYTES = 4;
/** The service sends up to 16 MiB in a message; a longer one is none. */
const MAX_MESSAGE_BYTES = 2 ** 25;
/** Takes so long to parse that others get a turn before. */
const LARGE_BYTES = 2 ** 16;
/** The only type of header the service uses: a text with a length of two bytes. */
const TEXT_HEADER = 7;

/** The answer to a subscription was no stream of events, or a damaged one. */
function malformed(what: string): Error {
  return Object.assign(new Error(`the stream of events is damaged: ${what}`), {
    name: 'MalformedEventStream',
  });
}

/**
 * The events of a subscription out of the bytes of its answer (`application/vnd.amazon.eventstream`).
 *
 * @throws Under the service's name for it, what the service says went wrong; `MalformedEventStream`.
 */
export async function* readEvents(body: AsyncIterable<Buffer>): AsyncGenerator<RecordsAnswer> {
  const received = new ByteQueue();
  for await (const chunk of body) {
    received.push(chunk);
    for (;;) {
      const bytes = messageBytes(received);
      if (received.bytes < bytes) break;
      if (bytes >= LARGE_BYTES) await nextTurn();
      const event = readMessage(received.peek(bytes));
      received.drop(bytes);
      if (event) yield event;
    }
  }
  if (received.bytes > 0) throw malformed('it ends within a message');
}

/** Length of the message that begins here, or of what it takes to know it. */
function messageBytes(received: ByteQueue): number {
  if (received.bytes < PRELUDE_BYTES) return PRELUDE_BYTES;
  const prelude = received.peek(PRELUDE_BYTES);
  if (crc32(prelude.subarray(0, 8)) !== prelude.readUInt32BE(8)) {
    throw malformed('a checksum is wrong');
  }
  const total = prelude.readUInt32BE(0);
  const least = PRELUDE_BYTES + prelude.readUInt32BE(4) + CHECKSUM_BYTES;
  if (total < least || total > MAX_MESSAGE_BYTES) throw malformed(`a message of ${total} bytes`);
  return total;
}

/** @returns Undefined for messages that carry no records. */
function readMessage(message: Buffer): RecordsAnswer | undefined {
  const end = message.length - CHECKSUM_BYTES;
  if (crc32(message.subarray(0, end)) !== message.readUInt32BE(end)) {
    throw malformed('a checksum is wrong');
  }
  const payloadAt = PRELUDE_BYTES + message.readUInt32BE(4);
  const headers = readHeaders(message.subarray(PRELUDE_BYTES, payloadAt));
  const payload = message.subarray(payloadAt, end);
  if (headers.get(':message-type') === 'event') {
    if (headers.get(':event-type') !== 'SubscribeToShardEvent') return undefined;
    const parser = new JsonRecordsParser();
    parser.push(payload);
    return parser.finish();
  }
  const name = headers.get(':exception-type') ?? headers.get(':error-code') ?? 'UnknownError';
  throw Object.assign(new Error(headers.get(':error-message') ?? payload.toString()), { name });
}

function readHeaders(bytes: Buffer): ReadonlyMap<string, string> {
  const headers = new Map<string, string>();
  let at = 0;
  const text = (length: number): string => {
    if (at + length > bytes.length) throw malformed('a header is cut off');
    at += length;
    return bytes.toString('utf8', at - length, at);
  };
  while (at < bytes.length) {
    const nameBytes = bytes.readUInt8(at);
    at += 1;
    const name = text(nameBytes);
    if (bytes[at] !== TEXT_HEADER || at + 3 > bytes.length) throw malformed(`header ${name}`);
    const valueBytes = bytes.readUInt16BE(at + 1);
    at += 3;
    headers.set(name, text(valueBytes));
  }
  return headers;
}
