import type { PutRecordsCommandOutput } from '@aws-sdk/client-kinesis';
import type { StreamRef } from '@shardline/shared';

import type { PutRecordsEntry } from './put-records-client.js';
import type { PutRecordsFormat, PutRecordsResult } from './put-records-format.js';

const OPEN_DATA = '{"Data":"';
const OPEN_KEY = '","PartitionKey":';
const OPEN_HASH_KEY = ',"ExplicitHashKey":"';
/** What JSON takes as it is. */
const PLAIN = /^[ !#-[\]-~]*$/;
const NOT_ASCII = /[\u0080-\uffff]/g;
/** So much data is worth a call into the runtime of its own: joined to other text it would be copied twice. */
const LARGE_CHARACTERS = 768;
/** So much text that was joined is. */
const ENOUGH_CHARACTERS = 8_192;
/** Most of a JSON text a partition key becomes: six bytes a UTF-16 unit, and quotes. */
const MOST_ESCAPED_BYTES = 6;

/**
 * Bodies in JSON. The SDK's own way walks every record by its schema and encodes in JavaScript; this writes
 * the same with what Node has built in.
 */
export class PutRecordsJson implements PutRecordsFormat {
  readonly contentType = undefined;
  readonly #head: Buffer;

  constructor({ name, arn }: StreamRef) {
    const stream = arn === undefined ? { StreamName: name } : { StreamARN: arn };
    this.#head = Buffer.from(`${JSON.stringify(stream).slice(0, -1)},"Records":[`);
  }

  largestBytes(entries: readonly PutRecordsEntry[]): number {
    let bytes = this.#head.length + 2;
    for (const { partitionKey, explicitHashKey = '', payload } of entries) {
      bytes += OPEN_DATA.length + 4 * Math.ceil(payload.length / 3) + OPEN_KEY.length;
      bytes += MOST_ESCAPED_BYTES * partitionKey.length + OPEN_HASH_KEY.length;
      bytes += explicitHashKey.length + 5;
    }
    return bytes;
  }

  write(body: Buffer, entries: readonly PutRecordsEntry[]): number {
    let at = this.#head.copy(body);
    // Small entries share a call into the runtime.
    let text = '';
    for (const { partitionKey, explicitHashKey, payload } of entries) {
      const data = payload.toString('base64');
      text += OPEN_DATA;
      if (data.length > LARGE_CHARACTERS) {
        at += body.write(text, at, 'latin1');
        at += body.write(data, at, 'latin1');
        text = '';
      } else text += data;
      text += `${OPEN_KEY}${asciiJson(partitionKey)}`;
      if (explicitHashKey !== undefined) text += `${OPEN_HASH_KEY}${explicitHashKey}"`;
      text += '},';
      if (text.length > ENOUGH_CHARACTERS) {
        at += body.write(text, at, 'latin1');
        text = '';
      }
    }
    at += body.write(text, at, 'latin1');
    // In place of the last comma.
    at += body.write(']}', at - 1, 'latin1') - 1;
    return at;
  }
}

/** The results in an answer. */
export function parseJsonResults(answer: Buffer): readonly PutRecordsResult[] {
  return (JSON.parse(answer.toString()) as PutRecordsCommandOutput).Records ?? [];
}

/** A string as JSON in nothing but ASCII. */
function asciiJson(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : JSON.stringify(text).replaceAll(NOT_ASCII, escaped);
}

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
