import type { Clock } from '@shardline/shared';

/** To ask a clock costs a twentieth of what becomes of a small record. */
const MOST_USES = 64;

/** The time of a moment ago: asked for once for records that are put one after the other in the same turn. */
export class RecentTime {
  readonly #clock: Clock;
  readonly #forget = (): void => {
    this.#usesLeft = 0;
  };
  #usesLeft = 0;
  #monotonicMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get monotonicMs(): number {
    if (this.#usesLeft === 0) {
      this.#monotonicMs = this.#clock.monotonicMs();
      this.#usesLeft = MOST_USES;
      void Promise.resolve().then(this.#forget);
    }
    this.#usesLeft -= 1;
    return this.#monotonicMs;
  }
}
