import { sleep } from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { laneOf, Lanes } from '../../src/processing/lanes.js';
import { Watermark } from '../../src/processing/watermark.js';

describe('Lanes', () => {
  it('keep the order of each key, never run two of a key at once, and run all', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(12), { maxLength: 120 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer(),
        async (keys, laneCount, maxItems, seed) => {
          const clock = new ManualClock();
          const random = seededRandom(seed);
          const done = new Map<string, number[]>();
          const running = new Set<string>();
          let atOnce = 0;
          const lanes = new Lanes<{ key: string; index: number }>(
            laneCount,
            maxItems,
            async (items) => {
              expect(items.length).toBeLessThanOrEqual(maxItems);
              const own = new Set(items.map(({ key }) => key));
              for (const key of own) {
                expect(running.has(key)).toBe(false);
                running.add(key);
              }
              atOnce += 1;
              expect(atOnce).toBeLessThanOrEqual(laneCount);
              await sleep(clock, random() * 10);
              atOnce -= 1;
              for (const key of own) running.delete(key);
              for (const { key, index } of items) done.set(key, [...(done.get(key) ?? []), index]);
            },
          );
          keys.forEach((key, index) => lanes.push(`key-${key}`, { key: `key-${key}`, index }));
          const idle = lanes.idle();
          await clock.advance(10 * keys.length + 10);
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
    const lanes = new Lanes<number>(1, 1, async () => {
      begun += 1;
      await sleep(clock, 10);
    });
    for (let index = 0; index < 5; index += 1) lanes.push('k', index);
    await clock.advance(15);
    lanes.stop();
    lanes.push('k', 9);
    const idle = lanes.idle();
    await clock.advance(100);
    await idle;
    expect(begun).toBe(2);
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
        }
      }),
    );
  });
});
