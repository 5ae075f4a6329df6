import type { Entry } from './entry.js';
import type { OpenAggregate } from './open-aggregate.js';
import { Pace } from './pace.js';

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

  /** @param isPaced - False where the lane stands for more than one shard. */
  constructor(shardId: string, nowMs: number, isPaced: boolean) {
    this.shardId = shardId;
    this.#isPaced = isPaced;
    this.pace = new Pace(nowMs);
  }

  get length(): number {
    return this.#entries.length - this.#head;
  }

  get first(): Entry | undefined {
    return this.#entries[this.#head];
  }

  /** What waits, the next first. */
  *waiting(): Generator<Entry> {
    for (let at = this.#head; at < this.#entries.length; at += 1) yield this.#entries[at] as Entry;
  }

  push(entry: Entry): void {
    this.#entries.push(entry);
  }

  /** Puts entries back in front, in the order given. */
  putBack(entries: readonly Entry[]): void {
    this.#entries.splice(0, this.#head, ...entries);
    this.#head = 0;
  }

  shift(): Entry | undefined {
    const entry = this.#entries[this.#head];
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
}
