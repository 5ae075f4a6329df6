import { ByteBudget, type KinesisRecord, type UserRecord } from '@shardline/shared';
import { type ManualClock, seededRandom } from '@shardline/shared/testing';

import { afterRecord, type FetchedBatch } from '../../src/fetch/fetcher.js';
import { HeldLease } from '../../src/lease/held-lease.js';
import { LeaseStore } from '../../src/lease/lease-store.js';
import { newLease } from '../../src/lease/lease.js';
import { MemoryLeaseTable } from '../../src/lease/memory-lease-table.js';
import { HandlerLimit } from '../../src/processing/handler-limit.js';
import { type ProcessorOptions, ShardProcessor } from '../../src/processing/shard-processor.js';

export const SHARD = 'shardId-000000000000';

/** A processor with a lease of its own, as a test wants it. */
export interface Rig {
  readonly processor: ShardProcessor;
  readonly held: HeldLease;
  readonly handling: AbortController;
  /** Gives records, numbered on, as if they had been read. */
  readonly accept: (
    records: readonly KinesisRecord[],
    changes?: Partial<FetchedBatch>,
  ) => Promise<void>;
}

export function memoryStore(): LeaseStore {
  const store = new LeaseStore(new MemoryLeaseTable());
  void store.create(
    newLease(
      { streamId: undefined, streamEpochSeconds: undefined, layout: 'kcl' },
      {
        shardId: SHARD,
        checkpoint: { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 },
        parentShardIds: [],
        hashRange: undefined,
      },
    ),
  );
  return store;
}

export async function rig(
  clock: ManualClock,
  changes: Partial<ProcessorOptions> & Pick<ProcessorOptions, 'handler'>,
  store: LeaseStore = memoryStore(),
  workerId = 'a',
): Promise<Rig> {
  const listed = await store.get(SHARD);
  const lease = listed && (await store.take(listed, workerId));
  if (!lease) throw new Error('no lease');
  const held = new HeldLease(lease, clock.monotonicMs(), {
    store,
    clock,
    workerId,
    failoverMs: 100_000_000,
  });
  const handling = new AbortController();
  const options: ProcessorOptions = {
    streamName: 'orders',
    deserialize: undefined,
    filter: undefined,
    deadLetter: undefined,
    bound: undefined,
    budget: new ByteBudget(2 ** 20),
    handlerLimit: new HandlerLimit(1_000),
    concurrency: 1,
    maxBatchRecords: 1_000,
    maxBatchBytes: 2 ** 20,
    batchWindowMs: 0,
    tumblingWindowMs: 0,
    duplicateWindowRecords: 0,
    maxRawBytes: 2 ** 20,
    onDamage: 'raw',
    rangeCheck: 'userRecord',
    maxAttempts: 0,
    maxRecordAgeMs: 0,
    bisectBatches: false,
    clock,
    random: seededRandom(1),
    ...changes,
  };
  const processor = new ShardProcessor(held, options, handling.signal, () => {});
  const { checkpoint } = lease;
  const doneThrough = /^\d+$/.test(checkpoint.sequenceNumber) ? checkpoint : undefined;
  return {
    processor,
    held,
    handling,
    accept: (records, batch) =>
      processor.accept(
        {
          records,
          millisBehindLatest: 0,
          askedMs: clock.monotonicMs(),
          childShards: undefined,
          resume: afterRecord(records.at(-1)?.SequenceNumber ?? '1'),
          ...batch,
        },
        doneThrough,
        handling.signal,
      ),
  };
}

/** Records with their number as data, under keys in turn. */
export function records(
  from: number,
  to: number,
  { keys = 1, arrivedAtMs = 0 }: { keys?: number; arrivedAtMs?: number } = {},
): KinesisRecord[] {
  return Array.from({ length: to - from }, (_, index) => ({
    Data: Buffer.from(String(from + index)),
    PartitionKey: `key-${(from + index) % keys}`,
    SequenceNumber: String(1_000 + from + index),
    ApproximateArrivalTimestamp: new Date(arrivedAtMs),
  }));
}

export function numberOf(record: UserRecord): number {
  return Number(record.data.toString());
}
