import { createLambdaHandler, type LambdaKinesisEvent } from '@shardline/consumer';
import { AggregateEncoder, sealEnvelope, type UserRecord } from '@shardline/shared';
import { ManualClock } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const SHARD = 'shardId-000000000003';

/** An event as Lambda makes it: each inner list is one Kinesis record, an aggregate if it is long. */
function event(batches: readonly (readonly number[])[], keys = 1): LambdaKinesisEvent {
  return {
    Records: batches.map((numbers, index) => {
      const encoder = new AggregateEncoder();
      for (const number of numbers)
        encoder.add(`key-${number % keys}`, undefined, Buffer.from(String(number)));
      const data = numbers.length > 1 ? encoder.finish() : Buffer.from(String(numbers[0]));
      return {
        eventID: `${SHARD}:${1_000 + index}`,
        kinesis: {
          data: data.toString('base64'),
          partitionKey: `key-${(numbers[0] ?? 0) % keys}`,
          sequenceNumber: String(1_000 + index),
        },
      };
    }),
  };
}
const numberOf = ({ data }: UserRecord): number => Number(data.toString());

describe('createLambdaHandler', () => {
  it('handles every user record of an event once over any failures, each key in order, and reports the first left', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 10 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.array(fc.nat(40), { maxLength: 6 }),
        async (sizes, keys, concurrency, failures) => {
          let next = 0;
          const batches = sizes.map((size) => Array.from({ length: size }, () => next++));
          const done: number[] = [];
          const failing = [...failures];
          const handle = createLambdaHandler({
            reportsBatchItemFailures: true,
            concurrency,
            handler: {
              processRecord: (record) => {
                const at = failing.indexOf(numberOf(record));
                if (at >= 0) {
                  failing.splice(at, 1);
                  throw new Error('broken');
                }
                done.push(numberOf(record));
              },
            },
          });
          // As Lambda: everything from the reported record on is given again.
          let from = 0;
          for (let call = 0; from < batches.length; call += 1) {
            expect(call).toBeLessThan(50);
            const all = event(batches, keys);
            const { batchItemFailures } = await handle({ Records: all.Records.slice(from) });
            if (batchItemFailures.length === 0) break;
            from = Number(batchItemFailures[0]?.itemIdentifier) - 1_000;
          }
          expect([...done].sort((a, b) => a - b)).toEqual(
            Array.from({ length: next }, (_, i) => i),
          );
          for (let key = 0; key < keys; key += 1) {
            const own = done.filter((number) => number % keys === key);
            expect(own).toEqual([...own].sort((a, b) => a - b));
          }
        },
      ),
      { numRuns: 150 },
    );
  });

  it('reports a batch handler’s partial result by the Kinesis record it lies in, and repeats nothing before it', async () => {
    const calls: number[][] = [];
    const handle = createLambdaHandler({
      reportsBatchItemFailures: true,
      handler: {
        processBatch: (records) => {
          calls.push(records.map(numberOf));
          return calls.length === 1 ? { retryFrom: 4 } : undefined;
        },
      },
    });
    const whole = event([[0, 1, 2], [3, 4, 5], [6]]);
    expect(await handle(whole)).toEqual({ batchItemFailures: [{ itemIdentifier: '1001' }] });
    expect(await handle({ Records: whole.Records.slice(1) })).toEqual({ batchItemFailures: [] });
    expect(calls).toEqual([
      [0, 1, 2, 3, 4, 5, 6],
      [4, 5, 6],
    ]);
  });

  it('counts nothing as handled when a batch handler names a record it was not given', async () => {
    for (const retryFrom of [-1, 4, 0.5, Number.NaN]) {
      const handle = createLambdaHandler({
        reportsBatchItemFailures: true,
        handler: { processBatch: () => ({ retryFrom }) },
      });
      const answer = await handle(event([[0], [1], [2]]));
      expect(answer).toEqual({ batchItemFailures: [{ itemIdentifier: '1000' }] });
    }
  });

  it('throws where the mapping would take any answer for success', async () => {
    const handle = createLambdaHandler({
      reportsBatchItemFailures: false,
      handler: {
        processRecord: () => {
          throw new Error('broken');
        },
      },
    });
    await expect(handle(event([[0]]))).rejects.toThrow('broken');
  });

  it('decompresses, filters and deserializes', async () => {
    const encoder = new AggregateEncoder();
    for (const number of [0, 1, 2]) encoder.add('k', undefined, Buffer.from(`{"n":${number}}`));
    const data = await sealEnvelope(encoder.finish(), 'gzip', 'aggregate');
    const seen: unknown[] = [];
    const handle = createLambdaHandler<{ n: number }>({
      reportsBatchItemFailures: true,
      filter: (record) => !record.data.includes('1'),
      deserialize: (record) => JSON.parse(record.data.toString()) as { n: number },
      handler: { processRecord: ({ n }) => void seen.push(n) },
    });
    const [record] = event([[0]]).Records;
    if (!record) throw new Error('no record');
    const kinesis = { ...record.kinesis, data: data.toString('base64') };
    expect(await handle({ Records: [{ ...record, kinesis }] })).toEqual({ batchItemFailures: [] });
    expect(seen).toEqual([0, 2]);
  });

  it('reports a record that cannot be decoded, and begins nothing behind it', async () => {
    const seen: number[] = [];
    const handle = createLambdaHandler({
      reportsBatchItemFailures: true,
      onDamage: 'error',
      handler: { processRecord: (record) => void seen.push(numberOf(record)) },
    });
    const { Records } = event([[0], [1], [2]]);
    const damaged = Buffer.concat([Buffer.from('f3899ac2', 'hex'), Buffer.alloc(40, 1)]);
    const records = Records.map((record, index) =>
      index === 1
        ? { ...record, kinesis: { ...record.kinesis, data: damaged.toString('base64') } }
        : record,
    );
    expect(await handle({ Records: records })).toEqual({
      batchItemFailures: [{ itemIdentifier: '1001' }],
    });
    expect(seen).toEqual([0]);
  });

  it('stops before its time is over, and reports what it has not begun', async () => {
    const clock = new ManualClock();
    const seen: number[] = [];
    const handle = createLambdaHandler({
      reportsBatchItemFailures: true,
      clock,
      handler: {
        processRecord: async (record, { signal }) => {
          seen.push(numberOf(record));
          await new Promise<void>((resolve, reject) => {
            clock.schedule(1_000, resolve);
            signal.addEventListener('abort', () => reject(signal.reason as Error));
          });
        },
      },
    });
    const result = handle(event([[0], [1], [2], [3], [4]]), {
      getRemainingTimeInMillis: () => 3_500,
    });
    await clock.advance(3_000);
    expect(await result).toEqual({ batchItemFailures: [{ itemIdentifier: '1002' }] });
    expect(seen).toEqual([0, 1, 2]);
  });

  it('passes the state of a tumbling window on', async () => {
    const handle = createLambdaHandler({
      reportsBatchItemFailures: true,
      handler: {
        processWindow: (records, { state, isFinal, startAt, endAt }) => ({
          count: ((state as { count?: number } | undefined)?.count ?? 0) + records.length,
          isFinal,
          lengthMs: endAt - startAt,
        }),
      },
    });
    const window = { start: '2026-01-01T00:00:00Z', end: '2026-01-01T00:01:00Z' };
    const first = await handle({ ...event([[0, 1], [2]]), window, state: {} });
    expect(first).toEqual({
      batchItemFailures: [],
      state: { count: 3, isFinal: false, lengthMs: 60_000 },
    });
    const last = {
      Records: [],
      window,
      state: first.state,
      shardId: SHARD,
      isFinalInvokeForWindow: true,
    };
    expect(await handle(last)).toMatchObject({ state: { count: 3, isFinal: true } });
  });

  it('refuses options it does not know, and asks how failures are reported', () => {
    const handler = { processRecord: () => {} };
    expect(() => createLambdaHandler({ handler } as never)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', limit: 'true, false' }),
    );
    expect(() =>
      createLambdaHandler({ handler, reportsBatchItemFailures: true, concurency: 2 } as never),
    ).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', value: 'concurency' }));
  });
});
