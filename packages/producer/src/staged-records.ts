import { type HashedKey, storeInEnvelope } from '@shardline/shared';

import { Entry, looksEncoded } from './entry.js';
import type { FlushGroup } from './flush-group.js';
import { HeldRecords } from './held-records.js';
import type { Caller, PendingRecord } from './pending-record.js';

const SMALLEST_CHUNK_BYTES = 2 ** 10;
const LARGEST_CHUNK_BYTES = 2 ** 16;
const NO_CHUNK = Buffer.alloc(0);
/** So many that were taken are worth the moving of the others. */
const MANY = 1_024;
/** Numbers of a record: see {@link StagedRecords.add}. */
const NUMBERS = 6;

/**
 * Records that will each be a Kinesis record of their own, for streams whose readers know no aggregates.
 * Lists rather than objects a record until they are sent: a producer holds a hundred thousand of them.
 */
export class StagedRecords {
  readonly #partitionKeys: string[] = [];
  readonly #groups: FlushGroup[] = [];
  /** Where the payloads are. */
  readonly #chunks: Buffer[] = [];
  readonly #numbers: number[] = [];
  /** By position; undefined as long as no record has any. */
  #explicitHashKeys: (string | undefined)[] | undefined;
  #callers: (Caller | undefined)[] | undefined;
  #head = 0;
  /** What the next payloads are copied into. */
  #chunk = NO_CHUNK;
  #usedBytes = 0;

  get count(): number {
    return this.#partitionKeys.length - this.#head;
  }

  /** Takes in a record that is counted in its group; its data are copied. */
  add(record: PendingRecord, key: HashedKey, dueMs: number): void {
    const { partitionKey, explicitHashKey, data, bytes, expiresMs, group, caller } = record;
    const payload = looksEncoded(data) ? storeInEnvelope(data, 'data') : data;
    const start = this.#copy(payload);
    const position = this.#partitionKeys.length;
    if (explicitHashKey !== undefined) (this.#explicitHashKeys ??= [])[position] = explicitHashKey;
    if (caller) (this.#callers ??= [])[position] = caller;
    this.#partitionKeys.push(partitionKey);
    this.#groups.push(group);
    this.#chunks.push(this.#chunk);
    this.#numbers.push(bytes, key.bytes, start, start + payload.length, dueMs, expiresMs);
  }

  /** The first of them as a Kinesis record, no longer one of them; undefined if there is none. */
  take(): Entry | undefined {
    const position = this.#head;
    const partitionKey = this.#partitionKeys[position];
    if (partitionKey === undefined) return undefined;
    const numbers = this.#numbers;
    const at = position * NUMBERS;
    const group = this.#groups[position] as FlushGroup;
    const partitionKeyBytes = numbers[at + 1] as number;
    const records = new HeldRecords(group);
    records.add(
      {
        bytes: numbers[at] as number,
        expiresMs: numbers[at + 5] as number,
        group,
        caller: this.#callers?.[position],
      },
      partitionKeyBytes,
    );
    const key = {
      partitionKey,
      partitionKeyBytes,
      explicitHashKey: this.#explicitHashKeys?.[position],
    };
    const payload = (this.#chunks[position] as Buffer).subarray(numbers[at + 2], numbers[at + 3]);
    const entry = new Entry(records, key, false, payload, numbers[at + 4] as number);
    this.#head += 1;
    // Amortised: moves no more than was taken.
    const isWorthIt = this.#head >= MANY && this.#head >= this.count;
    if (isWorthIt || this.count === 0) this.#forgetTaken();
    return entry;
  }

  #forgetTaken(): void {
    const taken = this.#head;
    this.#partitionKeys.splice(0, taken);
    this.#groups.splice(0, taken);
    this.#chunks.splice(0, taken);
    this.#numbers.splice(0, taken * NUMBERS);
    this.#explicitHashKeys?.splice(0, taken);
    this.#callers?.splice(0, taken);
    this.#head = 0;
    // What a burst took is not kept for the next one, shard by shard.
    if (this.count === 0 && this.#chunk.length > SMALLEST_CHUNK_BYTES) this.#chunk = NO_CHUNK;
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
