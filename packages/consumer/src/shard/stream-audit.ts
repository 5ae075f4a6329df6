import { isShardlineError } from '@shardline/shared';

import type { KinesisReadPort } from '../fetch/kinesis-read-port.js';
import { inBatches } from '../fleet/in-batches.js';
import type { LeaseStore } from '../lease/lease-store.js';
import type { Lease, LeaseLayout } from '../lease/lease.js';
import {
  firstLeases,
  forgottenLeases,
  formerLeases,
  type InitialPosition,
  missingLeases,
  removableLeases,
  type Shard,
} from './shard-sync.js';

export interface StreamAuditOptions {
  readonly client: KinesisReadPort;
  readonly store: LeaseStore;
  readonly initialPosition: InitialPosition;
  /** Name of the stream if the application reads several. */
  readonly nameOfSeveral: string | undefined;
}

const CONCURRENT_WRITES = 64;
/** More than a lease is written between a listing and what follows from it. */
const COUNTER_STEP = 1_000;

/** Compares the leases of one stream with its shards: makes those that lack, removes those nobody needs. */
export class StreamAudit {
  readonly #options: StreamAuditOptions;
  /** Leases that the last look found forgotten: one look may be mistaken. */
  #forgotten = new Set<string>();
  #streamId: string | undefined;
  #epochSeconds: number | undefined;

  constructor(options: StreamAuditOptions) {
    this.#options = options;
  }

  /** `account:name:creationSeconds`, if the application reads several streams. */
  get streamId(): string | undefined {
    return this.#streamId;
  }

  /**
   * Finds out which stream it is: one that was deleted and created anew is another.
   *
   * @returns True if it is another than before.
   */
  async identify(signal: AbortSignal): Promise<boolean> {
    const { client, nameOfSeveral } = this.#options;
    const before = this.#epochSeconds;
    try {
      const { accountId, createdAtSeconds } = await client.describe(signal);
      this.#epochSeconds = createdAtSeconds;
      if (nameOfSeveral !== undefined) {
        this.#streamId = `${accountId}:${nameOfSeveral}:${createdAtSeconds}`;
      }
    } catch (error) {
      // Of a single stream the shards say enough, but for a stream of the same name.
      if (nameOfSeveral !== undefined || !isShardlineError(error, 'ACCESS_DENIED')) throw error;
    }
    return before !== undefined && before !== this.#epochSeconds;
  }

  /**
   * Looks once.
   *
   * @param all - All leases of the application.
   * @param layout - How new ones are to be kept.
   * @returns True if leases were made or removed.
   */
  async look(all: readonly Lease[], layout: LeaseLayout, signal: AbortSignal): Promise<boolean> {
    const { client, store } = this.#options;
    const former = this.#formerOf(all);
    await inBatches(former, CONCURRENT_WRITES, ({ leaseKey }) => store.delete(leaseKey));
    const leases = all.filter(
      (lease) => lease.streamId === this.#streamId && !former.includes(lease),
    );
    // Nothing of a stream that was created anew was read yet.
    const initialPosition = former.length > 0 ? 'TRIM_HORIZON' : this.#options.initialPosition;
    const origin = { streamId: this.#streamId, streamEpochSeconds: this.#epochSeconds, layout };
    const create = async (lease: Lease): Promise<void> => {
      const before = former.find(({ leaseKey }) => leaseKey === lease.leaseKey);
      // Whoever still holds the former one must not find its counter again.
      const leaseCounter = before ? before.leaseCounter + COUNTER_STEP : 0;
      await store.create({ ...lease, leaseCounter });
    };
    if (leases.length === 0) {
      const shards = await client.listShards(signal, initialPosition);
      await inBatches(firstLeases(shards, initialPosition, origin), CONCURRENT_WRITES, create);
      return true;
    }
    const shards = await client.listShards(signal);
    const missing = missingLeases(shards, leases, initialPosition, origin);
    await inBatches(missing, CONCURRENT_WRITES, create);
    await this.#fillIn(leases, shards);
    const removable = this.#removable(leases, shards);
    await inBatches(removable, CONCURRENT_WRITES, ({ leaseKey }) => store.delete(leaseKey));
    return former.length + missing.length + removable.length > 0;
  }

  /** Leases of a stream of the same name that was there before; those of other streams are none of ours. */
  #formerOf(all: readonly Lease[]): Lease[] {
    const { nameOfSeveral } = this.#options;
    if (nameOfSeveral === undefined) {
      const ours = all.filter(({ streamId }) => streamId === undefined);
      return this.#epochSeconds === undefined ? [] : formerLeases(ours, this.#epochSeconds);
    }
    const [ourAccount] = this.#streamId?.split(':') ?? [];
    return all.filter(({ streamId }) => {
      const [account, name] = streamId?.split(':') ?? [];
      return name === nameOfSeveral && account === ourAccount && streamId !== this.#streamId;
    });
  }

  #removable(leases: readonly Lease[], shards: readonly Shard[]): Lease[] {
    const forgotten = forgottenLeases(leases, shards);
    const before = this.#forgotten;
    this.#forgotten = new Set(forgotten.map(({ leaseKey }) => leaseKey));
    return [
      ...removableLeases(leases, shards),
      ...forgotten.filter(({ leaseKey }) => before.has(leaseKey)),
    ];
  }

  /** What rows of older workers of a KCL, or any of its, do not tell. */
  async #fillIn(leases: readonly Lease[], shards: readonly Shard[]): Promise<void> {
    const ranges = new Map(shards.map(({ shardId, range }) => [shardId, range]));
    const lacking = leases.filter(
      ({ hashRange, streamEpochSeconds, shardId }) =>
        ranges.has(shardId) &&
        (hashRange === undefined ||
          (streamEpochSeconds === undefined && this.#epochSeconds !== undefined)),
    );
    await inBatches(lacking, CONCURRENT_WRITES, async ({ leaseKey, shardId }) => {
      const range = ranges.get(shardId);
      if (range) await this.#options.store.describe(leaseKey, range, this.#epochSeconds);
    });
  }
}
