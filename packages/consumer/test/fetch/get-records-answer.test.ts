import type { KinesisClient } from '@aws-sdk/client-kinesis';
import { systemClock } from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { parseGetRecords } from '../../src/fetch/get-records-answer.js';
import { KinesisReadClient } from '../../src/fetch/kinesis-read-client.js';

const anyRecord = fc.record({
  Data: fc.uint8Array({ maxLength: 200 }),
  PartitionKey: fc.oneof(
    fc.string({ minLength: 1 }),
    fc.string({ unit: 'binary', minLength: 1 }),
    fc.constantFrom('"Data":"x"', '","Data":"AAAA', '\\', '"', 'ключ'),
  ),
  SequenceNumber: fc.bigInt({ min: 0n, max: 2n ** 186n }).map(String),
  ApproximateArrivalTimestamp: fc
    .integer({ min: 0, max: 4_000_000_000_000 })
    .map((ms) => ms / 1_000),
});

const anyAnswer = fc.record(
  {
    NextShardIterator: fc.string(),
    MillisBehindLatest: fc.nat(),
    Records: fc.array(anyRecord, { maxLength: 20 }),
  },
  { requiredKeys: ['Records'] },
);

it('takes the answer of a client that answers by itself, and is no end of a shard', async () => {
  const port = new KinesisReadClient({
    stream: { name: 'orders', arn: undefined },
    wire: 'lean',
    client: {
      send: () =>
        Promise.resolve({
          Records: [{ SequenceNumber: '1', Data: Buffer.from('x') }],
          NextShardIterator: 'next',
        }),
    } as unknown as KinesisClient,
    clock: systemClock,
    random: Math.random,
  });
  const answered = await port.getRecords('iterator', new AbortController().signal);
  expect(answered).toMatchObject({ records: [{ SequenceNumber: '1' }], nextIterator: 'next' });
});

describe('parseGetRecords', () => {
  it('gives what the JSON says, whatever stands in keys, however it is spaced', () => {
    fc.assert(
      fc.property(anyAnswer, fc.constantFrom(0, 2), (answer, spaces) => {
        const wire = {
          ...answer,
          Records: answer.Records.map(({ Data, ...rest }) => ({
            ...rest,
            Data: Buffer.from(Data).toString('base64'),
          })),
        };
        const parsed = parseGetRecords(Buffer.from(JSON.stringify(wire, undefined, spaces)));
        expect(parsed).toEqual({
          ...answer,
          Records: answer.Records.map((record) => ({
            ...record,
            Data: Buffer.from(record.Data),
            ApproximateArrivalTimestamp: new Date(
              Math.round(record.ApproximateArrivalTimestamp * 1_000),
            ),
          })),
        });
      }),
    );
  });

  it('takes answers written in other ways, too', () => {
    const data = Buffer.from([251, 255, 254]);
    const escaped = `{"Records":[{"Data":"${data.toString('base64').replaceAll('/', '\\/')}","SequenceNumber":"1"}]}`;
    expect(escaped).toContain('\\/');
    expect(parseGetRecords(Buffer.from(escaped)).Records[0]?.Data).toEqual(data);
    expect(parseGetRecords(Buffer.from('{}')).Records).toEqual([]);
    const elsewhere = '{"Records":[{"SequenceNumber":"1"}],"Other":{"Data":"AAAA"}}';
    expect(parseGetRecords(Buffer.from(elsewhere)).Records[0]?.SequenceNumber).toBe('1');
  });

  it('throws what the JSON parser throws for anything else', () => {
    for (const text of ['', '{"Records":[{"Data":"', '{"Records":[{"Data":"AAAA"}', 'null of it']) {
      expect(() => parseGetRecords(Buffer.from(text))).toThrow(SyntaxError);
    }
  });
});
