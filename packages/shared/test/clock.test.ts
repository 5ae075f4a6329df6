import { nextTurn, sleep, systemClock } from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';
import { describe, expect, it } from 'vitest';

describe('sleep', () => {
  it('ends when its time has come and not before', async () => {
    const clock = new ManualClock();
    let done = false;
    void sleep(clock, 100).then(() => (done = true));
    await clock.advance(99);
    expect(done).toBe(false);
    await clock.advance(1);
    expect(done).toBe(true);
  });

  it('rejects with the reason, and books nothing, when aborted before or during', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    const sleeping = sleep(clock, 100, controller.signal);
    controller.abort(new Error('stop'));
    await expect(sleeping).rejects.toThrow('stop');
    await expect(sleep(clock, 100, controller.signal)).rejects.toThrow('stop');
    expect(clock.pending).toBe(0);
  });

  it('works on the machine clock', async () => {
    const before = systemClock.monotonicMs();
    await sleep(systemClock, 1);
    expect(systemClock.monotonicMs()).toBeGreaterThan(before);
  });
});

describe('ManualClock', () => {
  it('fires timers in order of time, then of booking, including those booked on the way', async () => {
    const clock = new ManualClock(1_000);
    const fired: string[] = [];
    const note = (name: string) => () => fired.push(`${name}@${clock.now()}`);
    clock.schedule(20, note('late'));
    clock.schedule(10, () => {
      note('first')();
      clock.schedule(5, note('nested'));
    });
    clock.schedule(10, note('second'));
    clock.schedule(10, note('cancelled')).cancel();
    await clock.advance(20);
    expect(fired).toEqual(['first@1010', 'second@1010', 'nested@1015', 'late@1020']);
  });
});

describe('seededRandom', () => {
  it('repeats itself for a seed, and stays within 0 and 1', () => {
    const [a, b, other] = [seededRandom(7), seededRandom(7), seededRandom(8)];
    const first = Array.from({ length: 1_000 }, a);
    expect(first).toEqual(Array.from({ length: 1_000 }, b));
    expect(first).not.toEqual(Array.from({ length: 1_000 }, other));
    expect(first.every((value) => value >= 0 && value < 1)).toBe(true);
  });
});

describe('nextTurn', () => {
  it('lets one of those who wait go on a turn, in order', async () => {
    const gone: number[] = [];
    for (const each of [1, 2, 3]) void nextTurn().then(() => gone.push(each));
    const seen: number[][] = [];
    while (gone.length < 3) {
      await new Promise((resolve) => setImmediate(resolve));
      seen.push([...gone]);
    }
    expect(seen).toEqual([[1], [1, 2], [1, 2, 3]]);
  });
});
