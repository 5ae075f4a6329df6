import { type HashRange, HashRangeIndex, MAX_HASH_KEY } from '@shardline/shared';

import type { Limits } from './limits.js';
import { inUse, notFound } from './service-fault.js';
import { Shard, type ShardBirth } from './shard.js';

export type StreamStatus = 'CREATING' | 'ACTIVE' | 'UPDATING' | 'DELETING';

/** A registered reader of enhanced fan-out. */
export interface StreamConsumer {
  readonly name: string;
  readonly arn: string;
  readonly createdAt: number;
  status: 'CREATING' | 'ACTIVE' | 'DELETING';
  readonly tags: Map<string, string>;
}

export interface StreamBirth {
  readonly name: string;
  readonly arn: string;
  readonly accountId: string;
  readonly createdAt: number;
  readonly limits: Limits;
  /** Of records kept in one shard. */
  readonly maxShardBytes: number;
}

/** One stream: its shards, open and closed, and its consumers. */
export class Stream {
  readonly birth: StreamBirth;
  status: StreamStatus = 'CREATING';
  retentionHours = 24;
  maxRecordKiB = 1024;
  mode: 'PROVISIONED' | 'ON_DEMAND' = 'PROVISIONED';
  /** When the mode was changed, epoch milliseconds. */
  modeSwitches: number[] = [];
  /** When UpdateShardCount was called, epoch milliseconds. */
  shardCountUpdates: number[] = [];
  distribution: 'AUTO' | 'USER_PARTITION_KEY' = 'USER_PARTITION_KEY';
  warmThroughputMiBps: number | undefined;
  /** Present while records are encrypted; they are not here. */
  keyId: string | undefined;
  metrics: ReadonlySet<string> = new Set();
  readonly tags = new Map<string, string>();
  readonly shards: Shard[] = [];
  readonly consumers = new Map<string, StreamConsumer>();
  #open: Shard[] = [];
  #index = new HashRangeIndex([]);

  constructor(birth: StreamBirth) {
    this.birth = birth;
  }

  /** Creates the first shards: equal ranges, the last one up to 2^128 - 1. */
  createInitialShards(count: number, now: number): void {
    const width = 2n ** 128n / BigInt(count);
    for (let index = 0; index < count; index += 1) {
      const start = width * BigInt(index);
      const end = index === count - 1 ? MAX_HASH_KEY : start + width - 1n;
      this.#addShard({ start, end }, now);
    }
    this.reindex();
  }

  get openShards(): readonly Shard[] {
    return this.#open;
  }

  shard(shardId: string): Shard {
    const index = /^shardId-\d{12}$/.test(shardId) ? Number(shardId.slice(8)) : -1;
    return this.shards[index] ?? this.#noShard(shardId);
  }

  /** A shard that can be read: one whose last record is gone cannot. */
  readableShard(shardId: string, now: number): Shard {
    this.trim(now);
    const shard = this.shard(shardId);
    return this.isListed(shard, now) ? shard : this.#noShard(shardId);
  }

  #noShard(shardId: string): never {
    throw notFound(
      `Could not find shard ${shardId} in stream ${this.birth.name} under account ${this.birth.accountId}.`,
    );
  }

  /** The open shard that owns a hash key. */
  shardFor(hashKey: Uint32Array): Shard {
    return this.#open[this.#index.find(hashKey)] as Shard;
  }

  split(parent: Shard, at: bigint, now: number): void {
    const { start, end } = parent.birth.range;
    const parents = [parent];
    const lower = this.#addShard({ start, end: at - 1n }, now, parents);
    const upper = this.#addShard({ start: at, end }, now, parents);
    parent.close([lower, upper], now);
    this.reindex();
  }

  merge(a: Shard, b: Shard, now: number): void {
    const [lower, upper] = a.birth.range.start < b.birth.range.start ? [a, b] : [b, a];
    const range = { start: lower.birth.range.start, end: upper.birth.range.end };
    const child = this.#addShard(range, now, [a, b]);
    a.close([child], now);
    b.close([child], now);
    this.reindex();
  }

  trim(now: number): void {
    const horizon = this.horizon(now);
    for (const shard of this.shards) shard.trim(horizon);
  }

  /** Records that arrived before this time are gone. */
  horizon(now: number): number {
    return now - this.retentionHours * 3_600_000;
  }

  /** Closed shards whose last possible record is gone are no longer listed. */
  isListed(shard: Shard, now: number): boolean {
    return shard.closedAt === undefined || shard.closedAt >= this.horizon(now);
  }

  requireStatus(...allowed: readonly StreamStatus[]): void {
    if (allowed.includes(this.status)) return;
    throw inUse(
      `Stream ${this.birth.name} under account ${this.birth.accountId} not ${allowed[0]}, instead in state ${this.status}`,
    );
  }

  #addShard(range: HashRange, now: number, parents: readonly Shard[] = []): Shard {
    const shard = new Shard(
      {
        index: this.shards.length,
        range,
        createdAt: now,
        parentShardId: parents[0]?.id,
        adjacentParentShardId: parents[1]?.id,
      },
      this.birth.limits,
      this.birth.maxShardBytes,
    );
    this.shards.push(shard);
    return shard;
  }

  /** An open shard picked by chance: where the service distributes records itself. */
  anyShard(chance: number): Shard {
    return this.#open[Math.floor(chance * this.#open.length)] as Shard;
  }

  /** Adds a shard as a snapshot holds it. Call {@link reindex} after the last one. */
  restoreShard(birth: ShardBirth): Shard {
    const shard = new Shard(birth, this.birth.limits, this.birth.maxShardBytes);
    this.shards.push(shard);
    return shard;
  }

  /** Looks again which shards are open. */
  reindex(): void {
    this.#open = this.shards.filter((shard) => shard.isOpen);
    this.#index = new HashRangeIndex(this.#open.map((shard) => shard.birth.range));
  }
}
