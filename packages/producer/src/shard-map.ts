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
  readonly #bounds: ReadonlyMap<string, { readonly start: Uint32Array; readonly end: Uint32Array }>;

  constructor(shards: readonly OpenShard[], loadedMs: number) {
    this.shardIds = shards.map(({ shardId }) => shardId);
    this.loadedMs = loadedMs;
    this.#index = new HashRangeIndex(shards.map(({ range }) => range));
    this.#bounds = new Map(
      shards.map(({ shardId, range }) => {
        const [start, end] = [new Uint32Array(4), new Uint32Array(4)];
        hashKeyFromBigInt(range.start, start);
        hashKeyFromBigInt(range.end, end);
        return [shardId, { start, end }];
      }),
    );
  }

  /** Position in `shardIds` of the shard that owns the hash key. */
  find(hashKey: Uint32Array): number {
    return this.#index.find(hashKey);
  }

  has(shardId: string): boolean {
    return this.#bounds.has(shardId);
  }

  /** Whether a shard owns the hash key; undefined if the map does not know the shard. */
  owns(shardId: string, hashKey: Uint32Array): boolean | undefined {
    const bounds = this.#bounds.get(shardId);
    return bounds && rangeHolds(bounds.start, bounds.end, hashKey);
  }
}
