import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

import {
  Producer,
  type ProducerOptions,
  PutError,
  type PutOutcome,
  type PutReceipt,
} from '@shardline/producer';
import { decodeRecords, hashKeyOf, sealEnvelope } from '@shardline/shared';
import { ManualClock, seededRandom, settle } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { FakePort, foreignAggregate, serviceError, split } from './fake-port.js';
import { finish, setup } from './setup.js';

const keys = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `key-${index}`);

describe('Producer', () => {
  it('sends a lone record at once, as it is', async () => {
    const { clock, port, producer } = setup();
    const receipt = producer.put({ partitionKey: 'k', data: 'hello' });
    await settle();
    expect(port.requests).toMatchObject([
      {
        atMs: 0,
        entries: [{ partitionKey: 'k', explicitHashKey: undefined, payload: Buffer.from('hello') }],
      },
    ]);
    expect(await finish(clock, receipt)).toMatchObject({
      sequenceNumber: '1',
      subSequenceNumber: undefined,
      attempts: [{ durationMs: 10, error: undefined }],
    });
  });

  it('puts records that come together into one Kinesis record a shard, in one request', async () => {
    const { clock, port, producer } = setup();
    const receipts = await finish(
      clock,
      Promise.all(keys(100).map((key) => producer.put({ partitionKey: key, data: 'x' }))),
    );
    expect(port.requests).toHaveLength(1);
    expect(port.requests[0]?.entries).toHaveLength(2);
    for (const shardId of ['shard-0', 'shard-1']) {
      const positions = receipts
        .filter((receipt) => receipt.shardId === shardId)
        .map(({ subSequenceNumber }) => subSequenceNumber);
      expect(positions).toEqual([...positions.keys()]);
    }
    expect([...port.stored.values()].flat().sort()).toEqual(
      keys(100)
        .map((key) => `${key}=x`)
        .sort(),
    );
  });

  it('lets a request grow while one is in flight, for lingerMs at most', async () => {
    const { clock, port, producer } = setup({ lingerMs: 30 });
    port.latencyMs = 1_000;
    void producer.put({ partitionKey: 'k', data: '0' });
    await settle();
    for (let index = 1; index <= 5; index += 1) {
      void producer.put({ partitionKey: 'k', data: String(index) });
      await clock.advance(5);
    }
    expect(port.requests).toHaveLength(1);
    await clock.advance(5);
    expect(port.requests.map(({ atMs }) => atMs)).toEqual([0, 30]);
    expect(decodeRecords([{ Data: port.requests[1]?.entries[0]?.payload }])).toHaveLength(5);
    await finish(clock, producer.close());
  });

  it('never sends more than 500 entries or an aggregate above its limit', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 3_000 }), { minLength: 1, maxLength: 300 }),
        fc.integer({ min: 64, max: 4_000 }),
        async (sizes, aggregationMaxBytes) => {
          const { clock, port, producer } = setup({ aggregationMaxBytes }, 4);
          const puts = sizes.map((size, index) =>
            producer.put({ partitionKey: `key-${index}`, data: Buffer.alloc(size, index) }),
          );
          await finish(clock, Promise.all(puts));
          let seen = 0;
          for (const { entries } of port.requests) {
            expect(entries.length).toBeLessThanOrEqual(500);
            for (const { payload, partitionKey } of entries) {
              const records = decodeRecords([{ Data: payload }]);
              seen += records.length;
              const bytes = payload.length + Buffer.byteLength(partitionKey);
              expect(records.length === 1 || bytes <= aggregationMaxBytes).toBe(true);
            }
          }
          expect(seen).toBe(sizes.length);
          await producer.close();
          expect(clock.pending).toBe(0);
        },
      ),
      { numRuns: 30 },
    );
  });

  it('wraps data that could be taken for an aggregate or an envelope, so that readers give it back', async () => {
    const look = [foreignAggregate(), await sealEnvelope(Buffer.from('inner'), 'gzip', 'data')];
    for (const aggregation of [true, false]) {
      for (const data of look) {
        const { clock, port, producer } = setup({ aggregation });
        await finish(clock, producer.put({ partitionKey: 'k', data }));
        const payload = port.requests[0]?.entries[0]?.payload;
        expect(decodeRecords([{ Data: payload }])).toMatchObject([{ data }]);
        expect(payload).not.toEqual(data);
      }
    }
  });

  it('puts one record in each Kinesis record where aggregation is off', async () => {
    const { clock, port, producer } = setup({ aggregation: false });
    await finish(
      clock,
      Promise.all(keys(20).map((key) => producer.put({ partitionKey: key, data: key }))),
    );
    expect(port.requests.flatMap(({ entries }) => entries)).toHaveLength(20);
  });

  it.each(['gzip', 'deflate', 'brotli'] as const)(
    'compresses with %s what shrinks, and fills larger aggregates',
    async (compression) => {
      const { clock, port, producer } = setup({ compression, aggregationMaxBytes: 5_000 }, 1);
      const line = (index: number): string =>
        `2026-01-01 GET /orders/${index} 200 in ${index % 7} ms `.repeat(3);
      for (let round = 0; round < 6; round += 1) {
        const puts = keys(200).map((key, index) =>
          producer.put({ partitionKey: key, data: line(index) }),
        );
        await finish(clock, Promise.all(puts));
      }
      const { compression: bytes, kinesisBytes, userBytes } = producer.stats();
      expect(bytes.sealedBytes).toBeLessThan(bytes.rawBytes / 2);
      expect(kinesisBytes).toBeLessThan(userBytes / 2);
      const entries = port.requests.flatMap((request) => request.entries);
      const perEntry = entries.map(({ payload }) => decodeRecords([{ Data: payload }]).length);
      expect(Math.max(...perEntry)).toBeGreaterThan(60);
      expect([...port.stored.values()].flat()).toHaveLength(1_200);
      await producer.close();
    },
  );

  it('sends what does not shrink as it is', async () => {
    const { clock, port, producer } = setup({ compression: 'brotli' });
    const random = seededRandom(3);
    const noise = Buffer.from(Array.from({ length: 2_000 }, () => Math.floor(random() * 256)));
    await finish(clock, producer.put({ partitionKey: 'k', data: noise }));
    expect(port.requests[0]?.entries[0]?.payload).toEqual(noise);
  });

  it('keeps a copy of the data of a record that waits for room, too', async () => {
    const { clock, port, producer } = setup({ maxBufferRecords: 1 });
    const data = Buffer.from('as it was put');
    const puts = [1, 2, 3].map((number) => producer.put({ partitionKey: `k${number}`, data }));
    data.fill('x');
    await finish(clock, Promise.all(puts));
    const texts = [...port.stored.values()].flat().map((text) => text.slice(3));
    expect(texts).toEqual(['as it was put', 'as it was put', 'as it was put']);
  });

  it('keeps a copy of the data: the caller may reuse its buffer', async () => {
    const { clock, port, producer } = setup({ lingerMs: 20 });
    const buffer = Buffer.from('one');
    const puts = [producer.put({ partitionKey: 'k', data: buffer })];
    buffer.write('two');
    puts.push(producer.put({ partitionKey: 'k', data: buffer }));
    buffer.write('xxx');
    await finish(clock, Promise.all(puts));
    expect(port.readableByKey().get('k')).toEqual(['one', 'two']);
  });

  it('stores what was put though the memory of what was stored is used again, through every failure', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        const random = seededRandom(seed);
        const { clock, port, producer } = setup(
          { aggregationMaxBytes: 1_024, recordTtlMs: 600_000, requestTimeoutMs: 300, random },
          3,
        );
        port.answer = () => (random() < 0.2 ? 'InternalFailure' : undefined);
        const puts: Promise<PutReceipt>[] = [];
        const expected: string[] = [];
        for (let index = 0; index < 200; index += 1) {
          if (random() < 0.03) port.failures.push(serviceError('ServiceUnavailable'));
          if (random() < 0.02) port.shards = split(port.shards, 0, [`${index}-a`, `${index}-b`]);
          port.latencyMs = random() < 0.05 ? 1_000 : 20;
          const data = `${index}:`.padEnd(50 + random() * 300, `${index} `);
          puts.push(producer.put({ partitionKey: `key-${index % 40}`, data }));
          expected.push(`key-${index % 40}=${data}`);
          if (random() < 0.1) await clock.advance(random() * 100);
        }
        port.latencyMs = 20;
        await finish(clock, Promise.all(puts));
        expect(new Set([...port.stored.values()].flat())).toEqual(new Set(expected));
        await finish(clock, producer.close());
      }),
      { numRuns: 40 },
    );
  });

  it('settles every record though a callback throws', async () => {
    const warnings: string[] = [];
    const warn = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', warn);
    const fail = (): never => {
      throw new Error('mine');
    };
    const { clock, port, producer } = setup({ onOutcome: fail, onUndeliverable: fail });
    port.answer = () => 'ValidationException';
    producer.offer({ partitionKey: 'a', data: '1' });
    const put = producer.put({ partitionKey: 'b', data: '2' });
    await expect(finish(clock, put)).rejects.toMatchObject({ name: 'PutError' });
    await finish(clock, producer.close());
    expect(producer.stats()).toMatchObject({ bufferedRecords: 0, userRecordsFailed: 2 });
    await new Promise(setImmediate);
    process.off('warning', warn);
    expect(warnings).toEqual(
      expect.arrayContaining([
        '`onUndeliverable` threw Error: mine',
        '`onOutcome` threw Error: mine',
      ]),
    );
  });

  it('hands over records that turn out too large for the stream', async () => {
    const given: string[] = [];
    const { clock, port, producer } = setup({
      maxBufferBytes: 4_000_000,
      onUndeliverable: (records) => given.push(...records.map(({ partitionKey }) => partitionKey)),
    });
    port.maxRecordBytes = 1_000;
    const put = producer.put({ partitionKey: 'k', data: Buffer.alloc(2_000) });
    await expect(finish(clock, put)).rejects.toMatchObject({ code: 'RECORD_TOO_LARGE' });
    expect(given).toEqual(['k']);
  });

  describe('when the service refuses', () => {
    it('sends only the refused entries again, later, until they are stored', async () => {
      const { clock, port, producer } = setup({}, 4);
      let refusals = 3;
      port.answer = (_, index) =>
        index === 1 && refusals-- > 0 ? 'ProvisionedThroughputExceededException' : undefined;
      const receipts = await finish(
        clock,
        Promise.all(keys(40).map((key) => producer.put({ partitionKey: key, data: 'x' }))),
      );
      expect(port.requests[0]?.entries).toHaveLength(4);
      expect(port.requests[1]?.entries).toHaveLength(1);
      expect([...port.stored.values()].flat()).toHaveLength(40);
      const refused = receipts.filter(({ attempts }) => attempts.length > 1);
      expect(refused.length).toBeGreaterThan(0);
      expect(refused[0]?.attempts.map(({ error }) => error)).toEqual([
        'ProvisionedThroughputExceededException',
        undefined,
      ]);
      expect(producer.stats().throttledEntries).toBe(1);
    });

    it('backs off a shard exponentially and lets the others go on', async () => {
      const { clock, port, producer } = setup({ recordTtlMs: 20_000 }, 2);
      port.answer = ({ explicitHashKey }) =>
        explicitHashKey === '0' ? 'ProvisionedThroughputExceededException' : undefined;
      const hot = producer.put({ partitionKey: 'hot', explicitHashKey: '0', data: 'x' });
      hot.catch(() => {});
      await settle();
      for (let index = 0; index < 50; index += 1) {
        const cold = producer.put({
          partitionKey: 'cold',
          explicitHashKey: (2n ** 127n).toString(),
          data: 'x',
        });
        await clock.advance(60);
        expect(await cold).toMatchObject({ shardId: 'shard-1' });
      }
      const tries = port.requests.filter(({ entries }) =>
        entries.some(({ explicitHashKey }) => explicitHashKey === '0'),
      );
      expect(tries.length).toBeGreaterThan(3);
      expect(tries.length).toBeLessThan(30);
      await finish(clock, producer.close());
    });

    it('gives a record up when its time is over, telling what was tried', async () => {
      const { clock, port, producer } = setup({ recordTtlMs: 1_000 });
      port.answer = () => 'InternalFailure';
      const error = await finish(
        clock,
        producer.put({ partitionKey: 'k', data: 'x' }).catch((reason: unknown) => reason),
      );
      expect(error).toBeInstanceOf(PutError);
      expect(error).toMatchObject({
        code: 'RECORD_EXPIRED',
        retryable: true,
        value: 'InternalFailure',
      });
      expect((error as PutError).attempts.length).toBeGreaterThan(1);
      expect(clock.monotonicMs()).toBeLessThan(1_200);
    });

    it.each([
      ['ResourceNotFoundException', 'STREAM_NOT_FOUND'],
      ['AccessDeniedException', 'ACCESS_DENIED'],
      ['KMSNotFoundException', 'SERVICE_REJECTED'],
    ])('fails at once on %s', async (name, code) => {
      const { clock, port, producer } = setup();
      port.failures.push(serviceError(name));
      await expect(
        finish(clock, producer.put({ partitionKey: 'k', data: 'x' })),
      ).rejects.toMatchObject({
        code,
        value: name,
        attempts: [{ error: name }],
      });
      expect(port.requests).toHaveLength(1);
    });

    it('tries refreshed credentials once', async () => {
      const { clock, port, producer } = setup();
      port.failures.push(serviceError('ExpiredTokenException'));
      await finish(clock, producer.put({ partitionKey: 'k', data: 'x' }));
      port.failures.push(
        serviceError('ExpiredTokenException'),
        serviceError('ExpiredTokenException'),
      );
      await expect(
        finish(clock, producer.put({ partitionKey: 'k', data: 'x' })),
      ).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    });

    it('finds the one poisonous record and delivers its neighbours', async () => {
      const { clock, port, producer } = setup({}, 4);
      const original = port.putRecords.bind(port);
      port.putRecords = (entries, signal) => {
        const isPoisoned = decodeRecords(entries.map(({ payload }) => ({ Data: payload }))).some(
          ({ data }) => data.toString() === 'poison',
        );
        return isPoisoned
          ? Promise.reject(serviceError('ValidationException'))
          : original(entries, signal);
      };
      const results = await finish(
        clock,
        producer.putMany(
          keys(60).map((key, index) => ({
            partitionKey: key,
            data: index === 33 ? 'poison' : 'fine',
          })),
        ),
      );
      const failed = results.flatMap((result, index) =>
        result.status === 'rejected' ? [index] : [],
      );
      expect(failed).toEqual([33]);
      expect(results[33]).toMatchObject({
        reason: { code: 'SERVICE_REJECTED', value: 'ValidationException' },
      });
      expect([...port.stored.values()].flat()).toHaveLength(59);
    });

    it('settles many as one by one, those included that were never sent', async () => {
      const { clock, port, producer } = setup({}, 2);
      port.answer = ({ partitionKey }) => (partitionKey === 'k1' ? 'Whatever' : undefined);
      const bad = { partitionKey: '', data: 'x' };
      const good = { partitionKey: 'k2', data: 'y' };
      const many = producer.putMany([good, bad, good]);
      const [first, second, third] = await finish(clock, many);
      expect(first).toMatchObject({ status: 'fulfilled', value: { shardId: expect.any(String) } });
      expect(second).toMatchObject({ status: 'rejected', reason: { code: 'INVALID_RECORD' } });
      expect(third).toMatchObject({ status: 'fulfilled', value: { subSequenceNumber: 1 } });
      expect(await producer.putMany([])).toEqual([]);
      const aborted = AbortSignal.abort(new Error('changed my mind'));
      expect(await producer.putMany([good], { signal: aborted })).toEqual([
        { status: 'rejected', reason: new Error('changed my mind') },
      ]);
      await finish(clock, producer.close());
      expect(await producer.putMany([good])).toMatchObject([{ reason: { code: 'CLOSED' } }]);
    });

    it('asks for the next of many records when there is room for the one before', async () => {
      const { clock, producer } = setup({ maxBufferRecords: 10 });
      await finish(clock, producer.put({ partitionKey: 'first', data: 'x' }));
      let asked = 0;
      const records = function* (): Generator<{ partitionKey: string; data: string }> {
        for (; asked < 100; asked += 1) yield { partitionKey: `k${asked}`, data: 'x' };
      };
      const many = producer.putMany(records());
      // Ten are in, and one waits.
      expect(asked).toBe(10);
      const results = await finish(clock, many);
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(100);
    });

    it('lets those before it be stored when asking for the next of many throws', async () => {
      const { clock, port, producer } = setup();
      const records = function* (): Generator<{ partitionKey: string; data: string }> {
        yield { partitionKey: 'k', data: 'before' };
        throw new Error('the source broke');
      };
      await expect(producer.putMany(records())).rejects.toThrow('the source broke');
      await finish(clock, producer.close());
      expect([...port.stored.values()].flat()).toEqual(['k=before']);
    });

    it('cuts a request that hangs, and sends it again', async () => {
      const { clock, port, producer } = setup({ requestTimeoutMs: 500 });
      port.latencyMs = 100_000;
      const put = producer.put({ partitionKey: 'k', data: 'x' });
      await clock.advance(400);
      port.latencyMs = 10;
      expect(await finish(clock, put)).toMatchObject({
        attempts: [{ error: 'TimeoutError', durationMs: 500 }, { error: undefined }],
      });
    });

    it('settles every record exactly once, whatever the service answers', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.integer(),
          fc.constantFrom('none' as const, 'strict' as const),
          async (seed, ordering) => {
            const random = seededRandom(seed);
            const { clock, port, producer } = setup(
              { ordering, recordTtlMs: 3_000, requestTimeoutMs: 200, random },
              3,
            );
            const errors = [
              'ProvisionedThroughputExceededException',
              'InternalFailure',
              'KMSDisabledException',
              'Odd',
            ];
            port.answer = () =>
              random() < 0.4 ? errors[Math.floor(random() * errors.length)] : undefined;
            let settled = 0;
            const puts: Promise<unknown>[] = [];
            for (let index = 0; index < 60; index += 1) {
              if (random() < 0.1)
                port.failures.push(
                  serviceError(random() < 0.5 ? 'ServiceUnavailable' : 'ValidationException'),
                );
              if (random() < 0.05)
                port.shards = split(port.shards, 0, [`${index}-a`, `${index}-b`]);
              port.latencyMs = random() < 0.1 ? 1_000 : 20;
              const put = producer.put({ partitionKey: `key-${index % 9}`, data: String(index) });
              puts.push(
                put.then(
                  () => (settled += 1),
                  () => (settled += 1),
                ),
              );
              if (random() < 0.5) await clock.advance(random() * 40);
            }
            await finish(clock, Promise.all(puts));
            expect(settled).toBe(60);
            const { userRecordsDelivered, userRecordsFailed, bufferedRecords, bufferedBytes } =
              producer.stats();
            expect(userRecordsDelivered + userRecordsFailed).toBe(60);
            expect([bufferedRecords, bufferedBytes]).toEqual([0, 0]);
            await finish(clock, producer.close());
            expect(clock.pending).toBe(0);
          },
        ),
        { numRuns: 25 },
      );
    });
  });

  describe('with pacing', () => {
    it("stays within a shard's quota from a cold start", async () => {
      const { clock, port, producer } = setup({ aggregation: false, recordTtlMs: 60_000 }, 1);
      void producer.putMany(keys(5_000).map((key) => ({ partitionKey: key, data: 'x' })));
      await clock.advance(1_000);
      const sent = port.requests.reduce((sum, { entries }) => sum + entries.length, 0);
      expect(sent).toBeLessThanOrEqual(1_101);
      expect(sent).toBeGreaterThan(900);
      await finish(clock, producer.flush());
      await producer.close();
    });
  });

  describe('when the stream is resharded', () => {
    const expectEveryKeyOnce = (port: FakePort, count: number): void => {
      const read = port.readableByKey();
      expect([...read.keys()].sort()).toEqual(keys(count).sort());
      for (const values of read.values()) expect(values).toEqual(['x']);
    };

    it('sends an aggregate again if one of its records lies outside the shard it landed on', async () => {
      const { clock, port, producer } = setup({}, 2);
      await finish(clock, producer.put({ partitionKey: 'warm-up', data: 'y' }));
      port.shards = split(port.shards, 0, ['child-a', 'child-b']);
      await finish(
        clock,
        Promise.all(keys(200).map((key) => producer.put({ partitionKey: key, data: 'x' }))),
      );
      const read = port.readableByKey();
      read.delete('warm-up');
      expect([...read.keys()].sort()).toEqual(keys(200).sort());
      for (const values of read.values()) expect(values).toEqual(['x']);
      expect(producer.stats().resentEntries).toBe(1);
      expect(port.describeCalls).toBe(2);
    });

    it('takes an aggregate as stored if all its records lie inside, as after a merge', async () => {
      const { clock, port, producer } = setup({}, 2);
      port.listed = port.shards;
      await finish(clock, producer.put({ partitionKey: 'warm-up', data: 'y' }));
      port.listed = undefined;
      port.shards = [{ shardId: 'merged', range: { start: 0n, end: 2n ** 128n - 1n } }];
      await finish(
        clock,
        Promise.all(keys(100).map((key) => producer.put({ partitionKey: key, data: 'x' }))),
      );
      expect(port.stored.get('merged')).toHaveLength(100);
      expect(producer.stats().resentEntries).toBe(0);
    });

    it('moves what waits for a closed shard to its children', async () => {
      const { clock, port, producer } = setup({}, 1);
      port.answer = () => 'ProvisionedThroughputExceededException';
      const puts = Promise.all(
        keys(100).map((key) => producer.put({ partitionKey: key, data: 'x' })),
      );
      await clock.advance(50);
      port.shards = split(port.shards, 0, ['child-a', 'child-b']);
      port.answer = () => undefined;
      await finish(clock, puts);
      expectEveryKeyOnce(port, 100);
    });
  });

  describe('with strict order', () => {
    it('holds records back from a child while the closed parent may still hold earlier ones', async () => {
      const { clock, port, producer } = setup({ ordering: 'strict', shardMapMaxAgeMs: 1_000 }, 2);
      const last = (2n ** 128n - 1n).toString();
      await finish(
        clock,
        producer.put({ partitionKey: 'other', explicitHashKey: last, data: '0' }),
      );
      port.latencyMs = 2_000;
      port.answer = ({ payload }) =>
        Buffer.from(payload).toString() === '1' ? 'InternalFailure' : undefined;
      const first = producer.put({ partitionKey: 'k', explicitHashKey: '0', data: '1' });
      await clock.advance(1_100);
      port.latencyMs = 10;
      port.shards = split(port.shards, 0, ['child-a', 'child-b']);
      // An old map is looked at again while the parent's request is in flight.
      await finish(
        clock,
        producer.put({ partitionKey: 'other', explicitHashKey: last, data: '2' }),
      );
      const second = producer.put({ partitionKey: 'k', explicitHashKey: '0', data: '3' });
      await clock.advance(200);
      expect(port.readableByKey().get('k')).toBeUndefined();
      await clock.advance(700);
      port.answer = () => undefined;
      await finish(clock, Promise.all([first, second]));
      expect(port.readableByKey().get('k')).toEqual(['1', '3']);
    });

    it('stores the records of a key in the order of put, through every failure and reshard', async () => {
      await fc.assert(
        fc.asyncProperty(fc.integer(), async (seed) => {
          const random = seededRandom(seed);
          const { clock, port, producer } = setup(
            {
              ordering: 'strict',
              recordTtlMs: 600_000,
              requestTimeoutMs: 300,
              random,
              shardMapMaxAgeMs: 1_000,
            },
            3,
          );
          port.answer = () => (random() < 0.3 ? 'InternalFailure' : undefined);
          const puts: Promise<PutReceipt>[] = [];
          for (let index = 0; index < 120; index += 1) {
            if (random() < 0.05) port.failures.push(serviceError('ServiceUnavailable'));
            if (random() < 0.06) {
              port.shards = split(port.shards, Math.floor(random() * port.shards.length), [
                `${index}-a`,
                `${index}-b`,
              ]);
            }
            puts.push(producer.put({ partitionKey: `key-${index % 5}`, data: String(index) }));
            if (random() < 0.4) await clock.advance(random() * 50);
          }
          await finish(clock, Promise.all(puts));
          for (const [key, values] of port.readableByKey()) {
            const expected = Array.from({ length: 120 }, (_, index) => index).filter(
              (index) => `key-${index % 5}` === key,
            );
            expect(values.map(Number)).toEqual(expected);
          }
          await finish(clock, producer.close());
        }),
        { numRuns: 40 },
      );
    });
  });

  it('lets aggregates grow for lingerMs where there are more than a request takes', async () => {
    const { clock, port, producer } = setup({ lingerMs: 30 }, 2_000);
    await finish(clock, producer.put({ partitionKey: 'first', data: 'x' }));
    const startedMs = clock.monotonicMs();
    const before = port.requests.length;
    const puts: Promise<unknown>[] = [];
    for (let round = 0; round < 5; round += 1) {
      puts.push(...keys(1_500).map((partitionKey) => producer.put({ partitionKey, data: 'x' })));
      await clock.advance(5);
    }
    expect(port.requests).toHaveLength(before);
    await finish(clock, Promise.all(puts));
    const requests = port.requests.slice(before);
    expect(requests[0]?.atMs).toBe(startedMs + 30);
    // All rounds share the aggregates of the first.
    const width = 2n ** 128n / 2_000n;
    const shards = new Set(keys(1_500).map((key) => hashKeyOf(key) / width)).size;
    expect(shards).toBeGreaterThan(500);
    expect(requests.flatMap(({ entries }) => entries)).toHaveLength(shards);
  });

  it.each([
    ['of many bytes', 100, 2 ** 18],
    ['of many records', 5_000, 1],
  ])(
    'begins one request %s a turn of the event loop, and several in all',
    async (_, count, bytes) => {
      const { clock, port, producer } = setup({ aggregation: false, onOutcome: () => {} }, 40);
      await finish(clock, producer.put({ partitionKey: 'first', data: 'x' }));
      const data = Buffer.alloc(bytes);
      for (const partitionKey of keys(count)) producer.offer({ partitionKey, data });
      void producer.flush();
      const before = port.requests.length;
      for (let microtask = 0; microtask < 20; microtask += 1) await Promise.resolve();
      expect(port.requests.length - before).toBe(1);
      await new Promise((resolve) => setImmediate(resolve));
      await new Promise((resolve) => setImmediate(resolve));
      expect(port.requests.length - before).toBeGreaterThan(1);
      await finish(clock, producer.close());
    },
  );

  describe('with a full buffer', () => {
    it('makes put wait and offer say no, within the bytes allowed', async () => {
      const outcomes: PutOutcome[] = [];
      const { clock, producer } = setup({
        maxBufferBytes: 1_024,
        onOutcome: (outcome) => outcomes.push(outcome),
      });
      const record = { partitionKey: 'k', data: Buffer.alloc(500) };
      expect([producer.offer(record), producer.offer(record), producer.offer(record)]).toEqual([
        true,
        true,
        false,
      ]);
      expect(producer.stats().bufferedBytes).toBe(1_002);
      const drained = producer.drain();
      await finish(clock, drained);
      expect(producer.offer(record)).toBe(true);
      const waiting = producer.put({ partitionKey: 'k', data: Buffer.alloc(600) });
      await finish(clock, waiting);
      await finish(clock, producer.close());
      expect(outcomes.reduce((sum, { userRecords }) => sum + userRecords, 0)).toBe(3);
    });

    it('drains to room for some records more than the one that was refused', async () => {
      const { clock, port, producer } = setup({ maxBufferRecords: 80, onOutcome: () => {} });
      port.latencyMs = 100;
      await finish(clock, producer.put({ partitionKey: 'first', data: 'x' }));
      const record = { partitionKey: 'k', data: 'x' };
      let offered = 0;
      while (producer.offer(record)) offered += 1;
      expect(offered).toBe(80);
      await finish(clock, producer.drain());
      const again = Array.from({ length: 10 }, () => producer.offer(record));
      expect(again).toEqual(again.map(() => true));
      await finish(clock, producer.close());
    });

    it('bounds the number of records too', async () => {
      const { clock, producer } = setup({ maxBufferRecords: 2 });
      const puts = keys(5).map((key) => producer.put({ partitionKey: key, data: 'x' }));
      await settle();
      expect(producer.stats().bufferedRecords).toBe(2);
      await finish(clock, Promise.all(puts));
    });

    it('lets many puts wait without a warning of the process', async () => {
      const warnings: string[] = [];
      const onWarning = ({ name }: Error): number => warnings.push(name);
      process.on('warning', onWarning);
      const { clock, producer } = setup({ maxBufferRecords: 2 });
      const { signal } = new AbortController();
      const puts = keys(50).map((key, index) =>
        producer.put({ partitionKey: key, data: 'x' }, index % 2 === 0 ? { signal } : undefined),
      );
      await finish(clock, Promise.all(puts));
      await new Promise((resolve) => setImmediate(resolve));
      process.off('warning', onWarning);
      expect(warnings).toEqual([]);
    });

    it('lets nobody pass a put that waits', async () => {
      const data = (name: string, bytes: number): string => name.padEnd(bytes);
      let offered = false;
      const { clock, port, producer } = setup(
        {
          maxBufferBytes: 1_024,
          ordering: 'strict',
          // In the moment in which the put has got its room and has not come to use it.
          onOutcome: () => {
            offered ||= producer.offer({ partitionKey: 'k', data: data('3', 400) });
          },
        },
        1,
      );
      producer.offer({ partitionKey: 'k', data: data('1', 900) });
      await finish(clock, producer.put({ partitionKey: 'k', data: data('2', 400) }));
      await finish(clock, producer.close());
      const stored = port.readableByKey().get('k');
      expect(stored?.map((each) => each.trim())).toEqual(['1', '2', '3']);
    });

    it('refuses a record that no buffer can hold, in place of waiting for ever', () => {
      const { producer } = setup({ maxBufferBytes: 1_024, onOutcome: () => {} });
      expect(() => producer.offer({ partitionKey: 'k', data: Buffer.alloc(1_024) })).toThrow(
        expect.objectContaining({ code: 'RECORD_TOO_LARGE', value: 1_025, limit: 1_024 }),
      );
    });

    it('asks for the shards again for what came in as others were given up', async () => {
      const { clock, port, producer } = setup({ maxBufferRecords: 1 }, 1);
      const describeShards = port.describe.bind(port);
      port.describe = () => {
        port.describe = describeShards;
        return Promise.reject(new Error('not now'));
      };
      const first = producer.put({ partitionKey: 'k', data: '1' });
      const second = producer.put({ partitionKey: 'k', data: '2' });
      await expect(first).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
      await expect(finish(clock, second)).resolves.toMatchObject({ shardId: 'shard-0' });
    });

    it('lets a waiting put be aborted', async () => {
      const { clock, producer } = setup({ maxBufferBytes: 1_024 });
      void producer.put({ partitionKey: 'k', data: Buffer.alloc(1_000) });
      const controller = new AbortController();
      const waiting = producer.put(
        { partitionKey: 'k', data: Buffer.alloc(900) },
        { signal: controller.signal },
      );
      controller.abort(new Error('changed my mind'));
      await expect(waiting).rejects.toThrow('changed my mind');
      await finish(clock, producer.close());
    });

    it('refuses offer where nobody would hear of a failure', () => {
      expect(() => setup().producer.offer({ partitionKey: 'k', data: 'x' })).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION', value: 'onOutcome' }),
      );
    });
  });

  it('flush waits for what was put before it, not for what comes after', async () => {
    const { clock, port, producer } = setup({ lingerMs: 10_000 });
    port.latencyMs = 100;
    const first = producer.put({ partitionKey: 'a', data: '1' });
    await settle();
    const second = producer.put({ partitionKey: 'b', data: '2' });
    let isFlushed = false;
    const flush = producer.flush().then(() => (isFlushed = true));
    await clock.advance(50);
    port.answer = () => 'InternalFailure';
    producer.put({ partitionKey: 'late', data: '3' }).catch(() => {});
    expect(isFlushed).toBe(false);
    port.answer = ({ partitionKey }) => (partitionKey === 'late' ? 'InternalFailure' : undefined);
    await finish(clock, flush);
    await Promise.all([first, second]);
    await finish(clock, producer.close({ timeoutMs: 100 }));
  });

  it('close stores what it has, rejects what it cannot in time, refuses more, and leaves nothing behind', async () => {
    const { clock, port, producer } = setup();
    const good = producer.put({ partitionKey: 'good', data: 'x' });
    await finish(clock, good);
    port.answer = () => 'InternalFailure';
    const bad = producer.put({ partitionKey: 'bad', data: 'x' });
    bad.catch(() => {});
    const closing = producer.close({ timeoutMs: 1_000 });
    expect(producer.close()).toBe(closing);
    await expect(producer.put({ partitionKey: 'k', data: 'x' })).rejects.toMatchObject({
      code: 'CLOSED',
    });
    await finish(clock, closing);
    await expect(bad).rejects.toMatchObject({ code: 'CLOSED' });
    expect(clock.pending).toBe(0);
  });

  it('takes a stream of records with back-pressure and ends when all are stored', async () => {
    const { clock, port, producer } = setup({ maxBufferBytes: 1_024 });
    const source = Readable.from(
      keys(200).map((key) => ({ partitionKey: key, data: Buffer.alloc(50) })),
    );
    await finish(clock, pipeline(source, producer.writable()));
    expect([...port.stored.values()].flat()).toHaveLength(200);
  });

  it('serializes values, finds their keys, and makes a key where there is none', async () => {
    const clock = new ManualClock();
    const port = new FakePort(clock, 1);
    const producer = new Producer<{ readonly id: number }>(
      {
        streamName: 'orders',
        clock,
        serialize: (value) => JSON.stringify(value),
        partitionKey: ({ id }) => `order-${id}`,
      },
      port,
    );
    await finish(clock, producer.put({ data: { id: 7 } }));
    expect(port.requests[0]?.entries[0]).toMatchObject({
      partitionKey: 'order-7',
      payload: Buffer.from('{"id":7}'),
    });
    const keyless = setup();
    await finish(keyless.clock, keyless.producer.put({ data: 'x' }));
    expect(keyless.port.requests[0]?.entries[0]?.partitionKey).toMatch(/^[0-9a-f-]{36}$/);
  });

  describe('with bad input', () => {
    it.each([
      [
        'an empty partition key',
        { partitionKey: '', data: 'x' },
        { code: 'INVALID_RECORD', value: 0, limit: '1 to 256' },
      ],
      [
        'a partition key too long',
        { partitionKey: 'k'.repeat(257), data: 'x' },
        { code: 'INVALID_RECORD', value: 257, unit: 'characters' },
      ],
      [
        'a partition key of another type',
        { partitionKey: 7, data: 'x' },
        { code: 'INVALID_RECORD', value: 'number' },
      ],
      [
        'an explicit hash key too large',
        { partitionKey: 'k', data: 'x', explicitHashKey: String(2n ** 128n) },
        { code: 'INVALID_RECORD' },
      ],
      [
        'data of another type',
        { partitionKey: 'k', data: {} },
        { code: 'INVALID_RECORD', value: 'object' },
      ],
      [
        'a record larger than any stream takes',
        { partitionKey: 'k', data: Buffer.alloc(10 * 2 ** 20) },
        { code: 'RECORD_TOO_LARGE', limit: 10 * 2 ** 20, unit: 'bytes' },
      ],
    ])('refuses %s with a typed error, and loses nothing else', async (_, bad, expected) => {
      const { clock, producer } = setup();
      const good = producer.put({ partitionKey: 'k', data: 'x' });
      await expect(producer.put(bad as { data: string })).rejects.toMatchObject(expected);
      await finish(clock, good);
      expect(producer.stats().bufferedBytes).toBe(0);
    });

    it('refuses a record larger than this stream takes, once it knows the stream', async () => {
      const { clock, producer } = setup();
      const first = producer.put({ partitionKey: 'k', data: Buffer.alloc(2 ** 20) });
      await expect(finish(clock, first)).rejects.toMatchObject({
        code: 'RECORD_TOO_LARGE',
        value: 2 ** 20 + 1,
        limit: 2 ** 20,
      });
      await expect(
        producer.put({ partitionKey: 'k', data: Buffer.alloc(2 ** 20) }),
      ).rejects.toMatchObject({ code: 'RECORD_TOO_LARGE' });
      await finish(clock, producer.put({ partitionKey: 'k', data: Buffer.alloc(2 ** 20 - 1) }));
    });

    it.each([
      [{ streamName: '' }, { limit: '1 to 128 characters of a-z A-Z 0-9 _ . -' }],
      [
        { streamName: 'orders', lingerMs: -1 },
        { limit: '0 to 60000', unit: 'ms' },
      ],
      [{ streamName: 'orders', lingerMS: 5 }, { value: 'lingerMS' }],
      [{ streamName: 'orders', ordering: 'very strict' }, { limit: 'none, strict' }],
      [
        { streamArn: 'arn:aws:sqs:us-east-1:000000000000:orders' },
        { limit: 'the ARN of a stream' },
      ],
      [{}, { code: 'INVALID_OPTION' }],
    ])('refuses options %j', (options, expected) => {
      expect(() => new Producer(options as ProducerOptions)).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION', ...expected }),
      );
    });
  });
});
