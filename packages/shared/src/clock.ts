import { addAbortListener } from 'node:events';

/** A timer that has not fired yet. Cancelling a fired or cancelled one does nothing. */
export interface Timer {
  cancel(): void;
}

/** Where time comes from. Everything that waits or measures takes one, so tests can hold time still. */
export interface Clock {
  /** Wall time in epoch milliseconds: for timestamps shown to people and services, never for deadlines. */
  now(): number;
  /** Milliseconds since some fixed point, never going back: for deadlines and durations. */
  monotonicMs(): number;
  /** Calls `callback` once, `delayMs` from now; 0 means on a later turn of the event loop. */
  schedule(delayMs: number, callback: () => void): Timer;
}

// Node fires a longer timer at once.
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The machine's own time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonicMs: () => performance.now(),
  schedule(delayMs, callback) {
    const handle = setTimeout(callback, Math.min(Math.max(delayMs, 0), LONGEST_TIMER_MS));
    return { cancel: () => clearTimeout(handle) };
  },
};

/** Waits `delayMs`. Resolves with false, as soon as that is so, if the signal aborts. */
export async function pause(clock: Clock, delayMs: number, signal: AbortSignal): Promise<boolean> {
  if (delayMs <= 0) return !signal.aborted;
  try {
    await sleep(clock, delayMs, signal);
    return true;
  } catch {
    return false;
  }
}

/** Waits `delayMs`, or rejects with `signal.reason` as soon as the signal aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const timer = clock.schedule(delayMs, () => {
      listener?.[Symbol.dispose]();
      resolve();
    });
    const listener =
      signal &&
      addAbortListener(signal, () => {
        timer.cancel();
        reject(signal.reason);
      });
  });
}

const turns: (() => void)[] = [];

/**
 * Lets everything else run that is ready, for work that would hold up the event loop. Of all who wait only
 * one goes on a turn. No time passes by any clock.
 */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    turns.push(resolve);
    if (turns.length === 1) setImmediate(giveTurn);
  });
}

function giveTurn(): void {
  turns.shift()?.();
  if (turns.length > 0) setImmediate(giveTurn);
}
