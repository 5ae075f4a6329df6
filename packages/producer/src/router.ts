import {
  AggregateEncoder,
  type Codec,
  type HashKeyWords,
  hashPartitionKey,
  parseHashKey,
  sealEnvelope,
} from '@shardline/shared';

import { Entry } from './entry.js';
import { OpenAggregate, unaggregatedEntry } from './open-aggregate.js';
import type { PendingRecord } from './pending-record.js';
import { ShardLane } from './shard-lane.js';
import type { ShardMap } from './shard-map.js';

export interface RouterOptions {
  /** `always`: even where the service distributes records itself. */
  readonly aggregation: boolean | 'always';
  readonly isStrict: boolean;
  readonly codec: Codec;
  readonly aggregationMaxBytes: number;
  readonly aggregationMaxRecords: number;
  readonly lingerMs: number;
}

/** What the stream is like. */
export interface StreamTraits {
  readonly maxRecordBytes: number;
  /** The service distributes records itself and ignores their keys. */
  readonly isSelfDistributing: boolean;
}

const ANY_SHARD = 'any shard';
/** Smaller payloads rarely shrink by more than an envelope's header. */
const SMALLEST_COMPRESSED_BYTES = 256;
/** Empty encoders kept for the next aggregates; each holds the memory its largest took. */
const MAX_SPARE_ENCODERS = 256;
/** Weight of the latest ratio in the estimate of what compression gains. */
const RATIO_WEIGHT = 0.2;
/** A compressed record should end just below the limit, not just above. */
const RATIO_MARGIN = 0.95;

/**
 * Puts each record into the lane of the shard that owns its hash key, and several into one Kinesis
 * record. Knows the stream's shards; knows nothing of requests.
 */
export class Router {
  /** Lanes that hold something, in the order in which they are served. */
  readonly active = new Set<ShardLane>();
  /** Bytes before and after compression of all entries that were sealed. */
  readonly compression = { rawBytes: 0, sealedBytes: 0 };
  readonly #options: RouterOptions;
  readonly #onSealed: () => void;
  readonly #spareEncoders: AggregateEncoder[] = [];
  readonly #hashKey = new Uint32Array(4);
  #map: ShardMap | undefined;
  #lanes: ShardLane[] = [];
  #maxRecordBytes = 0;
  #ratio = 1;
  #sealing = 0;
  #isPredicting = true;

  constructor(options: RouterOptions, onSealed: () => void) {
    this.#options = options;
    this.#onSealed = onSealed;
  }

  get lingerMs(): number {
    return this.#options.lingerMs;
  }

  /** Entries being compressed. */
  get sealing(): number {
    return this.#sealing;
  }

  get map(): ShardMap | undefined {
    return this.#map;
  }

  get lanes(): readonly ShardLane[] {
    return this.#lanes;
  }

  get maxRecordBytes(): number {
    return this.#maxRecordBytes;
  }

  /** False where the service distributes records itself: then nothing can be predicted. */
  get isPredicting(): boolean {
    return this.#isPredicting;
  }

  /** Takes over a new listing: what waits for shards that are gone moves to those that own it now. */
  useMap(map: ShardMap, stream: StreamTraits, nowMs: number): void {
    const before = new Map(this.#lanes.map((lane) => [lane.shardId, lane]));
    this.#maxRecordBytes = stream.maxRecordBytes;
    this.#isPredicting = !stream.isSelfDistributing;
    this.#map = map;
    const fresh: ShardLane[] = [];
    // Where nothing can be predicted one lane takes all.
    const shardIds = this.#isPredicting ? map.shardIds : [ANY_SHARD];
    this.#lanes = shardIds.map((shardId) => {
      const known = before.get(shardId);
      before.delete(shardId);
      if (known) return known;
      const lane = new ShardLane(shardId, nowMs, this.#isPredicting);
      fresh.push(lane);
      return lane;
    });
    for (const gone of before.values()) {
      if (this.#options.isStrict && gone.inFlight > 0) {
        for (const lane of fresh) lane.predecessors.add(gone);
      }
      this.closeOpen(gone);
      for (const entry of gone.takeAll()) this.reroute(entry, nowMs);
      this.active.delete(gone);
    }
  }

  isCurrent(lane: ShardLane): boolean {
    return this.#isPredicting ? this.#map?.has(lane.shardId) === true : lane.shardId === ANY_SHARD;
  }

  /**
   * Adds a record. A map must be there.
   *
   * @param hashKey - The record's, if it is known.
   * @returns The moment at which its lane should be served.
   */
  add(record: PendingRecord, data: Uint8Array, nowMs: number, hashKey?: HashKeyWords): number {
    const lane = hashKey ? this.#laneAt(hashKey) : this.#laneOf(record);
    this.active.add(lane);
    const { lingerMs, aggregationMaxRecords } = this.#options;
    if (!this.#isAggregating) {
      this.#enqueue(lane, unaggregatedEntry(record, data, nowMs + lingerMs));
      return nowMs + lingerMs;
    }
    const limits = { maxBytes: this.#aggregateBytes(), maxRecords: aggregationMaxRecords };
    lane.open ??= this.#openAggregate(nowMs);
    if (!lane.open.tryAdd(record, data, limits)) {
      this.closeOpen(lane);
      lane.open = this.#openAggregate(nowMs);
      lane.open.tryAdd(record, data, limits);
    }
    return lane.open.openedMs + lingerMs;
  }

  /** Ends the lane's open aggregate, if there is one. */
  closeOpen(lane: ShardLane): void {
    const { open } = lane;
    if (!open) return;
    lane.open = undefined;
    this.#enqueue(lane, this.#close(open));
  }

  /** Sends an entry's records to the shards that own them now, behind what waits there. */
  reroute(entry: Entry, nowMs: number): void {
    entry.isAbandoned = true;
    const data = entry.userData();
    entry.records.forEach((record, index) => {
      if (!record.isSettled) this.add(record, data[index] as Buffer, nowMs);
    });
  }

  /**
   * Sends records to the shards that own them now, in front of what waits there.
   *
   * @param keep - Which of the entry's records.
   */
  rerouteToFront(
    entry: Entry,
    nowMs: number,
    keep: (record: PendingRecord, index: number) => boolean = () => true,
  ): void {
    entry.isAbandoned = true;
    const data = entry.userData();
    const byLane = new Map<ShardLane, number[]>();
    entry.records.forEach((record, index) => {
      if (record.isSettled || !keep(record, index)) return;
      const lane = this.#laneOf(record);
      const indexes = byLane.get(lane);
      if (indexes) indexes.push(index);
      else byLane.set(lane, [index]);
    });
    for (const [lane, indexes] of byLane) {
      const entries = this.#regroup(entry, indexes, data, nowMs);
      for (const fresh of entries) fresh.attempts = entry.attempts;
      lane.putBack(entries);
      this.active.add(lane);
    }
  }

  /** How long the oldest record in any lane has waited. Unit: milliseconds. */
  oldestWaitingMs(nowMs: number): number {
    let oldestMs = nowMs;
    for (const { first, open } of this.active) {
      if (open) oldestMs = Math.min(oldestMs, open.openedMs);
      if (first) oldestMs = Math.min(oldestMs, first.dueMs - this.#options.lingerMs);
    }
    return nowMs - oldestMs;
  }

  /** Shards that are written below their quota because the service throttled them. */
  slowestShards(nowMs: number, count: number): { shardId: string; ratio: number }[] {
    return this.#lanes
      .map(({ shardId, pace }) => ({ shardId, ratio: pace.ratioAt(nowMs) }))
      .filter(({ ratio }) => ratio < 1)
      .sort((a, b) => a.ratio - b.ratio)
      .slice(0, count);
  }

  /** Whether every record of an entry belongs to a shard; undefined if the map does not know the shard. */
  allInside(entry: Entry, shardId: string): boolean | undefined {
    for (const record of entry.records) {
      this.#hash(record);
      const owns = this.#map?.owns(shardId, this.#hashKey);
      if (owns !== true) return owns;
    }
    return true;
  }

  get #isAggregating(): boolean {
    const { aggregation } = this.#options;
    return aggregation === 'always' || (aggregation && this.#isPredicting);
  }

  #regroup(
    entry: Entry,
    indexes: readonly number[],
    data: readonly Buffer[],
    nowMs: number,
  ): Entry[] {
    if (!entry.isAggregate) {
      return indexes.map((index) =>
        this.#isAggregating
          ? this.#single(entry.records[index] as PendingRecord, data[index] as Buffer, nowMs)
          : unaggregatedEntry(entry.records[index] as PendingRecord, data[index] as Buffer, nowMs),
      );
    }
    // A part of what fitted before always fits.
    const open = this.#openAggregate(nowMs);
    const limits = { maxBytes: this.#maxRecordBytes, maxRecords: Infinity };
    for (const index of indexes) {
      open.tryAdd(entry.records[index] as PendingRecord, data[index] as Buffer, limits);
    }
    const regrouped = this.#close(open);
    this.#seal(regrouped);
    return [regrouped];
  }

  #single(record: PendingRecord, data: Buffer, nowMs: number): Entry {
    const open = this.#openAggregate(nowMs);
    open.tryAdd(record, data, { maxBytes: this.#maxRecordBytes, maxRecords: 1 });
    const entry = this.#close(open);
    this.#seal(entry);
    return entry;
  }

  #enqueue(lane: ShardLane, entry: Entry): void {
    lane.push(entry);
    this.#seal(entry);
  }

  /** Compresses it in the background if that may help. */
  #seal(entry: Entry): void {
    const { codec } = this.#options;
    const raw = entry.payload;
    if (codec === 'stored' || raw.length < SMALLEST_COMPRESSED_BYTES) return;
    Entry.sum([entry]);
    entry.isSealed = false;
    this.#sealing += 1;
    sealEnvelope(raw, codec, entry.isAggregate ? 'aggregate' : 'data')
      .then(
        (sealed) => this.#useSealed(entry, raw, sealed),
        // It was not compressed; it is sent as it is.
        () => {},
      )
      .finally(() => {
        entry.isSealed = true;
        this.#sealing -= 1;
        this.#onSealed();
      });
  }

  #useSealed(entry: Entry, raw: Buffer, sealed: Buffer): void {
    if (entry.isAbandoned) return;
    this.compression.rawBytes += raw.length;
    this.compression.sealedBytes += Math.min(sealed.length, raw.length);
    if (sealed.length < raw.length) entry.payload = sealed;
    if (!entry.isAggregate) return;
    const ratio = Math.max(raw.length / sealed.length, 1);
    this.#ratio = (1 - RATIO_WEIGHT) * this.#ratio + RATIO_WEIGHT * ratio;
  }

  /** How large an aggregate may grow so that it is of the wanted size once it is compressed. */
  #aggregateBytes(): number {
    const { aggregationMaxBytes, codec } = this.#options;
    const wanted =
      codec === 'stored'
        ? aggregationMaxBytes
        : Math.max(aggregationMaxBytes * this.#ratio * RATIO_MARGIN, aggregationMaxBytes);
    // Uncompressed it must be acceptable too.
    return Math.min(wanted, this.#maxRecordBytes);
  }

  #openAggregate(nowMs: number): OpenAggregate {
    return new OpenAggregate(nowMs, this.#spareEncoders.pop() ?? new AggregateEncoder());
  }

  #close(open: OpenAggregate): Entry {
    const entry = open.close(open.openedMs + this.#options.lingerMs);
    if (this.#spareEncoders.length < MAX_SPARE_ENCODERS) this.#spareEncoders.push(open.encoder);
    return entry;
  }

  #laneOf(record: PendingRecord): ShardLane {
    this.#hash(record);
    return this.#laneAt(this.#hashKey);
  }

  #laneAt(hashKey: HashKeyWords): ShardLane {
    const index = this.#isPredicting ? (this.#map?.find(hashKey) ?? 0) : 0;
    return this.#lanes[index] as ShardLane;
  }

  #hash(record: PendingRecord): void {
    const { explicitHashKey } = record;
    if (explicitHashKey === undefined) hashPartitionKey(record.partitionKey, this.#hashKey);
    else parseHashKey(explicitHashKey, this.#hashKey);
  }
}
