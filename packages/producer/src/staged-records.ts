import { type HashedKey, storeInEnvelope } from '@shardline/shared';

import { Entry, looksEncoded } from './entry.js';
import type { FlushGroup } from './flush-group.js';
import { HeldRecords } from './held-records.js';
import type { Caller, PendingRecord } from './pending-record.js';

const SMALLEST_CHUNK_BYTES = 2 ** 10;
const LARGEST_CHUNK_BYTES = 2 ** 16;
const NO_CHUNK = Buffer.alloc(0);
/** Numbers of a record: see {@link Columns.add}. */
const NUMBERS = 6;

/**
 * Records that will each be a Kinesis record of their own, for streams whose readers know no aggregates.
 * Lists rather than objects a record until they are sent: a producer holds a hundred thousand of them.
 */
export class StagedRecords {
  /** What is taken from, and what is added to meanwhile: they change places when the first is empty. */
  #front = new Columns();
  #back = new Columns();
  /** What the next payloads are copied into. */
  #chunk = NO_CHUNK;
  #usedBytes = 0;

  get count(): number {
    return this.#front.count + this.#back.count;
  }

  /** Takes in a record that is counted in its group; its data are copied. */
  add(record: PendingRecord, key: HashedKey, dueMs: number): void {
    const { data } = record;
    const payload = looksEncoded(data) ? storeInEnvelope(data, 'data') : data;
    const start = this.#copy(payload);
    this.#back.add(record, key.bytes, this.#chunk, start, start + payload.length, dueMs);
  }

  /** The first of them as a Kinesis record, no longer one of them; undefined if there is none. */
  take(): Entry | undefined {
    if (this.#front.count === 0) [this.#front, this.#back] = [this.#back, this.#front];
    const entry = this.#front.take();
    if (this.#front.count === 0) this.#front.clear();
    // What a burst took is not kept for the next one, shard by shard.
    if (this.count === 0 && this.#chunk.length > SMALLEST_CHUNK_BYTES) this.#chunk = NO_CHUNK;
    return entry;
  }

  /** @returns Where in the chunk. */
  #copy(payload: Uint8Array): number {
    if (this.#usedBytes + payload.length > this.#chunk.length) {
      // In proportion to what waits: a chunk lives as long as any record in it.
      const wanted = this.count === 0 ? SMALLEST_CHUNK_BYTES : this.#chunk.length * 2;
      const bytes = Math.min(Math.max(wanted, SMALLEST_CHUNK_BYTES), LARGEST_CHUNK_BYTES);
      this.#chunk = Buffer.allocUnsafe(Math.max(bytes, payload.length));
      this.#usedBytes = 0;
    }
    const start = this.#usedBytes;
    this.#chunk.set(payload, start);
    this.#usedBytes += payload.length;
    return start;
  }
}

/** Records by position, a list a property. */
class Columns {
  readonly #partitionKeys: string[] = [];
  readonly #groups: FlushGroup[] = [];
  /** Where the payloads are. */
  readonly #chunks: Buffer[] = [];
  readonly #numbers: number[] = [];
  /** Undefined as long as no record has any. */
  #explicitHashKeys: (string | undefined)[] | undefined;
  #callers: (Caller | undefined)[] | undefined;
  #head = 0;

  get count(): number {
    return this.#partitionKeys.length - this.#head;
  }

  add(
    { partitionKey, explicitHashKey, bytes, expiresMs, group, caller }: PendingRecord,
    keyBytes: number,
    chunk: Buffer,
    start: number,
    end: number,
    dueMs: number,
  ): void {
    const position = this.#partitionKeys.length;
    if (explicitHashKey !== undefined) (this.#explicitHashKeys ??= [])[position] = explicitHashKey;
    if (caller) (this.#callers ??= [])[position] = caller;
    this.#partitionKeys.push(partitionKey);
    this.#groups.push(group);
    this.#chunks.push(chunk);
    this.#numbers.push(bytes, keyBytes, start, end, dueMs, expiresMs);
  }

  take(): Entry | undefined {
    if (this.count === 0) return undefined;
    const position = this.#head;
    this.#head += 1;
    const partitionKey = this.#partitionKeys[position] as string;
    const numbers = this.#numbers;
    const at = position * NUMBERS;
    const group = this.#groups[position] as FlushGroup;
    const caller = this.#callers?.[position];
    const chunk = this.#chunks[position] as Buffer;
    // Others may wait here for long yet.
    this.#partitionKeys[position] = '';
    this.#chunks[position] = NO_CHUNK;
    if (this.#callers) this.#callers[position] = undefined;
    const keyBytes = numbers[at + 1] as number;
    const records = new HeldRecords(group);
    records.add(
      {
        bytes: numbers[at] as number,
        expiresMs: numbers[at + 5] as number,
        group,
        caller,
      },
      keyBytes,
    );
    return new Entry(
      records,
      partitionKey,
      keyBytes,
      this.#explicitHashKeys?.[position],
      false,
      chunk.subarray(numbers[at + 2], numbers[at + 3]),
      numbers[at + 4] as number,
    );
  }

  clear(): void {
    this.#partitionKeys.length = 0;
    this.#groups.length = 0;
    this.#chunks.length = 0;
    this.#numbers.length = 0;
    this.#explicitHashKeys = undefined;
    this.#callers = undefined;
    this.#head = 0;
  }
}
