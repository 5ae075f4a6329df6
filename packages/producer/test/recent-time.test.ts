import { ManualClock } from '@shardline/shared/testing';
import { expect, it } from 'vitest';

import { RecentTime } from '../src/recent-time.js';

it('asks the clock again in each turn, and for every so many records of one', async () => {
  const clock = new ManualClock();
  let asked = 0;
  const time = new RecentTime({
    now: () => clock.now(),
    schedule: (delayMs, callback) => clock.schedule(delayMs, callback),
    monotonicMs: () => {
      asked += 1;
      return clock.monotonicMs();
    },
  });
  expect(time.monotonicMs).toBe(0);
  expect(time.monotonicMs).toBe(0);
  expect(asked).toBe(1);
  await clock.advance(7);
  expect(time.monotonicMs).toBe(7);
  for (let record = 0; record < 64; record += 1) expect(time.monotonicMs).toBe(7);
  expect(asked).toBe(3);
});
