import { type Clock, type Random, sleep } from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { AutoFetcher } from '../../src/fetch/auto-fetcher.js';
import { FanOutFetcher } from '../../src/fetch/fan-out-fetcher.js';
import { afterRecord, type FetchedBatch, type Fetcher } from '../../src/fetch/fetcher.js';
import { FoundConsumer } from '../../src/fetch/found-consumer.js';
import type { KinesisReadPort, SubscriptionBatch } from '../../src/fetch/kinesis-read-port.js';
import { PollingFetcher } from '../../src/fetch/polling-fetcher.js';
import { nextPageRecords, pauseAfterRead, ReadPace } from '../../src/fetch/read-pacing.js';
import { chooseRetrieval } from '../../src/fetch/retrieval-choice.js';
import { EMPTY, failure, page, scriptedPort } from './scripted-port.js';

const FROM = afterRecord('1');

/** Runs a reader until a moment, collecting what it gives. */
function run(
  fetcher: Fetcher,
  clock: ManualClock,
): {
  readonly batches: { readonly atMs: number; readonly batch: FetchedBatch }[];
  readonly troubles: (string | undefined)[];
  readonly stop: () => void;
  readonly ended: Promise<unknown>;
} {
  const batches: { atMs: number; batch: FetchedBatch }[] = [];
  const troubles: (string | undefined)[] = [];
  const controller = new AbortController();
  const ended = (async () => {
    for await (const batch of fetcher.fetch('s', FROM, controller.signal, (what) =>
      troubles.push(what),
    )) {
      batches.push({ atMs: clock.monotonicMs(), batch });
    }
    return undefined;
  })().catch((error: unknown) => error);
  return { batches, troubles, ended, stop: () => controller.abort() };
}

function polling(
  port: ConstructorParameters<typeof PollingFetcher>[0],
  clock: Clock,
  random: Random,
  shareRatio = 1,
): PollingFetcher {
  return new PollingFetcher(port, {
    streamName: 'orders',
    shareRatio,
    idlePauseMs: 250,
    maxIdlePauseMs: 1_000,
    clock,
    random,
  });
}

describe('polling, by the clock', () => {
  it('reads at once while it is behind, never more than five times a second', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, { read: (call) => page(call + 2, 10, 60_000) });
    const reader = run(polling(port, clock, seededRandom(1)), clock);
    await clock.advance(10_000);
    reader.stop();
    expect(log.reads.length).toBeGreaterThan(40);
    expect(log.reads.length).toBeLessThanOrEqual(50);
  });

  it('shares the rate of a shard among all readers of the process, whoever they belong to', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, { read: (call) => page(call + 2, 10, 60_000) });
    const readers = [1, 2, 3].map((seed) => run(polling(port, clock, seededRandom(seed)), clock));
    await clock.advance(10_000);
    for (const { stop } of readers) stop();
    expect(log.reads.length).toBeLessThanOrEqual(50);
    for (const { batches } of readers) expect(batches.length).toBeGreaterThan(10);
  });

  it('leaves the room it is told to', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, { read: (call) => page(call + 2, 10, 60_000) });
    const reader = run(polling(port, clock, seededRandom(1), 0.5), clock);
    await clock.advance(10_000);
    reader.stop();
    expect(log.reads.length).toBeGreaterThan(20);
    expect(log.reads.length).toBeLessThanOrEqual(25);
  });

  it('keeps to two megabytes a second after large answers', async () => {
    const clock = new ManualClock();
    const bytes = 10 * 2 ** 20;
    const { port, log } = scriptedPort(clock, { read: (call) => page(call + 2, bytes, 60_000) });
    const reader = run(polling(port, clock, seededRandom(1)), clock);
    await clock.advance(60_000);
    reader.stop();
    expect(log.reads.length * bytes).toBeLessThanOrEqual((60 + 5) * 2 * 2 ** 20);
    expect(log.reads.length * bytes).toBeGreaterThan(55 * 2 * 2 ** 20);
  });

  it('asks for a megabyte or so at a time, whatever the size of records', async () => {
    const clock = new ManualClock();
    const small = 2 ** 10;
    const large = 2 ** 17;
    const { port, log } = scriptedPort(clock, {
      read: (call) => [page(2, small, 1), page(3, large, 1), EMPTY, page(4, 0, 1)][call] ?? EMPTY,
    });
    const reader = run(polling(port, clock, seededRandom(1)), clock);
    await clock.advance(10_000);
    reader.stop();
    expect(log.limits.slice(0, 5)).toEqual([20, 2 ** 10, 2 ** 3, 2 ** 3, 10_000]);
  });

  it('slows down at the tip of a silent shard, and is quick again when a record comes', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, { read: (call) => (call === 20 ? page(2) : EMPTY) });
    const reader = run(polling(port, clock, seededRandom(1)), clock);
    await clock.advance(60_000);
    reader.stop();
    const gaps = log.reads.slice(1).map((atMs, index) => atMs - (log.reads[index] as number));
    expect(gaps[0]).toBe(250);
    expect(gaps[18]).toBe(1_000);
    expect(gaps[20]).toBe(250);
  });

  it('backs off, more and more, with chance, and says what is wrong until it is over', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {
      read: (call) => (call < 8 ? failure('ProvisionedThroughputExceededException') : EMPTY),
    });
    const reader = run(polling(port, clock, seededRandom(3)), clock);
    await clock.advance(60_000);
    reader.stop();
    expect(reader.troubles.slice(0, 9)).toEqual([
      ...Array.from({ length: 8 }, () => 'ProvisionedThroughputExceededException'),
      undefined,
    ]);
    // Full jitter: no wait is longer than the cap, their bound doubles.
    expect(log.reads[8]).toBeLessThan(300 * 2 ** 8);
    expect(reader.batches.length).toBeGreaterThan(20);
  });

  it('asks for a new iterator where it stood when one has expired', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {
      read: (call) =>
        call === 0 ? page(7) : call === 1 ? failure('ExpiredIteratorException') : EMPTY,
    });
    const reader = run(polling(port, clock, seededRandom(3)), clock);
    await clock.advance(5_000);
    reader.stop();
    expect(log.iterators.map(({ from }) => from)).toEqual([FROM, afterRecord('7')]);
  });

  it('does not believe in an end without children', async () => {
    const clock = new ManualClock();
    const { port } = scriptedPort(clock, {
      read: (call) => (call === 0 ? { ...EMPTY, nextIterator: undefined } : EMPTY),
    });
    const reader = run(polling(port, clock, seededRandom(3)), clock);
    await clock.advance(5_000);
    reader.stop();
    expect(reader.troubles).toEqual(['InvalidShardEnd', undefined]);
    expect(reader.batches.length).toBeGreaterThan(5);
  });
});

const event = (sequence: number, bytes = 0): SubscriptionBatch => ({
  records:
    bytes === 0
      ? []
      : [{ Data: Buffer.alloc(bytes), PartitionKey: 'k', SequenceNumber: String(sequence) }],
  millisBehindLatest: 0,
  childShards: undefined,
  continuation: String(sequence),
});

/** Events every five seconds, for as long as the service lets a subscription live. */
const fiveMinutes = (first: number) =>
  Array.from({ length: 60 }, (_, index) => ({ afterMs: 5_000, event: event(first + index) }));

describe('fan-out, by the clock', () => {
  const fanOut = (port: ConstructorParameters<typeof FanOutFetcher>[0], clock: Clock, seed = 1) =>
    new FanOutFetcher(
      port,
      new FoundConsumer(() => Promise.resolve('arn')),
      clock,
      seededRandom(seed),
    );

  it('renews a subscription before its five minutes are over, behind the last event', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {
      subscribe: (call) => fiveMinutes(1_000 * (call + 1)),
    });
    const reader = run(fanOut(port, clock), clock);
    await clock.advance(1_000_000);
    reader.stop();
    expect(log.subscriptions).toHaveLength(4);
    for (let call = 1; call < 4; call += 1) {
      const lifeMs =
        (log.subscriptions[call]?.atMs as number) - (log.subscriptions[call - 1]?.atMs as number);
      expect(lifeMs).toBeGreaterThanOrEqual(270_000);
      expect(lifeMs).toBeLessThan(300_000);
      const given = reader.batches.filter(({ batch }) =>
        batch.resume.position.sequenceNumber.startsWith(String(call)),
      );
      expect(log.subscriptions[call]?.from).toEqual(given.at(-1)?.batch.resume);
    }
  });

  it('waits five seconds after a subscription before it subscribes again', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {
      subscribe: () => [{ afterMs: 10, event: event(5) }],
    });
    const reader = run(fanOut(port, clock), clock);
    await clock.advance(60_000);
    reader.stop();
    const times = log.subscriptions.map(({ atMs }) => atMs);
    for (let call = 1; call < times.length; call += 1) {
      expect((times[call] as number) - (times[call - 1] as number)).toBeGreaterThanOrEqual(5_000);
    }
  });

  it('begins again AT its checkpoint until an event has come, and AFTER from then on', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {
      subscribe: (call) =>
        call === 0
          ? [{ afterMs: 10, event: failure('InternalFailureException') }]
          : [{ afterMs: 10, event: event(9) }],
    });
    const controller = new AbortController();
    const from = { ...FROM, isAfter: false };
    const batches = fanOut(port, clock).fetch('s', from, controller.signal, () => {});
    void (async () => {
      for await (const batch of batches) void batch;
    })();
    await clock.advance(30_000);
    controller.abort();
    expect(log.subscriptions.slice(0, 3).map(({ from: { isAfter } }) => isAfter)).toEqual([
      false,
      false,
      true,
    ]);
  });

  it('says from when on the lag it tells was true', async () => {
    const clock = new ManualClock();
    const { port } = scriptedPort(clock, {
      subscribe: () => [
        { afterMs: 100, event: event(2, 10) },
        { afterMs: 5_000, event: event(3) },
        { afterMs: 200, event: event(4, 10) },
        { afterMs: 5_000, event: event(5) },
      ],
    });
    const reader = run(fanOut(port, clock), clock);
    await clock.advance(6_000);
    reader.stop();
    // An event that came soon may have been sent at any time since the subscription began.
    expect(reader.batches.map(({ batch }) => batch.askedMs)).toEqual([0, 100, 0]);
    const polled = scriptedPort(clock, { read: (call) => page(call + 2, 10, 60_000) });
    const slow: KinesisReadPort = {
      ...polled.port,
      getRecords: async (...call) => {
        const answer = await polled.port.getRecords(...call);
        await sleep(clock, 50, call[2]);
        return answer;
      },
    };
    const poller = run(polling(slow, clock, seededRandom(1)), clock);
    await clock.advance(1_000);
    poller.stop();
    const asked = poller.batches.map(({ batch }) => batch.askedMs);
    expect(asked.length).toBeGreaterThan(2);
    expect(asked).toEqual(polled.log.reads.slice(0, asked.length));
  });

  it('ends a subscription that has fallen silent', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {
      subscribe: () => [{ afterMs: 1_000_000, event: event(2) }],
    });
    const reader = run(fanOut(port, clock), clock);
    await clock.advance(70_000);
    reader.stop();
    await clock.advance(1);
    expect(log.subscriptions.map(({ atMs }) => atMs)).toEqual([0, 20_000, 40_000, 60_000]);
  });

  it('gives up a request to subscribe that nobody answers, and tries again', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {});
    const deaf: typeof port.subscribe = (arn, shardId, from, signal) => {
      void port.subscribe(arn, shardId, from, signal);
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      });
    };
    const reader = run(fanOut({ ...port, subscribe: deaf }, clock), clock);
    await clock.advance(100_000);
    reader.stop();
    await reader.ended;
    expect(log.subscriptions.length).toBeGreaterThan(2);
    expect(reader.troubles).toContain('AbortError');
    expect(clock.pending).toBe(0);
  });

  it('does not hold a slow handler for silence', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {
      subscribe: () => [
        { afterMs: 0, event: event(2) },
        { afterMs: 0, event: event(3) },
      ],
    });
    const controller = new AbortController();
    const batches = fanOut(port, clock)
      .fetch('s', FROM, controller.signal, () => {})
      [Symbol.asyncIterator]();
    const first = batches.next();
    await clock.advance(1);
    await first;
    await clock.advance(200_000);
    const second = batches.next();
    await clock.advance(1);
    expect((await second).value?.resume).toEqual(afterRecord('3'));
    expect(log.subscriptions).toHaveLength(1);
    controller.abort();
    await batches.return?.(undefined);
  });

  it.each(['ResourceInUseException', 'LimitExceededException', 'InternalFailureException'])(
    'backs off on %s, and lets somebody else try after five minutes of it',
    async (name) => {
      const clock = new ManualClock();
      const { port, log } = scriptedPort(clock, { subscribe: () => failure(name) });
      const reader = run(fanOut(port, clock), clock);
      await clock.advance(400_000);
      expect(await reader.ended).toMatchObject({ code: 'SERVICE_UNAVAILABLE', value: name });
      expect(log.subscriptions.length).toBeGreaterThan(20);
      expect(log.subscriptions.length).toBeLessThan(320);
    },
  );
});

describe('auto retrieval, by the clock', () => {
  const auto = (
    port: ConstructorParameters<typeof FanOutFetcher>[0],
    clock: Clock,
    register: () => Promise<unknown> = () => Promise.resolve(),
  ): AutoFetcher =>
    new AutoFetcher({
      polling: polling(port, clock, seededRandom(1)),
      fanOut: new FanOutFetcher(
        port,
        new FoundConsumer(() => Promise.resolve('arn')),
        clock,
        seededRandom(1),
      ),
      register,
      fanOutBytesPerSecond: 10_000,
      clock,
    });

  it('changes to fan-out under traffic and back when it is gone, without a gap or a repeat', async () => {
    const clock = new ManualClock();
    let next = 1;
    const { port, log } = scriptedPort(clock, {
      read: () => (clock.monotonicMs() < 200_000 ? page((next += 1), 10_000, 0) : EMPTY),
      subscribe: () =>
        Array.from({ length: 60 }, () => ({
          afterMs: 5_000,
          get event() {
            return clock.monotonicMs() < 400_000 ? event((next += 1), 100_000) : event(next);
          },
        })),
    });
    const reader = run(auto(port, clock), clock);
    await clock.advance(1_000_000);
    reader.stop();
    expect(log.subscriptions.length).toBeGreaterThan(0);
    const left = log.reads.at(-1) as number;
    expect(left).toBeGreaterThan(900_000);
    const given = reader.batches.flatMap(({ batch }) =>
      batch.records.map(({ SequenceNumber }) => Number(SequenceNumber)),
    );
    expect(given).toEqual(Array.from({ length: given.length }, (_, index) => index + 2));
    const firstPolled = log.reads.findIndex((atMs) => atMs > 450_000);
    expect(firstPolled).toBeGreaterThan(0);
  });

  it('goes to fan-out at once when polling is throttled', async () => {
    const clock = new ManualClock();
    const { port, log } = scriptedPort(clock, {
      read: (call) =>
        call === 3 ? failure('ProvisionedThroughputExceededException') : page(call + 2),
      subscribe: () => fiveMinutes(100),
    });
    const reader = run(auto(port, clock), clock);
    await clock.advance(5_000);
    reader.stop();
    expect(log.subscriptions).toHaveLength(1);
  });

  it('stays with polling while no consumer is to be had, and asks again much later', async () => {
    const clock = new ManualClock();
    let asked = 0;
    const register = (): Promise<unknown> => {
      asked += 1;
      return Promise.reject(failure('LimitExceededException'));
    };
    const { port, log } = scriptedPort(clock, { read: (call) => page(call + 2, 50_000) });
    const reader = run(auto(port, clock, register), clock);
    await clock.advance(1_000_000);
    reader.stop();
    expect(log.subscriptions).toEqual([]);
    expect(asked).toBe(2);
    const given = reader.batches.flatMap(({ batch }) =>
      batch.records.map(({ SequenceNumber }) => Number(SequenceNumber)),
    );
    expect(given).toEqual(Array.from({ length: given.length }, (_, index) => index + 2));
  });

  it('leaves fan-out for polling when its consumer is removed', async () => {
    const clock = new ManualClock();
    let polled = 0;
    const { port, log } = scriptedPort(clock, {
      read: (call) => {
        polled = call;
        return call === 0 ? failure('ProvisionedThroughputExceededException') : page(call + 2);
      },
      subscribe: () => failure('ResourceNotFoundException'),
    });
    const reader = run(auto(port, clock), clock);
    await clock.advance(60_000);
    reader.stop();
    expect(log.subscriptions).toHaveLength(1);
    expect(polled).toBeGreaterThan(50);
  });
});

describe('how a shard is read', () => {
  it('follows traffic with a dead band, and never fan-out without a consumer', () => {
    fc.assert(
      fc.property(
        fc.record({
          current: fc.constantFrom('polling' as const, 'fanOut' as const),
          heldMs: fc.nat(200_000),
          bytesPerSecond: fc.nat(100_000),
          isThrottled: fc.boolean(),
          hasConsumer: fc.boolean(),
          fanOutBytesPerSecond: fc.integer({ min: 1, max: 100_000 }),
        }),
        (measures) => {
          const chosen = chooseRetrieval(measures);
          expect(chosen === 'fanOut' && !measures.hasConsumer).toBe(false);
          // What is chosen is kept under the same traffic.
          const again = { ...measures, current: chosen, isThrottled: false };
          expect(measures.isThrottled || chooseRetrieval(again) === chosen).toBe(true);
        },
      ),
    );
  });

  it('is paused within its bounds, longer with every empty read', () => {
    fc.assert(
      fc.property(fc.nat(10_000), fc.nat(100), (behind, empty) => {
        const pauses = { idlePauseMs: 250, maxIdlePauseMs: 1_000 };
        const pauseMs = pauseAfterRead(behind, empty, pauses);
        expect(pauseMs).toBeLessThanOrEqual(behind > 0 ? 0 : 1_000);
        expect(pauseMs).toBeGreaterThanOrEqual(behind > 0 ? 0 : 250);
        expect(pauseAfterRead(behind, empty + 1, pauses)).toBeGreaterThanOrEqual(pauseMs);
      }),
    );
  });

  it('asks for so many records that as many of the same size are a megabyte at most, or for one', () => {
    const size = fc.integer({ min: 1, max: 10 * 2 ** 20 });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), size, (records, recordBytes) => {
        const next = nextPageRecords(records, records * recordBytes);
        expect(next).toBeGreaterThanOrEqual(1);
        expect(next).toBeLessThanOrEqual(10_000);
        expect(next === 1 || next * recordBytes <= 2 ** 20).toBe(true);
        expect(next === 10_000 || (next + 1) * recordBytes > 2 ** 20 * 0.999).toBe(true);
      }),
    );
  });

  it('is booked so that no second has more than five calls, whatever the answers', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(300), fc.nat(2 ** 21)), { maxLength: 60 }), (calls) => {
        const pace = new ReadPace();
        let nowMs = 0;
        let bytesSoFar = 0;
        const times: number[] = [];
        for (const [waitMs, bytes] of calls) {
          nowMs += waitMs;
          const atMs = pace.book(nowMs, 1);
          expect(atMs).toBeGreaterThanOrEqual(nowMs);
          expect(bytesSoFar).toBeLessThanOrEqual(((atMs + 1_000) / 1_000) * 2 ** 21);
          pace.charge(atMs, bytes, 1);
          bytesSoFar += bytes;
          times.push((nowMs = atMs));
        }
        for (let at = 5; at < times.length; at += 1) {
          expect((times[at] as number) - (times[at - 5] as number)).toBeGreaterThan(1_000);
        }
      }),
    );
  });
});
