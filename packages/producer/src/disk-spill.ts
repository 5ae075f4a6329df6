import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';

import { integerOptions, rejectUnknownOptions } from '@shardline/shared';

import type { PutRecord } from './options.js';
import type { UndeliverableRecord } from './pending-record.js';
import type { Producer } from './producer.js';

export interface DiskSpillOptions {
  /** A folder of its own; created if it does not exist. */
  readonly folder: string;
  /** Records beyond it are not kept, and reported by {@link DiskSpill.take}. Unit: bytes. Range: 1 048 576 and up. @defaultValue 1 GiB */
  readonly maxBytes?: number;
}

/** A record as it is kept. */
interface Kept {
  readonly partitionKey: string;
  readonly explicitHashKey: string | undefined;
  readonly data: Buffer;
}

interface Rejected {
  readonly record: Kept;
  readonly reason: unknown;
}

const RULES = {
  maxBytes: { min: 2 ** 20, max: Infinity, fallback: 2 ** 30, unit: 'bytes' },
} as const;
const FILE = 'undeliverable.records';
/** Length of the body, then the first half of its SHA-256. */
const HEAD_BYTES = 4 + 16;
const REPLAY_RECORDS = 500;

/**
 * Keeps undeliverable records in a file until they can be delivered: written and synced before
 * {@link take} returns, checksummed one by one, bounded, replayed in order. A crash in the middle of a
 * write costs the record being written and none before it; what cannot be read is set aside in
 * `undeliverable.records.damaged`.
 */
export class DiskSpill {
  readonly #path: string;
  readonly #maxBytes: number;
  #bytes: number;
  #dropped = 0;
  /** Why each record failed that was taken while a replay is under way. */
  #takenWhileReplaying: Error[] | undefined;

  /** @throws ShardlineError `INVALID_OPTION`; the system's error if the folder cannot be made. */
  constructor(options: DiskSpillOptions) {
    rejectUnknownOptions(options, ['folder', ...Object.keys(RULES)]);
    this.#maxBytes = integerOptions(options, RULES).maxBytes;
    fs.mkdirSync(options.folder, { recursive: true });
    this.#path = join(options.folder, FILE);
    this.#bytes = this.#setAsideDamage();
  }

  /** Bytes on disk. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Records that did not fit and are lost. */
  get dropped(): number {
    return this.#dropped;
  }

  /**
   * Keeps records; give it to a producer as `onUndeliverable`.
   *
   * @throws The system's error if they cannot be written; they count as dropped then.
   */
  readonly take = (records: readonly UndeliverableRecord[]): void => {
    const fitting: Buffer[] = [];
    const errors: Error[] = [];
    let bytes = this.#bytes;
    for (const record of records) {
      const encoded = encode(record);
      if (bytes + encoded.length > this.#maxBytes) {
        this.#dropped += 1;
        continue;
      }
      bytes += encoded.length;
      fitting.push(encoded);
      errors.push(record.error);
    }
    if (fitting.length === 0) return;
    const file = fs.openSync(this.#path, 'a');
    try {
      fs.writeFileSync(file, Buffer.concat(fitting));
      fs.fsyncSync(file);
    } catch (error) {
      this.#dropped += fitting.length;
      // Half a record would hide what is written behind it.
      fs.ftruncateSync(file, this.#bytes);
      throw error;
    } finally {
      fs.closeSync(file);
    }
    this.#bytes = bytes;
    this.#takenWhileReplaying?.push(...errors);
  };

  /**
   * Puts what is kept, in order, and forgets what was stored. Stops at the first record that cannot be
   * delivered; that one and all behind it stay.
   *
   * @returns How many records were stored.
   * @throws What `put` rejected with.
   */
  async replay(producer: Producer): Promise<number> {
    const { records } = this.#read();
    const taken: Error[] = [];
    this.#takenWhileReplaying = taken;
    let stored = 0;
    let rejected: Rejected[] = [];
    while (stored < records.length && rejected.length === 0) {
      const part = records.slice(stored, stored + REPLAY_RECORDS);
      const results = await producer.putMany(part.map(toPut));
      rejected = part.flatMap((record, index) => {
        const result = results[index];
        return result?.status === 'rejected' ? [{ record, reason: result.reason }] : [];
      });
      const first = results.findIndex(({ status }) => status === 'rejected');
      stored += first < 0 ? part.length : first;
    }
    this.#takenWhileReplaying = undefined;
    const now = this.#read().records;
    const added = now.slice(records.length).map((record, index) => ({
      record,
      reason: taken[index],
    }));
    this.#replace([...now.slice(stored, records.length), ...withoutCopies(added, rejected)]);
    if (rejected[0]) throw rejected[0].reason;
    return stored;
  }

  /**
   * Moves what cannot be read out of the way: it would hide what is written behind it.
   *
   * @returns Where the whole records end.
   */
  #setAsideDamage(): number {
    if (!fs.existsSync(this.#path)) return 0;
    const { wholeBytes } = this.#read();
    const rest = fs.readFileSync(this.#path).subarray(wholeBytes);
    if (rest.length > 0) {
      fs.appendFileSync(`${this.#path}.damaged`, rest, { flush: true });
      fs.truncateSync(this.#path, wholeBytes);
    }
    return wholeBytes;
  }

  /** Writes the file anew, whole or not at all. */
  #replace(records: readonly Kept[]): void {
    const bytes = Buffer.concat(records.map(encode));
    const file = fs.openSync(`${this.#path}.new`, 'w');
    try {
      fs.writeFileSync(file, bytes);
      fs.fsyncSync(file);
    } finally {
      fs.closeSync(file);
    }
    fs.renameSync(`${this.#path}.new`, this.#path);
    this.#bytes = bytes.length;
  }

  /** All whole records, and where they end. */
  #read(): { readonly records: Kept[]; readonly wholeBytes: number } {
    const bytes = fs.existsSync(this.#path) ? fs.readFileSync(this.#path) : Buffer.alloc(0);
    const records: Kept[] = [];
    let at = 0;
    while (at + HEAD_BYTES <= bytes.length) {
      const end = at + HEAD_BYTES + bytes.readUInt32BE(at);
      const body = bytes.subarray(at + HEAD_BYTES, end);
      if (end > bytes.length || !checksum(body).equals(bytes.subarray(at + 4, at + HEAD_BYTES)))
        break;
      records.push(decode(body));
      at = end;
    }
    return { records, wholeBytes: at };
  }
}

function toPut({ partitionKey, explicitHashKey, data }: Kept): PutRecord<Buffer> {
  return { partitionKey, data, ...(explicitHashKey !== undefined && { explicitHashKey }) };
}

/**
 * What was added while others were replayed, without those that came back: a producer that hands what
 * fails to this spill hands over the replayed records too, and they still stand further in front.
 */
function withoutCopies(added: readonly Rejected[], rejected: readonly Rejected[]): Kept[] {
  const left = rejected.map(({ record, reason }) => ({ bytes: encode(record), reason }));
  return added.flatMap(({ record, reason }) => {
    const bytes = encode(record);
    const at = left.findIndex((copy) => copy.reason === reason && copy.bytes.equals(bytes));
    if (at < 0) return [record];
    left.splice(at, 1);
    return [];
  });
}

function encode({ partitionKey, explicitHashKey = '', data }: Kept): Buffer {
  const key = Buffer.from(partitionKey);
  const head = Buffer.alloc(4);
  head.writeUInt16BE(key.length, 0);
  head.writeUInt16BE(explicitHashKey.length, 2);
  const body = Buffer.concat([head, key, Buffer.from(explicitHashKey), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length);
  return Buffer.concat([length, checksum(body), body]);
}

function decode(body: Buffer): Kept {
  const keyEnd = 4 + body.readUInt16BE(0);
  const hashEnd = keyEnd + body.readUInt16BE(2);
  return {
    partitionKey: body.toString('utf8', 4, keyEnd),
    explicitHashKey: hashEnd > keyEnd ? body.toString('utf8', keyEnd, hashEnd) : undefined,
    data: body.subarray(hashEnd),
  };
}

function checksum(body: Buffer): Buffer {
  return createHash('sha256').update(body).digest().subarray(0, 16);
}
