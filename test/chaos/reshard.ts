import {
  type KinesisClient,
  ListShardsCommand,
  MergeShardsCommand,
  type Shard,
  SplitShardCommand,
} from '@aws-sdk/client-kinesis';
import type { Random } from '@shardline/shared';

/** More open shards than this are merged again. */
const MOST_SHARDS = 4;

/** Splits or merges a shard. @returns What it did. */
export async function reshardOnce(
  client: KinesisClient,
  streamName: string,
  random: Random,
): Promise<{ readonly kind: 'split' | 'merge'; readonly shardIds: readonly string[] } | undefined> {
  const { Shards = [] } = await client.send(new ListShardsCommand({ StreamName: streamName }));
  const open = Shards.filter(
    ({ SequenceNumberRange: range }) => range?.EndingSequenceNumber === undefined,
  ).sort((a, b) => (startOf(a) < startOf(b) ? -1 : 1));
  const at = Math.floor(random() * open.length);
  const [{ ShardId: first = '' } = {}, second] = [open[at], open[at + 1]];
  if (open.length >= MOST_SHARDS && second) {
    await client.send(
      new MergeShardsCommand({
        StreamName: streamName,
        ShardToMerge: first,
        AdjacentShardToMerge: second.ShardId,
      }),
    );
    return { kind: 'merge', shardIds: [first, second.ShardId ?? ''] };
  }
  if (open.length >= MOST_SHARDS || !open[at]) return undefined;
  const end = BigInt(open[at]?.HashKeyRange?.EndingHashKey ?? 0);
  await client.send(
    new SplitShardCommand({
      StreamName: streamName,
      ShardToSplit: first,
      NewStartingHashKey: ((startOf(open[at]) + end) / 2n).toString(),
    }),
  );
  return { kind: 'split', shardIds: [first] };
}

function startOf(shard: Shard): bigint {
  return BigInt(shard.HashKeyRange?.StartingHashKey ?? 0);
}
