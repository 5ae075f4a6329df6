import type { LeaseTable, Row } from '@shardline/consumer';
import type { KinesisEngine, ShardSubscription, SubscriptionEvent } from '@shardline/local';
import { isSentinel, parseHashRange, type Random } from '@shardline/shared';

import type { StartingPoint } from '../../packages/consumer/src/fetch/fetcher.js';
import type {
  KinesisReadPort,
  ReadPage,
  SubscriptionBatch,
} from '../../packages/consumer/src/fetch/kinesis-read-port.js';
import { parseLease } from '../../packages/consumer/src/lease/lease-row.js';
import type { Lease } from '../../packages/consumer/src/lease/lease.js';
import type { InitialPosition, Shard } from '../../packages/consumer/src/shard/shard-sync.js';
import type { KinesisWritePort } from '../../packages/producer/src/put-records-client.js';
import type { SimProcess } from './process.js';

/** How often calls go wrong in a history, 0 to 1. */
export interface CallFaults {
  before: number;
  /** The call had its effect and is reported as failed. */
  after: number;
  /** The call takes long. */
  slow: number;
  /** A listing of leases lacks the latest writes. */
  stale: number;
}

const STORE_DELAY_MS = 40;
const READ_DELAY_MS = 30;
const SLOW_DELAY_MS = 2_000;
/** On an idle shard a subscription still gives an event. */
const HEARTBEAT_MS = 5_000;

const FAILURES = ['TimeoutError', 'ProvisionedThroughputExceededException', 'InternalServerError'];

/** A call over the network that may go wrong on the way there or back. */
function callWith(process: SimProcess, delayMs: number, faults: CallFaults, random: Random) {
  const failure = (): Error =>
    Object.assign(new Error('simulated'), {
      name: FAILURES[Math.floor(random() * FAILURES.length)] as string,
    });
  return <Result>(work: () => Promise<Result> | Result): Promise<Result> =>
    process.call(random() < faults.slow ? SLOW_DELAY_MS : delayMs, async () => {
      if (random() < faults.before) throw failure();
      const result = await work();
      if (random() < faults.after) throw failure();
      return result;
    });
}

/**
 * The lease table as one process reaches it.
 *
 * @param former - The rows as a read that lags behind finds them.
 */
export function tableOf(
  process: SimProcess,
  table: LeaseTable,
  former: () => readonly Row[] | undefined,
  faults: CallFaults,
  random: Random,
): LeaseTable {
  const call = callWith(process, STORE_DELAY_MS, faults, random);
  const staleRows = (): readonly Row[] | undefined =>
    random() < faults.stale ? former() : undefined;
  return {
    prepare: () => Promise.resolve(),
    scan: (prefix, isConsistent) =>
      call(() => (isConsistent ? undefined : staleRows()) ?? table.scan(prefix, true)),
    get: (key) => call(() => table.get(key)),
    getMany: (keys) =>
      call(
        () =>
          staleRows()?.filter(({ leaseKey }) => keys.includes(leaseKey?.S ?? '')) ??
          table.getMany(keys),
      ),
    create: (row) => call(() => table.create(row)),
    update: (key, change, conditions) => call(() => table.update(key, change, conditions)),
    delete: (key, conditions) => call(() => table.delete(key, conditions)),
    close: () => {},
  };
}

interface WireShard {
  readonly ShardId: string;
  readonly ParentShardId?: string;
  readonly AdjacentParentShardId?: string;
  readonly HashKeyRange: { readonly StartingHashKey: string; readonly EndingHashKey: string };
  readonly SequenceNumberRange: {
    readonly StartingSequenceNumber: string;
    readonly EndingSequenceNumber?: string;
  };
}

/** The engine as one process reaches it. */
export function readPortOf(
  process: SimProcess,
  engine: KinesisEngine,
  streamName: string,
  faults: CallFaults,
  random: Random,
): KinesisReadPort {
  // A read has no effect that an answer could be lost of.
  const call = callWith(process, READ_DELAY_MS, { ...faults, after: 0 }, random);
  const iterator = (shardId: string, type: string, at: object): Promise<string> =>
    call(
      () =>
        engine.execute('GetShardIterator', {
          StreamName: streamName,
          ShardId: shardId,
          ShardIteratorType: type,
          ...at,
        })['ShardIterator'] as string,
    );
  return {
    describe: () => call(() => ({ accountId: '000000000000', createdAtSeconds: 1 })),
    listShards: (_signal: AbortSignal, startingAt?: InitialPosition): Promise<Shard[]> =>
      call(() => {
        const filter = { Type: startingAt === undefined ? 'FROM_TRIM_HORIZON' : 'AT_TRIM_HORIZON' };
        const input = { StreamName: streamName, ShardFilter: filter };
        const shards = engine.execute('ListShards', input)['Shards'] as WireShard[];
        return shards.map((shard) => ({
          shardId: shard.ShardId,
          range: parseHashRange(shard.HashKeyRange),
          parentShardIds: [shard.ParentShardId, shard.AdjacentParentShardId].filter(
            (id) => id !== undefined,
          ),
          isOpen: shard.SequenceNumberRange.EndingSequenceNumber === undefined,
          startingSequenceNumber: shard.SequenceNumberRange.StartingSequenceNumber,
        }));
      }),
    getIterator: async (shardId, { position, timestampMs, isAfter }: StartingPoint) => {
      const { sequenceNumber } = position;
      const notBeforeMs = process.serviceTimeMs;
      const opened = await (isSentinel(sequenceNumber)
        ? iterator(shardId, sequenceNumber, {
            ...(timestampMs !== undefined && { Timestamp: new Date(timestampMs) }),
          })
        : iterator(shardId, isAfter ? 'AFTER_SEQUENCE_NUMBER' : 'AT_SEQUENCE_NUMBER', {
            StartingSequenceNumber: sequenceNumber,
          }));
      return { iterator: opened, notBeforeMs };
    },
    getRecords: (shardIterator, maxRecords) =>
      call((): ReadPage => {
        const answer = engine.execute('GetRecords', {
          ShardIterator: shardIterator,
          Limit: maxRecords,
        });
        return {
          records: answer['Records'] as ReadPage['records'],
          millisBehindLatest: answer['MillisBehindLatest'] as number,
          nextIterator: answer['NextShardIterator'] as string | undefined,
          childShards: childrenOf(answer['ChildShards']),
        };
      }),
    subscribe: async (consumerArn, shardId, { position, timestampMs, isAfter }, signal) => {
      const { sequenceNumber } = position;
      const typeOfNumbers = isAfter ? 'AFTER_SEQUENCE_NUMBER' : 'AT_SEQUENCE_NUMBER';
      const subscription = await call(() =>
        engine.subscribe({
          ConsumerARN: consumerArn,
          ShardId: shardId,
          StartingPosition: isSentinel(sequenceNumber)
            ? {
                Type: sequenceNumber,
                ...(timestampMs !== undefined && { Timestamp: new Date(timestampMs) }),
              }
            : { Type: typeOfNumbers, SequenceNumber: sequenceNumber },
        }),
      );
      return eventsOf(process, subscription, signal);
    },
    consumerArn: (consumerName) =>
      call(() => {
        const input = { StreamARN: streamArnOf(engine, streamName), ConsumerName: consumerName };
        const listed = engine.execute('ListStreamConsumers', { StreamARN: input.StreamARN });
        const known = (listed['Consumers'] as WireConsumer[]).find(
          (consumer) => consumer.ConsumerName === consumerName,
        );
        const consumer =
          known ?? (engine.execute('RegisterStreamConsumer', input)['Consumer'] as WireConsumer);
        return consumer.ConsumerARN;
      }),
    removeConsumer: () => Promise.reject(new Error('nobody asks for that')),
    close: () => {},
  };
}

interface WireConsumer {
  readonly ConsumerName: string;
  readonly ConsumerARN: string;
}

function streamArnOf(engine: KinesisEngine, streamName: string): string {
  const answer = engine.execute('DescribeStreamSummary', { StreamName: streamName });
  return (answer['StreamDescriptionSummary'] as { StreamARN: string }).StreamARN;
}

function childrenOf(wire: unknown): ReadPage['childShards'] {
  const children = wire as
    | readonly (Pick<WireShard, 'ShardId' | 'HashKeyRange'> & { ParentShards: string[] })[]
    | undefined;
  return children?.map(({ ShardId, ParentShards, HashKeyRange }) => ({
    shardId: ShardId,
    parentShardIds: ParentShards,
    range: parseHashRange(HashKeyRange),
  }));
}

/** What a subscription gives one process: through its gate, one event after the other. */
async function* eventsOf(
  process: SimProcess,
  subscription: ShardSubscription,
  signal: AbortSignal,
): AsyncGenerator<SubscriptionBatch> {
  const end = (): void => subscription.end();
  signal.addEventListener('abort', end, { once: true });
  try {
    for (;;) {
      const waiting = subscription.next();
      const isOver = !waiting && (subscription.isEnded || subscription.remainingMs <= 0);
      const event = waiting ?? (isOver ? undefined : await nextOf(process, subscription));
      if (signal.aborted) return;
      if (!event) {
        if (subscription.isEnded || subscription.remainingMs <= 0) return;
        continue;
      }
      const batch = await process.call(READ_DELAY_MS, () => Promise.resolve(batchOf(event)));
      if (signal.aborted) return;
      yield batch;
      if (batch.continuation === undefined) return;
    }
  } finally {
    signal.removeEventListener('abort', end);
    end();
  }
}

/** Waits for news; a heartbeat if none comes. Undefined if it is to be looked at again. */
async function nextOf(
  process: SimProcess,
  subscription: ShardSubscription,
): Promise<SubscriptionEvent | undefined> {
  const isNews = await process.waitOutside(HEARTBEAT_MS, (wake) => subscription.onReady(wake));
  return isNews || subscription.isEnded ? undefined : subscription.heartbeat();
}

function batchOf(event: SubscriptionEvent): SubscriptionBatch {
  return {
    records: event.Records,
    millisBehindLatest: event.MillisBehindLatest,
    continuation: event.ContinuationSequenceNumber,
    childShards: childrenOf(event.ChildShards),
  };
}

/** The stream as one producer reaches it. */
export function writePortOf(
  process: SimProcess,
  engine: KinesisEngine,
  streamName: string,
  faults: CallFaults,
  random: Random,
): KinesisWritePort {
  const call = callWith(process, STORE_DELAY_MS, faults, random);
  /** As the adapter does for calls that change nothing. */
  const persistently = async <Result>(work: () => Result): Promise<Result> => {
    for (let tries = 0; tries < 4; tries += 1) {
      try {
        return await call(work);
      } catch {
        // Once more.
      }
    }
    return call(work);
  };
  return {
    describe: () =>
      persistently(() => ({
        shards: (engine.streams.get(streamName)?.openShards ?? []).map(({ id, birth }) => ({
          shardId: id,
          range: birth.range,
        })),
        maxRecordBytes: 2 ** 20,
        isSelfDistributing: false,
      })),
    putRecords: (entries) =>
      call(() => {
        const Records = entries.map(({ partitionKey, explicitHashKey, payload }) => ({
          PartitionKey: partitionKey,
          Data: Buffer.from(payload),
          ...(explicitHashKey !== undefined && { ExplicitHashKey: explicitHashKey }),
        }));
        const answer = engine.execute('PutRecords', { StreamName: streamName, Records });
        return (answer['Records'] as { ShardId: string; SequenceNumber: string }[]).map(
          ({ ShardId, SequenceNumber }) => ({ shardId: ShardId, sequenceNumber: SequenceNumber }),
        );
      }),
    close: () => {},
  };
}

/** All leases in a table. */
export async function leasesOf(table: LeaseTable): Promise<Lease[]> {
  const rows = await table.scan('', true);
  return rows.map((row) => parseLease(row)).filter((lease) => lease !== undefined);
}

/** Owners of all leases, for timelines. */
export function describeLeases(leases: readonly Lease[]): string {
  return leases
    .map(({ leaseKey, leaseOwner = '-', checkpointOwner, layout, checkpoint }) => {
      const position = checkpoint.sequenceNumber.slice(-6);
      const asked = checkpointOwner === undefined ? '' : `(${checkpointOwner})`;
      return `${leaseKey.slice(-2)}:${leaseOwner}${asked}@${position}${layout === 'kcl' ? 'k' : ''}`;
    })
    .join(' ');
}
