import type { HashRange } from '@shardline/shared';

import type { Limits } from './limits.js';
import { endingSequenceNumber, formatSequenceNumber } from './sequence-numbers.js';
import { bucketFor, type TokenBucket } from './token-bucket.js';

/** A record as it is kept: what GetRecords gives, and its place in the shard. */
export interface StoredRecord {
  readonly SequenceNumber: string;
  readonly ApproximateArrivalTimestamp: Date;
  readonly Data: Buffer;
  readonly PartitionKey: string | undefined;
}

export interface ShardBirth {
  readonly index: number;
  readonly range: HashRange;
  readonly createdAt: number;
  readonly parentShardId: string | undefined;
  readonly adjacentParentShardId: string | undefined;
}

/** One shard: an append-only list of records, addressed by a counter that starts at 1. */
export class Shard {
  readonly id: string;
  readonly birth: ShardBirth;
  readonly startingSequenceNumber: string;
  /** Present once the shard is closed. */
  endingSequenceNumber: string | undefined;
  closedAt: number | undefined;
  /** The shards that took over its hash keys. */
  children: readonly Shard[] = [];

  #records: StoredRecord[] = [];
  /** Counter of the first record kept. */
  #firstCounter = 1;
  readonly #writeRecords: TokenBucket | undefined;
  readonly #writeBytes: TokenBucket | undefined;
  readonly #readCalls: TokenBucket | undefined;
  readonly #readBytes: TokenBucket | undefined;
  readonly #iteratorCalls: TokenBucket | undefined;
  readonly #maxBytes: number;
  #bytes = 0;
  readonly #watchers = new Set<() => void>();

  /** @param maxBytes - Oldest records are forgotten beyond it. */
  constructor(birth: ShardBirth, limits: Limits, maxBytes: number) {
    this.birth = birth;
    this.id = shardIdOf(birth.index);
    this.startingSequenceNumber = this.sequenceNumberAt(0, birth.createdAt);
    this.#maxBytes = maxBytes;
    this.#writeRecords = bucketFor(limits.writeRecordsPerSecond);
    this.#writeBytes = bucketFor(limits.writeBytesPerSecond);
    this.#readCalls = bucketFor(limits.readCallsPerSecond);
    this.#readBytes = bucketFor(limits.readBytesPerSecond);
    this.#iteratorCalls = bucketFor(limits.iteratorCallsPerSecond);
  }

  get isOpen(): boolean {
    return this.endingSequenceNumber === undefined;
  }

  /** Counter of the oldest record kept. */
  get horizon(): number {
    return this.#firstCounter;
  }

  /** Counter the next record will get. */
  get tip(): number {
    return this.#firstCounter + this.#records.length;
  }

  sequenceNumberAt(counter: number, at: number): string {
    return formatSequenceNumber({
      shardIndex: this.birth.index,
      shardCreatedAtSeconds: Math.floor(this.birth.createdAt / 1000),
      counter,
      atSeconds: Math.floor(at / 1000),
    });
  }

  /** True if the write fits the shard's rates; it is then counted. */
  admitWrite(bytes: number, nowMs: number): boolean {
    if (this.#writeRecords?.has(1, nowMs) === false) return false;
    if (this.#writeBytes?.has(Math.min(bytes, 2 ** 20), nowMs) === false) return false;
    this.#writeRecords?.take(1);
    this.#writeBytes?.take(bytes);
    return true;
  }

  /** True if a GetRecords call may go ahead; it is then counted. */
  admitRead(nowMs: number): boolean {
    if (this.#readCalls?.has(1, nowMs) === false || this.#readBytes?.has(0, nowMs) === false) {
      return false;
    }
    this.#readCalls?.take(1);
    return true;
  }

  admitIterator(nowMs: number): boolean {
    if (this.#iteratorCalls?.has(1, nowMs) === false) return false;
    this.#iteratorCalls?.take(1);
    return true;
  }

  /** All records kept, oldest first. */
  get records(): readonly StoredRecord[] {
    return this.#records;
  }

  countRead(bytes: number): void {
    this.#readBytes?.take(bytes);
  }

  append(data: Buffer, partitionKey: string | undefined, now: number): StoredRecord {
    const record: StoredRecord = {
      SequenceNumber: this.sequenceNumberAt(this.tip, now),
      ApproximateArrivalTimestamp: new Date(now),
      Data: data,
      PartitionKey: partitionKey,
    };
    this.#records.push(record);
    this.#bytes += recordBytes(record);
    if (this.#bytes > this.#maxBytes) this.#forgetOldest();
    for (const watcher of this.#watchers) watcher();
    return record;
  }

  /** Records from a counter on, within both bounds, but at least one if there is one. */
  read(fromCounter: number, maxRecords: number, maxBytes: number): StoredRecord[] {
    const result: StoredRecord[] = [];
    let bytes = 0;
    let index = Math.max(fromCounter - this.#firstCounter, 0);
    while (index < this.#records.length && result.length < maxRecords) {
      const record = this.#records[index] as StoredRecord;
      bytes += recordBytes(record);
      if (result.length > 0 && bytes > maxBytes) break;
      result.push(record);
      index += 1;
    }
    return result;
  }

  /** Counter of the first record that arrived at or after a time. */
  counterAtTime(at: number): number {
    let low = 0;
    let high = this.#records.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#records[middle] as StoredRecord).ApproximateArrivalTimestamp.getTime() < at) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return this.#firstCounter + low;
  }

  /** How old the record at a counter is; 0 at the tip, and only there. */
  millisBehind(counter: number, now: number): number {
    const record = this.#records[counter - this.#firstCounter];
    return record ? Math.max(now - record.ApproximateArrivalTimestamp.getTime(), 1) : 0;
  }

  /** Forgets records that arrived before a time. */
  trim(before: number): void {
    const kept = this.counterAtTime(before);
    if (kept === this.#firstCounter) return;
    this.#drop(kept - this.#firstCounter);
  }

  /** Makes room for a tenth of the cap at once, so that dropping costs little a record. */
  #forgetOldest(): void {
    let bytes = this.#bytes;
    let count = 0;
    while (count < this.#records.length - 1 && bytes > this.#maxBytes * 0.9) {
      bytes -= recordBytes(this.#records[count] as StoredRecord);
      count += 1;
    }
    this.#drop(count);
  }

  #drop(count: number): void {
    for (let index = 0; index < count; index += 1) {
      this.#bytes -= recordBytes(this.#records[index] as StoredRecord);
    }
    this.#records = this.#records.slice(count);
    this.#firstCounter += count;
  }

  /** Brings back what a snapshot held. */
  restore(records: readonly StoredRecord[], firstCounter: number): void {
    this.#records = [...records];
    this.#firstCounter = firstCounter;
    this.#bytes = records.reduce((sum, record) => sum + recordBytes(record), 0);
  }

  close(children: readonly Shard[], now: number): void {
    this.children = children;
    this.closedAt = now;
    this.endingSequenceNumber = endingSequenceNumber({
      shardIndex: this.birth.index,
      shardCreatedAtSeconds: Math.floor(this.birth.createdAt / 1000),
      atSeconds: Math.floor(now / 1000),
    });
    for (const watcher of this.#watchers) watcher();
  }

  /** Calls `watcher` whenever there is something new to read, until the returned function is called. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

export function shardIdOf(index: number): string {
  return `shardId-${String(index).padStart(12, '0')}`;
}

/** What a record counts against every limit: data and the key's UTF-8 bytes. */
export function recordBytes(record: Pick<StoredRecord, 'Data' | 'PartitionKey'>): number {
  return (
    record.Data.length +
    (record.PartitionKey === undefined ? 0 : Buffer.byteLength(record.PartitionKey))
  );
}
