import {
  type Clock,
  isShardlineError,
  publishDiagnostics,
  ShardlineError,
  type ShardMapMessage,
  sleep,
  type StreamRef,
} from '@shardline/shared';

import { type PendingRecord, PutError } from './pending-record.js';
import type { KinesisWritePort } from './put-records-client.js';
import { checkSize } from './record-checks.js';
import type { Router } from './router.js';
import type { Settlement } from './settlement.js';
import { ShardMap } from './shard-map.js';

export interface ShardListingOptions {
  readonly stream: StreamRef;
  readonly clock: Clock;
  readonly shardMapMaxAgeMs: number;
  /** Whether records wait while the service refuses the listing for good, as for want of rights. */
  readonly waitsWhenRefused: boolean;
}

/** A listing that is due for its age is asked for at most this often. */
const REFRESH_PAUSE_MS = 1_000;

/** Gives the router maps of the stream's shards, and holds records until there is a first one. */
export class ShardListing {
  readonly #options: ShardListingOptions;
  readonly #port: KinesisWritePort;
  readonly #router: Router;
  readonly #settlement: Settlement;
  readonly #stopping: AbortSignal;
  readonly #onListed: () => void;
  /** Records that wait for the first listing. */
  #held: PendingRecord[] = [];
  #refreshing: Promise<void> | undefined;
  #refreshedMs = -Infinity;

  /**
   * @param stopping - Ends all waiting.
   * @param onListed - Told after each listing, also one that failed.
   */
  constructor(
    options: ShardListingOptions,
    port: KinesisWritePort,
    router: Router,
    settlement: Settlement,
    stopping: AbortSignal,
    onListed: () => void,
  ) {
    this.#options = options;
    this.#port = port;
    this.#router = router;
    this.#settlement = settlement;
    this.#stopping = stopping;
    this.#onListed = onListed;
  }

  /** Keeps a record, whose data are copied, until it is known which shard it is for. */
  hold(record: PendingRecord): void {
    this.#held.push({ ...record, data: Buffer.from(record.data) });
    void this.refresh('start');
  }

  /** Looks at the shards again if the last look was too long ago. */
  refreshIfOld(nowMs: number): void {
    const { map } = this.#router;
    if (map && nowMs - map.loadedMs > this.#options.shardMapMaxAgeMs) void this.refresh('periodic');
  }

  /** Looks at the shards again; the old map serves meanwhile, and on if that fails. */
  refresh(reason: ShardMapMessage['reason']): Promise<void> {
    const { clock } = this.#options;
    if (this.#refreshing) return this.#refreshing;
    const isTooSoon = clock.monotonicMs() - this.#refreshedMs < REFRESH_PAUSE_MS;
    if (isTooSoon && reason === 'periodic') return Promise.resolve();
    this.#refreshing = this.#load(reason).finally(() => {
      this.#refreshing = undefined;
      this.#refreshedMs = clock.monotonicMs();
      this.#onListed();
    });
    return this.#refreshing;
  }

  /** Gives up what still waits. */
  stop(error: ShardlineError): void {
    this.#reject(this.#held.splice(0), error);
  }

  async #load(reason: ShardMapMessage['reason']): Promise<void> {
    const { clock, stream } = this.#options;
    const startedMs = clock.monotonicMs();
    try {
      const { shards, ...traits } = await this.#port.describe(this.#stopping);
      this.#router.useMap(new ShardMap(shards, startedMs), traits, clock.monotonicMs());
      publishDiagnostics('shardline:producer:shard-map', () => ({
        streamName: stream.name,
        openShards: shards.length,
        reason,
      }));
    } catch (error) {
      this.#onFailed(error);
      return;
    }
    for (const record of this.#held.splice(0)) {
      try {
        checkSize(record.bytes, this.#router.maxRecordBytes);
      } catch (error) {
        this.#reject([record], error);
        continue;
      }
      this.#router.addMoved(record, clock.monotonicMs());
    }
  }

  /** Without any map nothing can be sent: gives up what waits, or what has waited for as long as it may. */
  #onFailed(error: unknown): void {
    const { clock, waitsWhenRefused } = this.#options;
    if (this.#router.map) return;
    const givesUpAll = !waitsWhenRefused || this.#stopping.aborted;
    const nowMs = clock.monotonicMs();
    const held = this.#held.splice(0);
    const isOver = ({ expiresMs }: PendingRecord): boolean => givesUpAll || expiresMs <= nowMs;
    this.#held = held.filter((record) => !isOver(record));
    this.#reject(held.filter(isOver), error);
    // Also for records that came in just now, into the room of those that were given up.
    if (this.#held.length === 0) return;
    sleep(clock, REFRESH_PAUSE_MS, this.#stopping).then(
      () => void this.refresh('start'),
      () => {},
    );
  }

  #reject(records: readonly PendingRecord[], error: unknown): void {
    const cause = isShardlineError(error)
      ? error
      : new ShardlineError('SERVICE_UNAVAILABLE', 'the shards could not be listed', {
          cause: error,
        });
    this.#settlement.recordsFailed(records, new PutError(cause, []));
  }
}
