import type { KinesisEngine, Operation, Output } from '../engine.js';
import { invalidArgument, ServiceFault } from '../service-fault.js';
import type { Shard } from '../shard.js';
import type { Stream } from '../stream.js';

const MAX_PAGE = 1_000;
const TOKEN_LIFE_MS = 300_000;
const DAY_MS = 86_400_000;

interface ShardFilter {
  readonly Type: string;
  readonly ShardId?: string;
  readonly Timestamp?: Date;
}

export const shardOperations: Readonly<Record<string, Operation>> = {
  ListShards(engine, input) {
    const token = input['NextToken'] as string | undefined;
    if (token !== undefined && input['StreamName'] !== undefined) {
      throw invalidArgument('NextToken and StreamName cannot be provided together.');
    }
    if (
      token === undefined &&
      input['StreamName'] === undefined &&
      input['StreamARN'] === undefined
    ) {
      throw invalidArgument('Either NextToken or StreamName should be provided.');
    }
    const query =
      token === undefined
        ? {
            StreamName: engine.stream(input).birth.name,
            after: (input['ExclusiveStartShardId'] as string | undefined) ?? '',
            filter: input['ShardFilter'] as ShardFilter | undefined,
          }
        : parseToken(token, engine.now());
    const stream = engine.stream({ StreamName: query.StreamName });
    const limit = Math.min((input['MaxResults'] as number | undefined) ?? MAX_PAGE, MAX_PAGE);
    // A listing may lag behind: what happened since then is not seen.
    const asOf = engine.now() - engine.listingLagMs;
    const shards = stream.shards.filter(
      (shard) =>
        shard.id > query.after &&
        (shard.birth.createdAt <= asOf || engine.listingLagMs === 0) &&
        stream.isListed(shard, engine.now()) &&
        passes(stream, shard, query.filter, asOf),
    );
    const page = shards.slice(0, limit);
    const next = { ...query, after: page.at(-1)?.id ?? '' };
    return {
      Shards: page.map((shard) => describeShard(shard, asOf)),
      ...(shards.length > limit && { NextToken: formatToken(next, engine.now()) }),
    };
  },

  SplitShard(engine, input) {
    const stream = reshardable(engine, input);
    const shard = openShard(stream, input['ShardToSplit'] as string);
    const at = BigInt(input['NewStartingHashKey'] as string);
    const { start, end } = shard.birth.range;
    if (at <= start + 1n || at >= end) {
      throw invalidArgument(
        `NewStartingHashKey ${at} used in SplitShard() on shard ${shard.id} in stream ${stream.birth.name} under account ${engine.accountId} is not both greater than one plus the shard's StartingHashKey ${start} and less than the shard's EndingHashKey ${end}.`,
      );
    }
    engine.checkShardQuota(1);
    reshard(engine, stream, () => stream.split(shard, at, engine.now()));
    return {};
  },

  MergeShards(engine, input) {
    const stream = reshardable(engine, input);
    const a = openShard(stream, input['ShardToMerge'] as string);
    const b = openShard(stream, input['AdjacentShardToMerge'] as string);
    const adjacent =
      a.birth.range.end + 1n === b.birth.range.start ||
      b.birth.range.end + 1n === a.birth.range.start;
    if (!adjacent) {
      throw invalidArgument(
        `Shards ${a.id} and ${b.id} in stream ${stream.birth.name} under account ${engine.accountId} are not an adjacent pair of shards eligible for merging`,
      );
    }
    reshard(engine, stream, () => stream.merge(a, b, engine.now()));
    return {};
  },

  UpdateShardCount(engine, input) {
    const stream = reshardable(engine, input);
    const target = input['TargetShardCount'] as number;
    const current = stream.openShards.length;
    if (target > current * 2 || target < current / 2) {
      throw invalidArgument(
        `UpdateShardCount cannot scale from ${current} to ${target} shards: the target must lie between half and double.`,
      );
    }
    engine.checkShardQuota(target - current);
    const { shardCountUpdatesPerDay } = engine.limits;
    stream.shardCountUpdates = stream.shardCountUpdates.filter((at) => at > engine.now() - DAY_MS);
    if (stream.shardCountUpdates.length >= shardCountUpdatesPerDay) {
      throw new ServiceFault(
        'LimitExceededException',
        `UpdateShardCount was called ${shardCountUpdatesPerDay} times within 24 hours for stream ${stream.birth.name}.`,
      );
    }
    stream.shardCountUpdates.push(engine.now());
    reshard(engine, stream, () => scaleTo(stream, target, engine.now()));
    return {
      StreamName: stream.birth.name,
      StreamARN: stream.birth.arn,
      CurrentShardCount: current,
      TargetShardCount: target,
    };
  },
};

/** A shard as ListShards and DescribeStream give it. */
export function describeShard(shard: Shard, asOf = Infinity): Output {
  const { birth } = shard;
  const isOpen = shard.closedAt === undefined || shard.closedAt > asOf;
  const endingSequenceNumber = isOpen ? undefined : shard.endingSequenceNumber;
  return {
    ShardId: shard.id,
    HashKeyRange: hashKeyRange(shard),
    SequenceNumberRange: {
      StartingSequenceNumber: shard.startingSequenceNumber,
      ...(endingSequenceNumber !== undefined && { EndingSequenceNumber: endingSequenceNumber }),
    },
    ...(birth.parentShardId !== undefined && { ParentShardId: birth.parentShardId }),
    ...(birth.adjacentParentShardId !== undefined && {
      AdjacentParentShardId: birth.adjacentParentShardId,
    }),
  };
}

/** The children of a closed shard, as both ways of reading give them at its end. */
export function describeChildren(shard: Shard): Output[] {
  return shard.children.map((child) => ({
    ShardId: child.id,
    ParentShards: [child.birth.parentShardId, child.birth.adjacentParentShardId].filter(
      (id) => id !== undefined,
    ),
    HashKeyRange: hashKeyRange(child),
  }));
}

function hashKeyRange({ birth: { range } }: Shard): Output {
  return { StartingHashKey: range.start.toString(), EndingHashKey: range.end.toString() };
}

function reshardable(engine: KinesisEngine, input: Output): Stream {
  const stream = engine.stream(input);
  if (stream.mode === 'ON_DEMAND') {
    throw new ServiceFault(
      'ValidationException',
      `Request is invalid. Stream ${stream.birth.name} under account ${engine.accountId} is in On-Demand mode.`,
    );
  }
  stream.requireStatus('ACTIVE');
  return stream;
}

function openShard(stream: Stream, shardId: string): Shard {
  const shard = stream.shard(shardId);
  if (shard.isOpen) return shard;
  throw invalidArgument(
    `Shard ${shardId} in stream ${stream.birth.name} under account ${stream.birth.accountId} has already been merged or split, and thus is not eligible for merging or splitting.`,
  );
}

function reshard(engine: KinesisEngine, stream: Stream, change: () => void): void {
  stream.status = 'UPDATING';
  engine.later(() => {
    change();
    stream.status = 'ACTIVE';
  });
}

/** Splits the widest or merges the narrowest neighbours until the number is right. */
function scaleTo(stream: Stream, target: number, now: number): void {
  while (stream.openShards.length < target) {
    const widest = stream.openShards.reduce((a, b) => (width(b) > width(a) ? b : a));
    stream.split(widest, widest.birth.range.start + (width(widest) + 1n) / 2n, now);
  }
  while (stream.openShards.length > target) {
    const sorted = [...stream.openShards].sort((a, b) =>
      a.birth.range.start < b.birth.range.start ? -1 : 1,
    );
    let best = 0;
    for (let index = 1; index + 1 < sorted.length; index += 1) {
      if (pairWidth(sorted, index) < pairWidth(sorted, best)) best = index;
    }
    stream.merge(sorted[best] as Shard, sorted[best + 1] as Shard, now);
  }
}

function width({ birth: { range } }: Shard): bigint {
  return range.end - range.start;
}

function pairWidth(sorted: readonly Shard[], index: number): bigint {
  return width(sorted[index] as Shard) + width(sorted[index + 1] as Shard);
}

function passes(
  stream: Stream,
  shard: Shard,
  filter: ShardFilter | undefined,
  now: number,
): boolean {
  if (!filter) return true;
  const openAt = (at: number): boolean =>
    shard.birth.createdAt <= at && (shard.closedAt === undefined || shard.closedAt > at);
  const horizon = Math.max(stream.horizon(now), stream.birth.createdAt);
  const at = filter.Timestamp?.getTime() ?? now;
  switch (filter.Type) {
    case 'AT_LATEST':
      return shard.closedAt === undefined || shard.closedAt > now;
    case 'AT_TRIM_HORIZON':
      // At its beginning a stream has its first shards, however soon they were closed.
      return horizon === stream.birth.createdAt
        ? shard.birth.parentShardId === undefined
        : openAt(horizon);
    case 'AT_TIMESTAMP':
      return openAt(Math.max(at, horizon));
    case 'FROM_TIMESTAMP':
      return shard.closedAt === undefined || shard.closedAt > at;
    case 'AFTER_SHARD_ID':
      return shard.id > (filter.ShardId ?? '');
    default:
      return true;
  }
}

interface ListQuery {
  readonly StreamName: string;
  readonly after: string;
  readonly filter: ShardFilter | undefined;
}

function formatToken(query: ListQuery, now: number): string {
  return Buffer.from(JSON.stringify({ ...query, issuedAt: now })).toString('base64');
}

function parseToken(token: string, now: number): ListQuery {
  let state: ListQuery & { readonly issuedAt: number };
  try {
    state = JSON.parse(Buffer.from(token, 'base64').toString()) as typeof state;
    if (typeof state.StreamName !== 'string' || typeof state.after !== 'string') throw new Error();
  } catch {
    throw invalidArgument('NextToken is invalid.');
  }
  if (now - state.issuedAt > TOKEN_LIFE_MS) {
    throw new ServiceFault('ExpiredNextTokenException', 'NextToken is expired.');
  }
  const { filter } = state;
  if (filter?.Timestamp === undefined) return state;
  return { ...state, filter: { ...filter, Timestamp: new Date(filter.Timestamp) } };
}
