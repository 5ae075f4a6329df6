import { sleep } from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';
import fc from 'fast-check';
import murmurhash from 'murmurhash3js-revisited';
import { describe, expect, it } from 'vitest';

import { HandlerLimit } from '../../src/processing/handler-limit.js';
import { type LaneOptions, laneOf, Lanes } from '../../src/processing/lanes.js';
import { Watermark } from '../../src/processing/watermark.js';

function options(clock: ManualClock, changes: Partial<LaneOptions> = {}): LaneOptions {
  return {
    laneCount: 1,
    maxItems: 1,
    maxBytes: Infinity,
    windowMs: 0,
    limit: new HandlerLimit(Infinity),
    clock,
    ...changes,
  };
}

describe('Lanes', () => {
  it('keep the order of each key, never run two of a key at once, and run all, whatever the limits', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(12), { maxLength: 120 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 12 }),
        fc.constantFrom(0, 7),
        fc.integer({ min: 1, max: 4 }),
        fc.integer(),
        async (keys, laneCount, maxItems, maxBytes, windowMs, maxHandlers, seed) => {
          const clock = new ManualClock();
          const random = seededRandom(seed);
          const done = new Map<string, number[]>();
          const running = new Set<string>();
          let atOnce = 0;
          const lanes = new Lanes<{ key: string; index: number }>(
            options(clock, {
              laneCount,
              maxItems,
              maxBytes,
              windowMs,
              limit: new HandlerLimit(maxHandlers),
            }),
            () => 3,
            async (items) => {
              expect(items.length).toBeLessThanOrEqual(maxItems);
              // Each item counts three bytes; one alone may be too large.
              expect(items.length).toBeLessThanOrEqual(Math.max(1, Math.floor(maxBytes / 3)));
              const own = new Set(items.map(({ key }) => key));
              for (const key of own) {
                expect(running.has(key)).toBe(false);
                running.add(key);
              }
              atOnce += 1;
              expect(atOnce).toBeLessThanOrEqual(Math.min(laneCount, maxHandlers));
              await sleep(clock, random() * 10);
              atOnce -= 1;
              for (const key of own) running.delete(key);
              for (const { key, index } of items) done.set(key, [...(done.get(key) ?? []), index]);
            },
          );
          keys.forEach((key, index) => lanes.push(`key-${key}`, { key: `key-${key}`, index }));
          const idle = lanes.idle();
          await clock.advance(10);
          lanes.pause();
          await clock.advance(30);
          const before = [...done.values()].flat().length;
          await clock.advance(100);
          expect([...done.values()].flat()).toHaveLength(before);
          lanes.resume();
          await clock.advance(20 * keys.length + 10);
          await idle;
          expect([...done.values()].flat()).toHaveLength(keys.length);
          for (const indexes of done.values())
            expect(indexes).toEqual([...indexes].sort((a, b) => a - b));
        },
      ),
      { numRuns: 40 },
    );
  });

  it('begin nothing more once stopped, and are idle when the last is done', async () => {
    const clock = new ManualClock();
    let begun = 0;
    const lanes = new Lanes<number>(
      options(clock),
      () => 1,
      async () => {
        begun += 1;
        await sleep(clock, 10);
      },
    );
    for (let index = 0; index < 5; index += 1) lanes.push('k', index);
    await clock.advance(15);
    lanes.stop();
    lanes.push('k', 9);
    const idle = lanes.idle();
    await clock.advance(100);
    await idle;
    expect(begun).toBe(2);
  });

  it('wait for a fuller run as long as the window is, unless they are full or told to flush', async () => {
    const clock = new ManualClock();
    const runs: { readonly atMs: number; readonly items: readonly number[] }[] = [];
    const lanes = new Lanes<number>(
      options(clock, { maxItems: 3, windowMs: 100 }),
      () => 1,
      (items): Promise<void> => {
        runs.push({ atMs: clock.monotonicMs(), items });
        return Promise.resolve();
      },
    );
    lanes.push('k', 1);
    await clock.advance(60);
    lanes.push('k', 2);
    await clock.advance(60);
    expect(runs).toEqual([{ atMs: 100, items: [1, 2] }]);
    for (const item of [3, 4, 5]) lanes.push('k', item);
    await clock.advance(1);
    expect(runs.at(-1)).toEqual({ atMs: 120, items: [3, 4, 5] });
    lanes.push('k', 6);
    await clock.advance(10);
    lanes.flush();
    await clock.advance(1);
    expect(runs.at(-1)).toEqual({ atMs: 131, items: [6] });
    expect(clock.pending).toBe(0);
  });

  it('forget what waits when they are stopped in a pause, and are idle', async () => {
    const clock = new ManualClock();
    let begun = 0;
    const lanes = new Lanes<number>(
      options(clock),
      () => 1,
      (): Promise<void> => {
        begun += 1;
        return Promise.resolve();
      },
    );
    lanes.pause();
    lanes.push('k', 1);
    await clock.advance(10);
    lanes.stop();
    await lanes.idle();
    expect(begun).toBe(0);
  });

  it('spread keys evenly', () => {
    const counts = new Map<number, number>();
    for (let index = 0; index < 10_000; index += 1) {
      const lane = laneOf(`customer-${index}`, 10);
      counts.set(lane, (counts.get(lane) ?? 0) + 1);
    }
    expect(Math.min(...counts.values())).toBeGreaterThan(850);
    expect(Math.max(...counts.values())).toBeLessThan(1_150);
  });
});

describe('laneOf', () => {
  it('is the hash of the UTF-8 bytes of any key, however long', () => {
    const anyKey = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('', 'ключ', '\ud800', 'x'.repeat(1_024), 'x'.repeat(1_025), 'я'.repeat(600)),
    );
    fc.assert(
      fc.property(anyKey, fc.integer({ min: 1, max: 1_000 }), (key, lanes) => {
        expect(laneOf(key, lanes)).toBe(murmurhash.x86.hash32(Buffer.from(key)) % lanes);
      }),
    );
  });
});

describe('Watermark', () => {
  it('stands at the last record before the first unfinished one, whatever the order of finishing', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 60 }), fc.integer(), (count, seed) => {
        const random = seededRandom(seed);
        const watermark = new Watermark();
        const tickets = Array.from({ length: count }, (_, index) =>
          watermark.begin({ sequenceNumber: String(index), subSequenceNumber: 0 }),
        );
        const unfinished = new Set(tickets.keys());
        while (unfinished.size > 0) {
          const left = [...unfinished];
          const pick = left[Math.floor(random() * left.length)] as number;
          watermark.finish(tickets[pick] as (typeof tickets)[number]);
          unfinished.delete(pick);
          const lowest = Math.min(...unfinished, count);
          expect(watermark.position?.sequenceNumber).toBe(
            lowest === 0 ? undefined : String(lowest - 1),
          );
          expect(watermark.openCount).toBe(count - lowest);
          const above = [...Array(count).keys()].filter((at) => at > lowest && !unfinished.has(at));
          expect(
            watermark.finishedAbove(1_000).map(({ sequenceNumber }) => Number(sequenceNumber)),
          ).toEqual(above);
          const rest = [...unfinished].sort((a, b) => a - b);
          const next = rest[1] ?? count;
          const first = tickets[rest[0] ?? count - 1] as (typeof tickets)[number];
          expect(watermark.positionWith([first])?.sequenceNumber).toBe(String(next - 1));
        }
      }),
    );
  });
});
