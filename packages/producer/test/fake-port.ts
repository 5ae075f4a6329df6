import { AggregateEncoder, decodeRecords, hashKeyOf, type HashRange } from '@shardline/shared';
import type { ManualClock } from '@shardline/shared/testing';

import type { KinesisWritePort, PutRecordsEntry } from '../src/put-records-client.js';
import type { OpenShard } from '../src/shard-map.js';
import type { EntryOutcome } from '../src/verdict.js';

/** What a request of a fake stream is answered with, by the entry's position; undefined stores it. */
export type Answer = (entry: PutRecordsEntry, index: number) => string | undefined;

/** A stream in memory that answers after a while and as it is told. */
export class FakePort implements KinesisWritePort {
  shards: OpenShard[];
  maxRecordBytes = 2 ** 20;
  /** Shards as they are listed, if that differs from how they are. */
  listed: OpenShard[] | undefined;
  latencyMs = 10;
  readonly requests: { readonly atMs: number; readonly entries: readonly PutRecordsEntry[] }[] = [];
  /** User records by shard, in the order in which they were stored, each as `key=data`. */
  readonly stored = new Map<string, string[]>();
  answer: Answer = () => undefined;
  /** Thrown in place of an answer, once each. */
  readonly failures: Error[] = [];
  describeCalls = 0;
  inFlight = 0;
  maxInFlight = 0;
  readonly #clock: ManualClock;
  #sequence = 0;

  constructor(clock: ManualClock, shards: number) {
    this.#clock = clock;
    const width = 2n ** 128n / BigInt(shards);
    this.shards = Array.from({ length: shards }, (_, index) => ({
      shardId: `shard-${index}`,
      range: {
        start: width * BigInt(index),
        end: index === shards - 1 ? 2n ** 128n - 1n : width * BigInt(index + 1) - 1n,
      },
    }));
  }

  isSelfDistributing = false;

  describe(): ReturnType<KinesisWritePort['describe']> {
    this.describeCalls += 1;
    return Promise.resolve({
      shards: this.listed ?? this.shards,
      maxRecordBytes: this.maxRecordBytes,
      isSelfDistributing: this.isSelfDistributing,
    });
  }

  async putRecords(
    entries: readonly PutRecordsEntry[],
    signal: AbortSignal,
  ): Promise<readonly EntryOutcome[]> {
    // Their memory is used again once they are stored.
    const copies = entries.map(({ partitionKey, explicitHashKey, payload }) => ({
      partitionKey,
      explicitHashKey,
      payload: Buffer.from(payload),
    }));
    this.requests.push({ atMs: this.#clock.monotonicMs(), entries: copies });
    this.inFlight += 1;
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight);
    try {
      await new Promise<void>((resolve, reject) => {
        const timer = this.#clock.schedule(this.latencyMs, resolve);
        signal.addEventListener('abort', () => {
          timer.cancel();
          reject(signal.reason as Error);
        });
      });
    } finally {
      this.inFlight -= 1;
    }
    const failure = this.failures.shift();
    if (failure) throw failure;
    return entries.map((entry, index) => {
      const errorCode = this.answer(entry, index);
      return errorCode === undefined ? this.#store(entry) : { errorCode };
    });
  }

  close(): void {}

  /** All that a reader which checks ranges as the KCL does would get, by partition key. */
  readableByKey(): Map<string, string[]> {
    const result = new Map<string, string[]>();
    for (const text of [...this.stored.values()].flat()) {
      const [key = '', data = ''] = text.split('=');
      result.set(key, [...(result.get(key) ?? []), data]);
    }
    return result;
  }

  #store(entry: PutRecordsEntry): EntryOutcome {
    const hash =
      entry.explicitHashKey === undefined
        ? hashKeyOf(entry.partitionKey)
        : BigInt(entry.explicitHashKey);
    const shard = this.shards.find(({ range }) => range.start <= hash && hash <= range.end);
    if (!shard) throw new Error('the fake shards leave a hole');
    const records = decodeRecords([{ Data: entry.payload, PartitionKey: entry.partitionKey }], {
      hashRange: shard.range,
      rangeCheck: 'aggregate',
    });
    const list = this.stored.get(shard.shardId) ?? [];
    this.stored.set(shard.shardId, list);
    for (const { partitionKey, data } of records) list.push(`${partitionKey}=${data.toString()}`);
    this.#sequence += 1;
    return { shardId: shard.shardId, sequenceNumber: String(this.#sequence) };
  }
}

/** Replaces one shard by two halves. */
export function split(
  shards: readonly OpenShard[],
  at: number,
  names: [string, string],
): OpenShard[] {
  const { range } = shards[at] as OpenShard;
  const middle = (range.start + range.end) / 2n;
  const halves: HashRange[] = [
    { start: range.start, end: middle },
    { start: middle + 1n, end: range.end },
  ];
  return [
    ...shards.slice(0, at),
    ...halves.map((half, index) => ({ shardId: names[index] ?? '', range: half })),
    ...shards.slice(at + 1),
  ];
}

/** An aggregate of one record: what another producer might have put into a user record. */
export function foreignAggregate(): Buffer {
  const encoder = new AggregateEncoder();
  encoder.add('k', undefined, Buffer.from('inner'));
  return encoder.finish();
}

export function serviceError(name: string): Error {
  return Object.assign(new Error('as the SDK throws it'), { name });
}
