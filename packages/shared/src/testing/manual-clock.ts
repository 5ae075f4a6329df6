import type { Clock, Timer } from '../clock.js';

interface Booking {
  readonly atMs: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Time that moves only when told to, and lets all work that is due run on the way. */
export class ManualClock implements Clock {
  #elapsedMs = 0;
  #order = 0;
  readonly #startedAt: number;
  readonly #bookings = new Set<Booking>();

  /** @param startedAt - Wall time at the beginning, epoch milliseconds. */
  constructor(startedAt = Date.UTC(2026, 0, 1)) {
    this.#startedAt = startedAt;
  }

  now(): number {
    return this.#startedAt + Math.floor(this.#elapsedMs);
  }

  monotonicMs(): number {
    return this.#elapsedMs;
  }

  schedule(delayMs: number, callback: () => void): Timer {
    const booking: Booking = {
      atMs: this.#elapsedMs + Math.max(delayMs, 0),
      order: this.#order++,
      callback,
    };
    this.#bookings.add(booking);
    return { cancel: () => this.#bookings.delete(booking) };
  }

  /** How many timers are booked. 0 at the end of a test means nothing was left behind. */
  get pending(): number {
    return this.#bookings.size;
  }

  /** Moves time forward, firing every timer on the way in order, each followed by the work it starts. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#elapsedMs + ms;
    // Before time moves: a sleep that is about to start must be booked from now.
    await settle();
    for (;;) {
      const next = this.#next();
      if (next === undefined || next.atMs > untilMs) break;
      this.#bookings.delete(next);
      this.#elapsedMs = next.atMs;
      next.callback();
      await settle();
    }
    this.#elapsedMs = untilMs;
    await settle();
  }

  #next(): Booking | undefined {
    let found: Booking | undefined;
    for (const booking of this.#bookings) {
      if (
        found === undefined ||
        booking.atMs < found.atMs ||
        (booking.atMs === found.atMs && booking.order < found.order)
      ) {
        found = booking;
      }
    }
    return found;
  }
}

/** Lets everything run that waits for promises only. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await new Promise<void>((done) => setImmediate(done));
}
