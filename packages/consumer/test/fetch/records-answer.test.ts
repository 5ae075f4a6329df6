import type { KinesisClient } from '@aws-sdk/client-kinesis';
import { systemClock } from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { KinesisReadClient } from '../../src/fetch/kinesis-read-client.js';
import { type RecordsAnswer, RecordsParser } from '../../src/fetch/records-answer.js';

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

/** Parses a text that comes in pieces of a size. */
function parse(text: string, chunkBytes = Infinity): RecordsAnswer {
  const body = Buffer.from(text);
  const parser = new RecordsParser();
  for (let at = 0; at < body.length; at += chunkBytes) {
    parser.push(body.subarray(at, Math.min(at + chunkBytes, body.length)));
    if (parser.isDue) parser.cut();
  }
  return parser.finish();
}

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

describe('RecordsParser', () => {
  it('gives what the JSON says, whatever stands in keys, however it is spaced and cut', () => {
    const anyChunkBytes = fc.constantFrom(1, 2, 7, 64, 1_000, Infinity);
    fc.assert(
      fc.property(anyAnswer, fc.constantFrom(0, 2), anyChunkBytes, (answer, spaces, chunkBytes) => {
        const wire = {
          ...answer,
          Records: answer.Records.map(({ Data, ...rest }) => ({
            ...rest,
            Data: Buffer.from(Data).toString('base64'),
          })),
        };
        const parsed = parse(JSON.stringify(wire, undefined, spaces), chunkBytes);
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

  it('cuts as it comes in, in the middle of records or between them', () => {
    const data = Array.from({ length: 60 }, (_, index) => Buffer.alloc(30_000, index));
    const records = data.map((each, index) => ({
      PartitionKey: `ключ "${index}"`,
      Data: each.toString('base64'),
    }));
    const text = JSON.stringify({ MillisBehindLatest: 7, Records: records });
    for (const chunkBytes of [999, 65_536, 700_000]) {
      const parsed = parse(text, chunkBytes);
      expect(parsed.Records).toHaveLength(data.length);
      // Byte by byte a matcher takes seconds.
      const isEqual = parsed.Records.map(({ Data }, index) => Data && data[index]?.equals(Data));
      expect(isEqual).toEqual(data.map(() => true));
      expect(parsed.Records.at(-1)?.PartitionKey).toBe('ключ "59"');
      expect(parsed.MillisBehindLatest).toBe(7);
    }
  });

  it('takes answers written in other ways, too', () => {
    const data = Buffer.from([251, 255, 254]);
    const escaped = `{"Records":[{"Data":"${data.toString('base64').replaceAll('/', '\\/')}","SequenceNumber":"1"}]}`;
    expect(escaped).toContain('\\/');
    expect(parse(escaped).Records[0]?.Data).toEqual(data);
    expect(parse('{}').Records).toEqual([]);
    // The first are cut out before it turns out that another is not as usual.
    const mixed = JSON.stringify({
      Records: [{ Data: 'AAAA' }, { Data: 'AQ==' }, { Data: 'escaped' }, { Data: 'BBBB' }],
    }).replace('escaped', 'AA\\/A');
    expect(parse(mixed, 20).Records.map(({ Data }) => Data)).toEqual(
      ['AAAA', 'AQ==', 'AA/A', 'BBBB'].map((text) => Buffer.from(text, 'base64')),
    );
    const elsewhere = '{"Records":[{"SequenceNumber":"1"}],"Other":{"Data":"AAAA"}}';
    expect(parse(elsewhere).Records[0]?.SequenceNumber).toBe('1');
  });

  it('throws what the JSON parser throws for anything else', () => {
    for (const text of ['', '{"Records":[{"Data":"', '{"Records":[{"Data":"AAAA"}', 'null of it']) {
      expect(() => parse(text)).toThrow(SyntaxError);
    }
  });
});
