import {
  AggregateEncoder,
  type Codec,
  HashedKey,
  type HashKeyWords,
  sealEnvelope,
} from '@shardline/shared';

import { Entry } from './entry.js';
import type { Sending } from './next-request.js';
import { OpenAggregate } from './open-aggregate.js';
import { PayloadMemory } from './payload-memory.js';
import type { PendingRecord } from './pending-record.js';
import { ShardLane } from './shard-lane.js';
import type { ShardMap } from './shard-map.js';
import { StagedRecords } from './staged-records.js';

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
/** Memory of empty encoders that is kept for the next aggregates. */
const MAX_SPARE_BYTES = 2 ** 25;
/** Weight of the latest ratio in the estimate of what compression gains. */
const RATIO_WEIGHT = 0.2;
/** A compressed record should end just below the limit, not just above. */
const RATIO_MARGIN = 0.95;

/**
 * Puts each record into the lane of the shard that owns its hash key, and several into one Kinesis
 * record. Knows the stream's shards; knows nothing of requests.
 */
export class Router {
  /** Lanes with an open aggregate, the oldest first. */
  readonly open = new Set<ShardLane>();
  /** Lanes with entries to send, in the order in which they are served. */
  readonly queued = new Set<ShardLane>();
  /** Bytes before and after compression of all entries that were sealed. */
  readonly compression = { rawBytes: 0, sealedBytes: 0 };
  readonly #options: RouterOptions;
  readonly #onSealed: () => void;
  readonly #spareEncoders: AggregateEncoder[] = [];
  #spareBytes = 0;
  readonly #payloads: PayloadMemory;
  /** The key of a record that moves. */
  readonly #key = new HashedKey();
  /** Makes entries of records that stay alone and cannot wait as they are. */
  readonly #single = new StagedRecords();
  #map: ShardMap | undefined;
  #lanes: ShardLane[] = [];
  #maxRecordBytes = 0;
  /** How large an aggregate may grow so that it is of the wanted size once it is compressed. */
  #aggregateBytes = 0;
  #isAggregating = false;
  #ratio = 1;
  #sealing = 0;
  #isPredicting = true;

  constructor(options: RouterOptions, onSealed: () => void) {
    this.#options = options;
    this.#onSealed = onSealed;
    this.#payloads = new PayloadMemory(options.aggregationMaxBytes);
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
    const { aggregation } = this.#options;
    this.#isAggregating = aggregation === 'always' || (aggregation && this.#isPredicting);
    this.#aggregateBytes = this.#wantedBytes();
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
      this.queued.delete(gone);
    }
  }

  isCurrent(lane: ShardLane): boolean {
    return this.#isPredicting ? this.#map?.has(lane.shardId) === true : lane.shardId === ANY_SHARD;
  }

  /**
   * Adds a record. A map must be there.
   *
   * @param key - The record's.
   * @returns The moment at which its lane should be served.
   */
  add(record: PendingRecord, key: HashedKey, nowMs: number): number {
    const lane = this.#laneAt(key.words);
    const { lingerMs, aggregationMaxRecords } = this.#options;
    if (!this.#isAggregating) {
      const dueMs = nowMs + lingerMs;
      if (this.#mayShrink(record.data)) this.#enqueue(lane, this.#aloneNow(record, key, dueMs));
      else {
        lane.stage(record, key, dueMs);
        this.queued.add(lane);
      }
      return dueMs;
    }
    if (!lane.open?.tryAdd(record, key, this.#aggregateBytes, aggregationMaxRecords)) {
      this.closeOpen(lane);
      lane.open = this.#openAggregate(record, key, nowMs);
      this.open.add(lane);
    }
    return lane.open.openedMs + lingerMs;
  }

  /** Ends the lane's open aggregate, if there is one. */
  closeOpen(lane: ShardLane): void {
    const { open } = lane;
    if (!open) return;
    lane.open = undefined;
    this.open.delete(lane);
    this.#enqueue(lane, this.#close(open));
  }

  /** Sends an entry's records to the shards that own them now, behind what waits there. */
  reroute(entry: Entry, nowMs: number): void {
    entry.isAbandoned = true;
    for (const record of entry.pending()) this.addMoved(record, nowMs);
  }

  /** Adds a record whose key is not hashed, or no longer: see {@link add}. */
  addMoved(record: PendingRecord, nowMs: number): number {
    return this.add(record, this.#hashed(record), nowMs);
  }

  /**
   * Sends records to the shards that own them now, in front of what waits there.
   *
   * @param keep - Which of the entry's records.
   */
  rerouteToFront(entry: Entry, nowMs: number, keep?: (index: number) => boolean): void {
    entry.isAbandoned = true;
    const byLane = new Map<ShardLane, PendingRecord[]>();
    for (const record of entry.pending(keep)) {
      const lane = this.#laneAt(this.#hashed(record).words);
      const records = byLane.get(lane);
      if (records) records.push(record);
      else byLane.set(lane, [record]);
    }
    for (const [lane, records] of byLane) {
      const entries = entry.isAggregate
        ? [this.#regroup(records, nowMs)]
        : records.map((record) => this.#alone(record, nowMs));
      for (const fresh of entries) fresh.attempts = entry.attempts;
      lane.putBack(entries);
      this.queued.add(lane);
    }
  }

  /** Puts entries that were taken back in front of their lanes, or of those that own their records now. */
  putBack(sendings: readonly Sending[], nowMs: number): void {
    const byLane = new Map<ShardLane, Entry[]>();
    for (const { lane, entry } of sendings) {
      lane.inFlight -= 1;
      const entries = byLane.get(lane);
      if (entries) entries.push(entry);
      else byLane.set(lane, [entry]);
    }
    for (const [lane, entries] of byLane) {
      if (this.isCurrent(lane)) {
        lane.putBack(entries);
        this.queued.add(lane);
      } else {
        for (const entry of entries.reverse()) this.rerouteToFront(entry, nowMs);
      }
    }
  }

  /** Takes back the memory of an entry that was stored; nobody reads its payload any more. */
  letGo({ payload }: Entry): void {
    this.#payloads.reuse(payload);
  }

  /** Entries that wait in lanes. */
  *waiting(): Generator<Entry> {
    for (const lane of this.queued) yield* lane.waiting();
  }

  /** How long the oldest record in any lane has waited. Unit: milliseconds. */
  oldestWaitingMs(nowMs: number): number {
    let oldestMs = nowMs;
    for (const { open } of this.open) {
      oldestMs = open?.openedMs ?? nowMs;
      break;
    }
    for (const { first } of this.queued) {
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
    for (const record of entry.userRecords()) {
      const owns = this.#map?.owns(shardId, this.#hashed(record).words);
      if (owns !== true) return owns;
    }
    return true;
  }

  /** Puts records that shared an entry into one again; should it be too large now, its refusal parts it. */
  #regroup(records: readonly PendingRecord[], nowMs: number): Entry {
    const [first, ...others] = records as [PendingRecord, ...PendingRecord[]];
    const open = this.#openAggregate(first, this.#hashed(first), nowMs);
    for (const record of others) {
      open.tryAdd(record, this.#hashed(record), Infinity, Infinity);
    }
    const entry = this.#close(open);
    this.#seal(entry);
    return entry;
  }

  #alone(record: PendingRecord, nowMs: number): Entry {
    return this.#isAggregating
      ? this.#regroup([record], nowMs)
      : this.#aloneNow(record, this.#hashed(record), nowMs);
  }

  #aloneNow(record: PendingRecord, key: HashedKey, dueMs: number): Entry {
    this.#single.add(record, key, dueMs);
    return this.#single.take() as Entry;
  }

  #enqueue(lane: ShardLane, entry: Entry): void {
    lane.push(entry);
    this.queued.add(lane);
    this.#seal(entry);
  }

  /** Compresses it in the background if that may help. */
  #seal(entry: Entry): void {
    const { codec } = this.#options;
    const raw = entry.payload;
    if (!this.#mayShrink(raw)) return;
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

  #mayShrink({ length }: Uint8Array): boolean {
    return this.#options.codec !== 'stored' && length >= SMALLEST_COMPRESSED_BYTES;
  }

  #useSealed(entry: Entry, raw: Buffer, sealed: Buffer): void {
    if (entry.isAbandoned) return;
    this.compression.rawBytes += raw.length;
    this.compression.sealedBytes += Math.min(sealed.length, raw.length);
    if (sealed.length < raw.length) entry.payload = sealed;
    if (!entry.isAggregate) return;
    const ratio = Math.max(raw.length / sealed.length, 1);
    this.#ratio = (1 - RATIO_WEIGHT) * this.#ratio + RATIO_WEIGHT * ratio;
    this.#aggregateBytes = this.#wantedBytes();
  }

  #wantedBytes(): number {
    const { aggregationMaxBytes, codec } = this.#options;
    const wanted =
      codec === 'stored'
        ? aggregationMaxBytes
        : Math.max(aggregationMaxBytes * this.#ratio * RATIO_MARGIN, aggregationMaxBytes);
    // Uncompressed it must be acceptable too.
    return Math.min(wanted, this.#maxRecordBytes);
  }

  #openAggregate(first: PendingRecord, key: HashedKey, nowMs: number): OpenAggregate {
    const spare = this.#spareEncoders.pop();
    this.#spareBytes -= spare?.heldBytes ?? 0;
    return new OpenAggregate(first, key, nowMs, spare ?? new AggregateEncoder());
  }

  #close(open: OpenAggregate): Entry {
    const entry = open.close(open.openedMs + this.#options.lingerMs, this.#payloads);
    const { encoder } = open;
    if (this.#spareBytes + encoder.heldBytes <= MAX_SPARE_BYTES) {
      this.#spareBytes += encoder.heldBytes;
      this.#spareEncoders.push(encoder);
    }
    return entry;
  }

  #laneAt(hashKey: HashKeyWords): ShardLane {
    const index = this.#isPredicting ? (this.#map?.find(hashKey) ?? 0) : 0;
    return this.#lanes[index] as ShardLane;
  }

  #hashed({
    partitionKey,
    explicitHashKey,
  }: {
    readonly partitionKey: string;
    readonly explicitHashKey: string | undefined;
  }): HashedKey {
    this.#key.set(partitionKey, explicitHashKey);
    return this.#key;
  }
}
