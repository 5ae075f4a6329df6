import type { Clock, Random, Timer } from '@shardline/shared';
import type { ManualClock } from '@shardline/shared/testing';

/**
 * A process in the test tube: its own clock, and a gate that everything coming from outside goes
 * through. While it is frozen nothing in it runs; once it is dead nothing ever does.
 */
export class SimProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #world: ManualClock;
  readonly #random: Random;
  #state: 'running' | 'frozen' | 'dead' = 'running';
  #held: (() => void)[] = [];
  #isThawing = false;

  /** @param rate - How fast its clock runs against the world's. */
  constructor(name: string, world: ManualClock, rate: number, random: Random) {
    this.name = name;
    this.#world = world;
    this.#random = random;
    this.clock = {
      // Wall clocks of machines do not agree.
      now: () => world.now() + rate * 60_000,
      monotonicMs: () => world.monotonicMs() * rate,
      schedule: (delayMs, callback): Timer =>
        world.schedule(delayMs / rate, () => this.#enter(callback)),
    };
  }

  get isDead(): boolean {
    return this.#state === 'dead';
  }

  /** What a service's clock says. */
  get serviceTimeMs(): number {
    return this.#world.now();
  }

  freeze(): void {
    if (this.#state === 'running') this.#state = 'frozen';
  }

  /** Goes on as if nothing had happened. */
  thaw(): void {
    if (this.#state !== 'frozen' || this.#isThawing) return;
    this.#isThawing = true;
    void this.#runHeld();
  }

  /** One thing after the other, each with the work it starts, as an event loop does after a stall. */
  async #runHeld(): Promise<void> {
    for (let next = this.#held.shift(); next; next = this.#held.shift()) {
      next();
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    this.#isThawing = false;
    if (this.#state === 'frozen') this.#state = 'running';
  }

  kill(): void {
    this.#state = 'dead';
    this.#held = [];
  }

  /** A call over the network: there, and back through the gate. */
  async call<Result>(maxDelayMs: number, work: () => Promise<Result>): Promise<Result> {
    await this.#travel(maxDelayMs);
    let outcome: () => Result;
    try {
      const result = await work();
      outcome = () => result;
    } catch (error) {
      outcome = () => {
        throw error as Error;
      };
    }
    await this.#travel(maxDelayMs);
    await new Promise<void>((resolve) => this.#enter(resolve));
    return outcome();
  }

  /** Waits for the world outside, whatever becomes of this process. True if it was woken in time. */
  waitOutside(forMs: number, onWake: (wake: () => void) => void): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = this.#world.schedule(forMs, () => resolve(false));
      onWake(() => {
        timer.cancel();
        resolve(true);
      });
    });
  }

  #travel(maxDelayMs: number): Promise<void> {
    return new Promise((resolve) => this.#world.schedule(this.#random() * maxDelayMs, resolve));
  }

  #enter(callback: () => void): void {
    if (this.#state === 'running') callback();
    else if (this.#state === 'frozen') this.#held.push(callback);
  }
}
