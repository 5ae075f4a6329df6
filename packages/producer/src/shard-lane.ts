import type { HashedKey } from '@shardline/shared';

import type { Entry } from './entry.js';
import type { OpenAggregate } from './open-aggregate.js';
import { Pace } from './pace.js';
import type { PendingRecord } from './pending-record.js';
import { StagedRecords } from './staged-records.js';

/** What waits for one shard, in order. */
export class ShardLane {
  readonly shardId: string;
  readonly pace: Pace;
  open: OpenAggregate | undefined;
  /** Entries sent and not yet settled. */
  inFlight = 0;
  /** Refusals in a row; decides the next back-off. */
  refusals = 0;
  /** Nothing is sent before, on the monotonic clock. */
  blockedUntilMs = 0;
  /** Lanes whose entries in flight hold earlier records of the same keys; for strict order only. */
  readonly predecessors = new Set<ShardLane>();
  readonly #isPaced: boolean;
  readonly #entries: Entry[] = [];
  #head = 0;
  /** Behind the entries; made entries of one by one. Undefined as long as all records share entries. */
  #staged: StagedRecords | undefined;

  /** @param isPaced - False where the lane stands for more than one shard. */
  constructor(shardId: string, nowMs: number, isPaced: boolean) {
    this.shardId = shardId;
    this.#isPaced = isPaced;
    this.pace = new Pace(nowMs);
  }

  get length(): number {
    return this.#entries.length - this.#head + (this.#staged?.count ?? 0);
  }

  get first(): Entry | undefined {
    return this.#entries[this.#head] ?? this.#unstage();
  }

  /** What waits and is an entry already, the next first. */
  *waiting(): Generator<Entry> {
    for (let at = this.#head; at < this.#entries.length; at += 1) yield this.#entries[at] as Entry;
  }

  push(entry: Entry): void {
    while (this.#unstage());
    this.#entries.push(entry);
  }

  /** Adds a record that will be an entry of its own. */
  stage(record: PendingRecord, key: HashedKey, dueMs: number): void {
    this.#staged ??= new StagedRecords();
    this.#staged.add(record, key, dueMs);
  }

  /** Puts entries back in front, in the order given. */
  putBack(entries: readonly Entry[]): void {
    this.#entries.splice(0, this.#head, ...entries);
    this.#head = 0;
  }

  shift(): Entry | undefined {
    const { first: entry } = this;
    if (entry === undefined) return undefined;
    this.#head += 1;
    // Amortised: moves no more entries than were taken.
    if (this.#head * 2 >= this.#entries.length) {
      this.#entries.splice(0, this.#head);
      this.#head = 0;
    }
    return entry;
  }

  takeAll(): Entry[] {
    while (this.#unstage());
    const entries = this.#entries.slice(this.#head);
    this.#entries.length = 0;
    this.#head = 0;
    return entries;
  }

  /** How long until the lane may send. `Infinity` while something else must settle first. */
  waitMs(nowMs: number, isStrict: boolean): number {
    if (isStrict) {
      for (const lane of this.predecessors) {
        if (lane.inFlight === 0) this.predecessors.delete(lane);
      }
      if (this.inFlight > 0 || this.predecessors.size > 0) return Infinity;
    }
    return Math.max(this.blockedUntilMs - nowMs, this.paceMs(nowMs), 0);
  }

  /** How long the pace of the shard holds back the next entry. Unit: milliseconds. */
  paceMs(nowMs: number): number {
    return this.#isPaced ? this.pace.waitMs(nowMs) : 0;
  }

  #unstage(): Entry | undefined {
    const entry = this.#staged?.take();
    if (entry) this.#entries.push(entry);
    return entry;
  }
}
