import { HashedKey, hashKeyFromBigInt, type HashRange } from '@shardline/shared';
import { describe, expect, it } from 'vitest';

import { FlushGroup } from '../src/flush-group.js';
import { NextRequest } from '../src/next-request.js';
import { Router } from '../src/router.js';
import { ShardMap } from '../src/shard-map.js';

const LINGER_MS = 50;

/** A router to so many shards, each with a record since a moment. */
function setup(shards: number, openedMs: number): { router: Router; next: NextRequest } {
  const router = new Router(
    {
      aggregation: true,
      isStrict: false,
      codec: 'stored',
      aggregationMaxBytes: 51_200,
      aggregationMaxRecords: 4_000,
      lingerMs: LINGER_MS,
    },
    () => {},
  );
  const width = 2n ** 128n / BigInt(shards);
  const rangeOf = (index: number): HashRange => ({
    start: width * BigInt(index),
    end: index === shards - 1 ? 2n ** 128n - 1n : width * BigInt(index + 1) - 1n,
  });
  const listed = Array.from({ length: shards }, (_, index) => ({
    shardId: `s${index}`,
    range: rangeOf(index),
  }));
  router.useMap(
    new ShardMap(listed, 0),
    { maxRecordBytes: 2 ** 20, isSelfDistributing: false },
    openedMs,
  );
  const key = new HashedKey();
  const group = new FlushGroup();
  for (const { range } of listed) {
    group.enter(1);
    key.set('k');
    hashKeyFromBigInt(range.start, key.words);
    const record = {
      partitionKey: 'k',
      explicitHashKey: String(range.start),
      data: Buffer.alloc(10),
      bytes: 11,
      expiresMs: 30_000,
      group,
      origin: undefined,
      caller: undefined,
    };
    router.add(record, key, openedMs);
  }
  return { router, next: new NextRequest(router, false, () => 0) };
}

describe('NextRequest', () => {
  it('ends no more aggregates than a request takes: the others grow on', () => {
    const { router, next } = setup(1_200, 0);
    const sizes: number[] = [];
    for (;;) {
      const { batch } = next.collect(LINGER_MS, false);
      if (batch.length === 0) break;
      sizes.push(batch.length);
      expect(router.open.size).toBe(1_200 - sizes.reduce((sum, size) => sum + size, 0));
      expect(router.queued.size).toBe(0);
    }
    expect(sizes).toEqual([500, 500, 200]);
  });

  it('lets what is not due wait for company, and says until when', () => {
    const { router, next } = setup(3, 7);
    expect(next.collect(8, false)).toEqual({ batch: [], wakeMs: 7 + LINGER_MS });
    expect(router.open.size).toBe(3);
    // Ended by its size before it was due.
    router.closeOpen([...router.open][0] as never);
    expect(next.collect(9, false)).toEqual({ batch: [], wakeMs: 7 + LINGER_MS });
    expect({ open: router.open.size, queued: router.queued.size }).toEqual({ open: 2, queued: 1 });
    expect(next.collect(7 + LINGER_MS, false).batch).toHaveLength(3);
  });

  it('takes all there is if it is urgent', () => {
    const { next } = setup(3, 7);
    expect(next.collect(8, true).batch).toHaveLength(3);
  });

  it('takes nothing from a lane that must wait, and looks again at a step of its own', () => {
    const { router, next } = setup(2, 0);
    const [blocked] = [...router.open];
    if (blocked) blocked.blockedUntilMs = 123;
    const { batch, wakeMs } = next.collect(LINGER_MS, false);
    expect(batch.map(({ lane }) => lane)).not.toContain(blocked);
    expect({ taken: batch.length, wakeMs }).toEqual({ taken: 1, wakeMs: 130 });
    expect(next.collect(130, false).batch.map(({ lane }) => lane)).toEqual([blocked]);
  });
});
