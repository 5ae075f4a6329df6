import {
  CBOR_ARRAY,
  CBOR_BYTES,
  CBOR_CONTENT_TYPE,
  CBOR_MAP,
  CborReader,
  encodeCbor,
  type StreamRef,
  writeCborHead,
  writeCborText,
} from '@shardline/shared';

import type { PutRecordsEntry } from './put-records-client.js';
import type { PutRecordsFormat, PutRecordsResult } from './put-records-format.js';

const RECORDS = encodeCbor('Records');
const DATA = encodeCbor('Data');
const PARTITION_KEY = encodeCbor('PartitionKey');
const EXPLICIT_HASH_KEY = encodeCbor('ExplicitHashKey');
/** More than an entry has besides its payload and its texts: names, and the heads of its items. */
const MOST_ENTRY_BYTES = 64;
const MOST_UTF8_BYTES = 3;

const ANSWER_NAMES = [Buffer.from('Records')];
const RESULT_NAMES = ['SequenceNumber', 'ShardId', 'ErrorCode'].map((name) => Buffer.from(name));

/**
 * Bodies in AWS CBOR 1.1, as the Java SDK writes them: payloads as they are, where JSON has them in base64.
 */
export class PutRecordsCbor implements PutRecordsFormat {
  readonly contentType = CBOR_CONTENT_TYPE;
  /** The name of the stream, which comes last. */
  readonly #tail: Buffer;

  constructor({ name, arn }: StreamRef) {
    const stream = arn === undefined ? { StreamName: name } : { StreamARN: arn };
    // Two members with it: without the head of a map with one.
    this.#tail = encodeCbor(stream).subarray(1);
  }

  largestBytes(entries: readonly PutRecordsEntry[]): number {
    let bytes = this.#tail.length + MOST_ENTRY_BYTES;
    for (const { partitionKey, explicitHashKey = '', payload } of entries) {
      bytes += MOST_ENTRY_BYTES + payload.length;
      bytes += MOST_UTF8_BYTES * (partitionKey.length + explicitHashKey.length);
    }
    return bytes;
  }

  write(body: Buffer, entries: readonly PutRecordsEntry[]): number {
    let at = writeCborHead(body, 0, CBOR_MAP, 2);
    at = copy(body, at, RECORDS);
    at = writeCborHead(body, at, CBOR_ARRAY, entries.length);
    for (const { partitionKey, explicitHashKey, payload } of entries) {
      at = writeCborHead(body, at, CBOR_MAP, explicitHashKey === undefined ? 2 : 3);
      at = copy(body, at, DATA);
      at = writeCborHead(body, at, CBOR_BYTES, payload.length);
      at = copy(body, at, payload);
      at = copy(body, at, PARTITION_KEY);
      at = writeCborText(body, at, partitionKey);
      if (explicitHashKey === undefined) continue;
      at = copy(body, at, EXPLICIT_HASH_KEY);
      at = writeCborText(body, at, explicitHashKey);
    }
    return copy(body, at, this.#tail);
  }
}

/** The results in an answer. */
export function parseCborResults(answer: Buffer): PutRecordsResult[] {
  const reader = new CborReader(answer);
  const [results = []] = reader.members(ANSWER_NAMES, () => reader.items(() => readResult(reader)));
  return results;
}

function readResult(reader: CborReader): PutRecordsResult {
  const [SequenceNumber, ShardId, ErrorCode] = reader.members(RESULT_NAMES, () => {
    const text = reader.item();
    return typeof text === 'string' ? text : undefined;
  });
  return { SequenceNumber, ShardId, ErrorCode };
}

function copy(body: Buffer, at: number, bytes: Uint8Array): number {
  body.set(bytes, at);
  return at + bytes.length;
}
