import { fullJitterMs, retryControlPlane } from '@shardline/shared';
import { ManualClock, seededRandom, settle } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

describe('fullJitterMs', () => {
  it('stays within the doubled base and the cap for any attempt', () => {
    const rule = { baseMs: 50, capMs: 5_000 };
    fc.assert(
      fc.property(fc.nat(2_000), fc.integer(), (attempt, seed) => {
        const delay = fullJitterMs(rule, attempt, seededRandom(seed));
        expect(delay).toBeGreaterThanOrEqual(0);
        expect(delay).toBeLessThanOrEqual(Math.min(5_000, 50 * 2 ** attempt));
      }),
    );
  });
});

describe('retryControlPlane', () => {
  const named = (name: string): Error => Object.assign(new Error('as the SDK throws it'), { name });

  it('repeats throttled and transient calls after a jittered wait on the given clock', async () => {
    const clock = new ManualClock();
    const calls: number[] = [];
    const result = retryControlPlane(
      () => {
        calls.push(clock.monotonicMs());
        const error = ['LimitExceededException', 'TimeoutError'][calls.length - 1];
        return error === undefined ? Promise.resolve('done') : Promise.reject(named(error));
      },
      { clock, random: () => 0.5 },
    );
    await settle();
    expect(calls).toEqual([0]);
    for (let ms = 0; ms < 300; ms += 10) await clock.advance(10);
    expect(await result).toBe('done');
    expect(calls).toEqual([0, 50, 150]);
  });

  it('gives up at once on anything else, with the error as it was', async () => {
    const error = named('ResourceNotFoundException');
    const clock = new ManualClock();
    await expect(
      retryControlPlane(() => Promise.reject(error), { clock, random: Math.random }),
    ).rejects.toBe(error);
    expect(clock.pending).toBe(0);
  });

  it('stops waiting when aborted', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    const result = retryControlPlane(() => Promise.reject(named('SlowDown')), {
      clock,
      random: () => 1,
      signal: controller.signal,
    });
    await settle();
    controller.abort(new Error('closing'));
    await expect(result).rejects.toThrow('closing');
    expect(clock.pending).toBe(0);
  });
});
