import { Producer, type ProducerOptions } from '@shardline/producer';
import { ManualClock, seededRandom } from '@shardline/shared/testing';

import { FakePort } from './fake-port.js';

/** A producer over a stream in memory, on a clock that is held. */
export function setup(options: Partial<ProducerOptions> = {}, shards = 2) {
  const clock = new ManualClock();
  const port = new FakePort(clock, shards);
  const producer = new Producer(
    { streamName: 'orders', clock, random: seededRandom(1), ...options },
    port,
  );
  return { clock, port, producer };
}

/** Moves time until the promise settles. */
export async function finish<Result>(
  clock: ManualClock,
  promise: Promise<Result>,
): Promise<Result> {
  let isSettled = false;
  promise.then(
    () => (isSettled = true),
    () => (isSettled = true),
  );
  for (let step = 0; step < 20_000 && !isSettled; step += 1) await clock.advance(5);
  return promise;
}
