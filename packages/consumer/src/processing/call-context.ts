import type { Position, UserRecord } from '@shardline/shared';

import type { HeldLease } from '../lease/held-lease.js';
import type { RecordTask } from './delivery.js';
import type { HandlerContext, PreparedCheckpoint } from './handler.js';
import type { Ticket } from './watermark.js';

/** What a call of a handler can do to its shard. */
export interface CalledShard {
  readonly streamName: string;
  readonly held: HeldLease;
  /** Aborts when handlers must stop. */
  readonly signal: AbortSignal;
  checkpoint(tickets: readonly Ticket[]): Promise<Position | undefined>;
  prepareCheckpoint(
    tickets: readonly Ticket[],
    state: Uint8Array | undefined,
  ): Promise<PreparedCheckpoint | undefined>;
}

/**
 * What a handler is told of one call. A class, since getters of an object literal are functions of their
 * own each time, and V8 keeps those, and the records they know, until it next collects all of its heap.
 */
export class CallContext implements HandlerContext {
  readonly streamName: string;
  readonly shardId: string;
  readonly fencingToken: number;
  readonly position: Position;
  readonly attempt: number;
  readonly millisBehindLatest: number;
  readonly #shard: CalledShard;
  readonly #tasks: readonly RecordTask[];

  /** @param position - Of the last of the tasks, or where the shard stands if there is none. */
  constructor(
    shard: CalledShard,
    tasks: readonly RecordTask[],
    position: Position,
    attempt: number,
  ) {
    this.streamName = shard.streamName;
    this.shardId = shard.held.lease.shardId;
    this.fencingToken = shard.held.fencingToken;
    this.position = position;
    this.attempt = attempt;
    this.millisBehindLatest = tasks.at(-1)?.source.millisBehindLatest ?? 0;
    this.#shard = shard;
    this.#tasks = tasks;
  }

  get records(): readonly UserRecord[] {
    return this.#tasks.map(({ record }) => record);
  }

  // Looked at anew each time: after a stall the timer that would abort it may not have fired yet.
  get signal(): AbortSignal {
    const { held, signal } = this.#shard;
    return held.isValid ? signal : held.signal;
  }

  // Functions of the object, so that a handler may take them out of it.
  readonly checkpoint = (): Promise<Position | undefined> =>
    this.#shard.checkpoint(this.#tasks.map(({ ticket }) => ticket));

  readonly prepareCheckpoint = (state?: Uint8Array): Promise<PreparedCheckpoint | undefined> =>
    this.#shard.prepareCheckpoint(
      this.#tasks.map(({ ticket }) => ticket),
      state,
    );
}
