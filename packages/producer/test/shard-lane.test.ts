import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { HashedKey } from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import type { Entry } from '../src/entry.js';
import { FlushGroup } from '../src/flush-group.js';
import type { PendingRecord } from '../src/pending-record.js';
import { ShardLane } from '../src/shard-lane.js';
import { StagedRecords } from '../src/staged-records.js';

const group = new FlushGroup();

/** Every third has an explicit hash key, every second a caller, a few are large. */
function numbered(number: number, dataBytes: number): PendingRecord {
  const partitionKey = `ключ-${number}`;
  return {
    partitionKey,
    explicitHashKey: number % 3 === 0 ? String(number) : undefined,
    data: Buffer.alloc(dataBytes, number),
    bytes: dataBytes + Buffer.byteLength(partitionKey),
    expiresMs: 1_000 + number,
    group,
    origin: undefined,
    caller: number % 2 === 0 ? { resolve: () => {}, reject: () => {} } : undefined,
  };
}

function keyOf({ partitionKey, explicitHashKey }: PendingRecord): HashedKey {
  const key = new HashedKey();
  key.set(partitionKey, explicitHashKey);
  return key;
}

/** What an entry has of a record. */
function contents(entry: Entry | undefined): object | undefined {
  return (
    entry && {
      partitionKey: entry.partitionKey,
      explicitHashKey: entry.explicitHashKey,
      data: entry.payload.toString('latin1'),
      bytes: entry.records.bytes,
      expiresMs: entry.expiresMs,
      hasCaller: entry.records.hasCallers,
      dueMs: entry.dueMs,
    }
  );
}

function expected(record: PendingRecord): object {
  const { partitionKey, explicitHashKey, data, bytes, expiresMs, caller } = record;
  return {
    partitionKey,
    explicitHashKey,
    data: Buffer.from(data).toString('latin1'),
    bytes,
    expiresMs,
    hasCaller: caller !== undefined,
    dueMs: expiresMs - 500,
  };
}

const anyStep = fc.oneof(
  { weight: 4, arbitrary: fc.constant('stage' as const) },
  { weight: 3, arbitrary: fc.constant('shift' as const) },
  fc.constantFrom('push' as const, 'putBack' as const),
);
/** How often a step is taken: enough at times that what was taken is worth letting go of. */
const anyTimes = fc.constantFrom(1, 1, 1, 3, 900);
const anySize = fc.oneof(fc.nat({ max: 200 }), fc.constantFrom(0, 1_024, 30_000, 70_000));

describe('ShardLane', () => {
  it('gives what waits in its order, whether it is an entry already or not yet', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(anyStep, anyTimes, anySize), { maxLength: 30 }), (plan) => {
        const lane = new ShardLane('s', 0, true);
        const waiting: object[] = [];
        const given: (object | undefined)[] = [];
        const wanted: (object | undefined)[] = [];
        let number = 0;
        const steps = plan.flatMap(([step, times, bytes]) =>
          // A large one is no cheaper often.
          Array.from({ length: bytes > 200 ? 1 : times }, () => ({ step, bytes })),
        );
        for (const { step, bytes: dataBytes } of steps) {
          const record = numbered((number += 1), dataBytes);
          const dueMs = record.expiresMs - 500;
          switch (step) {
            case 'stage':
              lane.stage(record, keyOf(record), dueMs);
              waiting.push(expected(record));
              // Its data are copied.
              record.data.fill(0);
              break;
            case 'push': {
              const alone = new StagedRecords();
              alone.add(record, keyOf(record), dueMs);
              lane.push(alone.take() as Entry);
              waiting.push(expected(record));
              break;
            }
            case 'shift':
              given.push(contents(lane.first), contents(lane.shift()));
              wanted.push(waiting[0], waiting.shift());
              break;
            case 'putBack': {
              const entries = [lane.shift(), lane.shift()].flatMap((entry) => entry ?? []);
              lane.putBack(entries);
            }
          }
          expect(lane.length).toBe(waiting.length);
        }
        expect(given).toEqual(wanted);
        expect(lane.takeAll().map(contents)).toEqual(waiting);
        expect(lane.length).toBe(0);
      }),
      { numRuns: 40 },
    );
  });
});

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** Twice: what the first finds is let go of in the background, which the second waits for. */
function collect(): void {
  gc();
  gc();
}

describe('StagedRecords', () => {
  it('keeps none of the memory of a burst once all of it is taken', () => {
    const record = numbered(1, 100);
    const key = keyOf(record);
    collect();
    const beforeBytes = process.memoryUsage().arrayBuffers;
    const shards = Array.from({ length: 200 }, () => {
      const staged = new StagedRecords();
      for (let count = 0; count < 700; count += 1) staged.add(record, key, 0);
      while (staged.take());
      return staged;
    });
    collect();
    const keptBytes = process.memoryUsage().arrayBuffers - beforeBytes;
    expect(keptBytes / shards.length).toBeLessThan(8_192);
  });

  it('lets go of the payloads of records that were taken while others wait', () => {
    const staged = new StagedRecords();
    for (let number = 0; number < 200; number += 1) {
      const record = numbered(number, 100_000);
      staged.add(record, keyOf(record), 0);
    }
    staged.take();
    collect();
    const beforeBytes = process.memoryUsage().arrayBuffers;
    for (let number = 0; number < 150; number += 1) staged.take();
    collect();
    const freedBytes = beforeBytes - process.memoryUsage().arrayBuffers;
    expect(staged.count).toBe(49);
    expect(freedBytes).toBeGreaterThan(140 * 100_000);
  });
});
