import { hashPartitionKey, type HashRange, HashRangeIndex, parseHashKey } from '@shardline/shared';

interface Entry {
  readonly partitionKey: string;
  readonly explicitHashKey: string | undefined;
  readonly payload: Uint8Array;
}

const LATENCY_MS = 10;

/** A stream that stores nothing and answers soon: what is left is the producer's own work. */
export class ShardsInMemory {
  readonly #shards: readonly { readonly shardId: string; readonly range: HashRange }[];
  readonly #index: HashRangeIndex;
  readonly #hash = new Uint32Array(4);
  #sequence = 0;

  constructor(count: number) {
    const width = 2n ** 128n / BigInt(count);
    this.#shards = Array.from({ length: count }, (_, index) => ({
      shardId: `shardId-${String(index).padStart(12, '0')}`,
      range: {
        start: width * BigInt(index),
        end: index === count - 1 ? 2n ** 128n - 1n : width * BigInt(index + 1) - 1n,
      },
    }));
    this.#index = new HashRangeIndex(this.#shards.map(({ range }) => range));
  }

  describe(): Promise<{
    readonly shards: readonly { readonly shardId: string; readonly range: HashRange }[];
    readonly maxRecordBytes: number;
    readonly isSelfDistributing: boolean;
  }> {
    return Promise.resolve({
      shards: this.#shards,
      maxRecordBytes: 2 ** 20,
      isSelfDistributing: false,
    });
  }

  async putRecords(
    entries: readonly Entry[],
    _signal: AbortSignal,
  ): Promise<{ readonly shardId: string; readonly sequenceNumber: string }[]> {
    // While a request is under way the next one grows, as over a network.
    await new Promise((resolve) => setTimeout(resolve, LATENCY_MS));
    return entries.map(({ partitionKey, explicitHashKey }) => {
      if (explicitHashKey === undefined) hashPartitionKey(partitionKey, this.#hash);
      else parseHashKey(explicitHashKey, this.#hash);
      this.#sequence += 1;
      const { shardId = '' } = this.#shards[this.#index.find(this.#hash)] ?? {};
      return { shardId, sequenceNumber: String(this.#sequence) };
    });
  }

  close(): void {}
}
