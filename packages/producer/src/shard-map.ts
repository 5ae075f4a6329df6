import { type HashRange, hashKeyFromBigInt, HashRangeIndex, rangeHolds } from '@shardline/shared';

/** An open shard as the service lists it. */
export interface OpenShard {
  readonly shardId: string;
  readonly range: HashRange;
}

/** The open shards of a stream at one moment: which of them owns a hash key. */
export class ShardMap {
  readonly shardIds: readonly string[];
  readonly loadedMs: number;
  readonly #index: HashRangeIndex;
  readonly #positions: ReadonlyMap<string, number>;
  /** Eight words a shard: the first and the last of its hash keys. */
  readonly #bounds: Uint32Array;

  constructor(shards: readonly OpenShard[], loadedMs: number) {
    this.shardIds = shards.map(({ shardId }) => shardId);
    this.loadedMs = loadedMs;
    this.#index = new HashRangeIndex(shards.map(({ range }) => range));
    this.#positions = new Map(shards.map(({ shardId }, position) => [shardId, position]));
    this.#bounds = new Uint32Array(shards.length * 8);
    const words = new Uint32Array(4);
    for (const [position, { range }] of shards.entries()) {
      hashKeyFromBigInt(range.start, words);
      this.#bounds.set(words, position * 8);
      hashKeyFromBigInt(range.end, words);
      this.#bounds.set(words, position * 8 + 4);
    }
  }

  /** Position in `shardIds` of the shard that owns the hash key. */
  find(hashKey: Uint32Array): number {
    return this.#index.find(hashKey);
  }

  has(shardId: string): boolean {
    return this.#positions.has(shardId);
  }

  /** Whether a shard owns the hash key; undefined if the map does not know the shard. */
  owns(shardId: string, hashKey: Uint32Array): boolean | undefined {
    const position = this.#positions.get(shardId);
    if (position === undefined) return undefined;
    const bounds = this.#bounds.subarray(position * 8, position * 8 + 8);
    return rangeHolds(bounds.subarray(0, 4), bounds.subarray(4), hashKey);
  }
}
