import type { Random } from '@shardline/shared';

import type { Entry } from './entry.js';
import type { Router } from './router.js';
import type { ShardLane } from './shard-lane.js';

/** @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html */
export const MAX_REQUEST_ENTRIES = 500;
/** The service takes 10 MiB; to write, sign and send this much takes the event loop five milliseconds. */
const MAX_REQUEST_BYTES = 1.25 * 2 ** 20;
/** With this much to send, nothing waits for more. */
export const FULL_REQUEST_BYTES = 2 ** 20;
/** Lanes that wait for their pace are looked at together, so that they share requests. */
const WAKE_STEP_MS = 10;

/** An entry on its way, and the lane it was taken from. */
export interface Sending {
  readonly lane: ShardLane;
  readonly entry: Entry;
}

/** A request that is being put together. */
interface Draft {
  readonly batch: Sending[];
  bytes: number;
  /** Something in it should not wait any longer. */
  isDue: boolean;
  /** When to look again if it is not sent, on the monotonic clock. */
  wakeMs: number;
}

/** Takes from the lanes what goes into the next request. Knows nothing of requests under way. */
export class NextRequest {
  readonly #router: Router;
  readonly #isStrict: boolean;
  /** Where its steps lie: producers that started together do not step together. */
  readonly #stepMs: number;

  constructor(router: Router, isStrict: boolean, random: Random) {
    this.#router = router;
    this.#isStrict = isStrict;
    this.#stepMs = random() * WAKE_STEP_MS;
  }

  /**
   * Takes what should leave now, with all that may go with it.
   *
   * @param isUrgent - Nothing waits for company.
   * @returns What was taken, nothing if what there is should wait; and when to look again.
   */
  collect(
    nowMs: number,
    isUrgent: boolean,
  ): { readonly batch: readonly Sending[]; readonly wakeMs: number } {
    const draft: Draft = { batch: [], bytes: 0, isDue: isUrgent, wakeMs: Infinity };
    const { queued } = this.#router;
    for (const lane of queued) {
      if (isFull(draft)) break;
      if (!this.#mustWait(lane, draft, nowMs)) this.#takeFrom(lane, draft, nowMs);
    }
    this.#takeOpen(draft, nowMs, isUrgent);
    const { batch, wakeMs } = draft;
    if (!draft.isDue && draft.bytes < FULL_REQUEST_BYTES && batch.length < MAX_REQUEST_ENTRIES) {
      for (const { lane, entry } of batch) lane.pace.spend(-entry.bytes);
      this.#router.putBack(batch, nowMs);
      return { batch: [], wakeMs };
    }
    // Served lanes go to the end, so that one with much to send does not hold up the others.
    for (const { lane } of batch) {
      queued.delete(lane);
      if (lane.length > 0) queued.add(lane);
    }
    return { batch, wakeMs };
  }

  /** Ends open aggregates whose time is over, or any if it is urgent, the oldest first, as far as there is room. */
  #takeOpen(draft: Draft, nowMs: number, isUrgent: boolean): void {
    const { open, lingerMs } = this.#router;
    for (const lane of open) {
      if (isFull(draft)) return;
      const dueMs = (lane.open?.openedMs ?? 0) + lingerMs;
      if (dueMs > nowMs && !isUrgent) {
        draft.wakeMs = Math.min(draft.wakeMs, dueMs);
        return;
      }
      if (lane.length > 0 || this.#mustWait(lane, draft, nowMs)) continue;
      this.#router.closeOpen(lane);
      this.#takeFrom(lane, draft, nowMs);
    }
  }

  /** Whether a lane may not send now; makes sure that it is looked at when it may. */
  #mustWait(lane: ShardLane, draft: Draft, nowMs: number): boolean {
    const waitMs = lane.waitMs(nowMs, this.#isStrict);
    if (waitMs === 0) return false;
    const readyMs = this.#nextStepMs(nowMs + waitMs);
    draft.wakeMs = Math.min(draft.wakeMs, readyMs, lane.first?.expiresMs ?? Infinity);
    return true;
  }

  /** Adds what a lane may send now, as far as there is room. */
  #takeFrom(lane: ShardLane, draft: Draft, nowMs: number): void {
    for (let entry = lane.first; entry; entry = lane.first) {
      if (!entry.isSealed || draft.batch.length >= MAX_REQUEST_ENTRIES) return;
      if (draft.bytes + entry.bytes > MAX_REQUEST_BYTES && draft.batch.length > 0) return;
      lane.shift();
      lane.inFlight += 1;
      lane.pace.spend(entry.bytes);
      draft.batch.push({ lane, entry });
      draft.bytes += entry.bytes;
      if (entry.dueMs <= nowMs || entry.attempts.length > 0) draft.isDue = true;
      else draft.wakeMs = Math.min(draft.wakeMs, entry.dueMs);
      if (this.#isStrict || lane.paceMs(nowMs) > 0) return;
    }
  }

  /** The first step at or after a moment. */
  #nextStepMs(atMs: number): number {
    return Math.ceil((atMs - this.#stepMs) / WAKE_STEP_MS) * WAKE_STEP_MS + this.#stepMs;
  }
}

/** Payloads and partition keys of what is on its way. */
export function bytesOf(batch: readonly Sending[]): number {
  return batch.reduce((sum, { entry }) => sum + entry.bytes, 0);
}

function isFull({ batch, bytes }: Draft): boolean {
  return batch.length >= MAX_REQUEST_ENTRIES || bytes >= MAX_REQUEST_BYTES;
}
