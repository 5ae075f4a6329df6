import type { Lease, LeaseStore } from '@shardline/consumer';
import type { KinesisEngine } from '@shardline/local';
import { isSentinel, parseHashRange, type Random } from '@shardline/shared';

import type { StartingPoint } from '../../packages/consumer/src/fetch/fetcher.js';
import type {
  KinesisReadPort,
  ReadPage,
} from '../../packages/consumer/src/fetch/kinesis-read-port.js';
import type { InitialPosition, Shard } from '../../packages/consumer/src/shard/shard-sync.js';
import type { SimProcess } from './process.js';

/** How often calls fail in a history, 0 to 1. */
export interface CallFaults {
  before: number;
  /** The call had its effect and is reported as failed. */
  after: number;
}

const STORE_DELAY_MS = 40;
const READ_DELAY_MS = 30;

function timeout(): Error {
  return Object.assign(new Error('simulated'), { name: 'TimeoutError' });
}

/** The lease table as one process reaches it. */
export function storeOf(
  process: SimProcess,
  table: LeaseStore,
  faults: CallFaults,
  random: Random,
): LeaseStore {
  const call = <Result>(work: () => Promise<Result>): Promise<Result> =>
    process.call(STORE_DELAY_MS, async () => {
      if (random() < faults.before) throw timeout();
      const result = await work();
      if (random() < faults.after) throw timeout();
      return result;
    });
  return {
    prepare: () => Promise.resolve(),
    list: () => call(() => table.list()),
    get: (key) => call(() => table.get(key)),
    create: (lease) => call(() => table.create(lease)),
    renew: (lease, worker) => call(() => table.renew(lease, worker)),
    take: (lease, worker) => call(() => table.take(lease, worker)),
    requestHandOver: (lease, next) => call(() => table.requestHandOver(lease, next)),
    completeHandOver: (lease, worker) => call(() => table.completeHandOver(lease, worker)),
    release: (lease, worker) => call(() => table.release(lease, worker)),
    checkpoint: (lease, worker, progress) => call(() => table.checkpoint(lease, worker, progress)),
    requestSeek: (key, target) => call(() => table.requestSeek(key, target)),
    seek: (lease, worker, progress) => call(() => table.seek(lease, worker, progress)),
    setChildren: (key, children) => call(() => table.setChildren(key, children)),
    delete: (key) => call(() => table.delete(key)),
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

/** The engine as one process reaches it, by polling. */
export function readPortOf(
  process: SimProcess,
  engine: KinesisEngine,
  streamName: string,
  faults: CallFaults,
  random: Random,
): KinesisReadPort {
  const call = <Result>(work: () => Result): Promise<Result> =>
    process.call(READ_DELAY_MS, () => {
      if (random() < faults.before) throw timeout();
      return Promise.resolve(work());
    });
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
    getRecords: (shardIterator) =>
      call((): ReadPage => {
        const answer = engine.execute('GetRecords', { ShardIterator: shardIterator });
        const children = answer['ChildShards'] as
          | (Pick<WireShard, 'ShardId' | 'HashKeyRange'> & { ParentShards: string[] })[]
          | undefined;
        return {
          records: answer['Records'] as ReadPage['records'],
          millisBehindLatest: answer['MillisBehindLatest'] as number,
          nextIterator: answer['NextShardIterator'] as string | undefined,
          childShards: children?.map(({ ShardId, ParentShards, HashKeyRange }) => ({
            shardId: ShardId,
            parentShardIds: ParentShards,
            range: parseHashRange(HashKeyRange),
          })),
        };
      }),
    subscribe: () => Promise.reject(new Error('polling only')),
    consumerArn: () => Promise.reject(new Error('polling only')),
    removeConsumer: () => Promise.reject(new Error('polling only')),
    close: () => {},
  };
}

/** Owners of all leases, for timelines. */
export function describeLeases(leases: readonly Lease[]): string {
  return leases
    .map(({ leaseKey, leaseOwner = '-', checkpoint }) => {
      const position = checkpoint.sequenceNumber.slice(-6);
      return `${leaseKey.slice(-2)}:${leaseOwner}@${position}`;
    })
    .join(' ');
}
