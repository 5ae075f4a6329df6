import type { StreamRef } from '@shardline/shared';

import type { PutRecordsEntry } from './put-records-client.js';

const OPEN_DATA = '{"Data":"';
const OPEN_KEY = '","PartitionKey":';
const OPEN_HASH_KEY = ',"ExplicitHashKey":"';
/** What JSON takes as it is. */
const PLAIN = /^[ !#-[\]-~]*$/;
const NOT_ASCII = /[\u0080-\uffff]/g;
/** So much data is worth a call into the runtime of its own: joined to other text it would be copied twice. */
const LARGE_CHARACTERS = 2_048;
/** So much text that was joined is. */
const ENOUGH_CHARACTERS = 8_192;
/** Most of a JSON text a partition key becomes: six bytes a UTF-16 unit, and quotes. */
const MOST_ESCAPED_BYTES = 6;
/** Bodies kept to be filled again: fresh memory of this size costs more than what is written to it. */
const MAX_SPARE_BODIES = 4;
const MAX_SPARE_BYTES = 2 ** 23;

/**
 * Writes bodies of PutRecords requests. The SDK's own way walks every record by its schema and encodes in
 * JavaScript; this writes the same JSON with what Node has built in.
 */
export class PutRecordsBodies {
  readonly #head: Buffer;
  readonly #spare: Buffer[] = [];

  constructor({ name, arn }: StreamRef) {
    const stream = arn === undefined ? { StreamName: name } : { StreamARN: arn };
    this.#head = Buffer.from(`${JSON.stringify(stream).slice(0, -1)},"Records":[`);
  }

  /** The body of a request; give it to {@link reuse} when nobody reads it any more. */
  write(entries: readonly PutRecordsEntry[]): Buffer {
    const body = this.#take(this.#head.length + largestBytes(entries));
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
    return body.subarray(0, at);
  }

  /** Takes a body back. */
  reuse(body: Buffer): void {
    const whole = Buffer.from(body.buffer);
    const isWorthIt = whole.length <= MAX_SPARE_BYTES && this.#spare.length < MAX_SPARE_BODIES;
    if (isWorthIt) this.#spare.push(whole);
  }

  #take(bytes: number): Buffer {
    const fitting = this.#spare.findIndex((spare) => spare.length >= bytes);
    if (fitting >= 0) return this.#spare.splice(fitting, 1)[0] as Buffer;
    // The largest that was too small makes room for one that is not.
    this.#spare.pop();
    return Buffer.allocUnsafeSlow(Math.ceil(bytes * 1.25));
  }
}

function largestBytes(entries: readonly PutRecordsEntry[]): number {
  let bytes = 2;
  for (const { partitionKey, explicitHashKey = '', payload } of entries) {
    bytes += OPEN_DATA.length + 4 * Math.ceil(payload.length / 3) + OPEN_KEY.length;
    bytes += MOST_ESCAPED_BYTES * partitionKey.length + OPEN_HASH_KEY.length;
    bytes += explicitHashKey.length + 5;
  }
  return bytes;
}

/** A string as JSON in nothing but ASCII. */
function asciiJson(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : JSON.stringify(text).replaceAll(NOT_ASCII, escaped);
}

function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
