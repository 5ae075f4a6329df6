import type { KinesisClient } from '@aws-sdk/client-kinesis';
import { encodeCbor, systemClock } from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { CborRecordsParser } from '../../src/fetch/cbor-records-answer.js';
import { KinesisReadClient } from '../../src/fetch/kinesis-read-client.js';
import {
  JsonRecordsParser,
  type RecordsAnswer,
  type RecordsAnswerParser,
} from '../../src/fetch/records-answer.js';

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

type AnyAnswer = typeof anyAnswer extends fc.Arbitrary<infer Value> ? Value : never;

/** Parses a text that comes in pieces of a size. */
function parse(text: string, chunkBytes = Infinity): RecordsAnswer {
  return parseBody(new JsonRecordsParser(), Buffer.from(text), chunkBytes);
}

function parseBody(
  parser: RecordsAnswerParser,
  body: Buffer,
  chunkBytes = Infinity,
): RecordsAnswer {
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
  const answered = await port.getRecords('iterator', 10, new AbortController().signal);
  expect(answered).toMatchObject({ records: [{ SequenceNumber: '1' }], nextIterator: 'next' });
});

describe('JsonRecordsParser', () => {
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

  it('takes null for what is not there, as the SDK does', () => {
    const record = '{"Data":"AAAA","PartitionKey":null,"ApproximateArrivalTimestamp":null}';
    expect(
      parse(`{"Records":[${record}],"NextShardIterator":null,"ContinuationSequenceNumber":null}`),
    ).toEqual({ Records: [{ Data: Buffer.alloc(3) }] });
  });

  it('throws what the JSON parser throws for anything else', () => {
    for (const text of ['', '{"Records":[{"Data":"', '{"Records":[{"Data":"AAAA"}', 'null of it']) {
      expect(() => parse(text)).toThrow(SyntaxError);
    }
  });
});

describe('CborRecordsParser', () => {
  /** As an answer comes from the service. */
  const wireOf = ({ Records, ...rest }: AnyAnswer) => ({
    ...rest,
    Records: Records.map(({ Data, ApproximateArrivalTimestamp, ...record }) => ({
      ...record,
      Data: Buffer.from(Data),
      ApproximateArrivalTimestamp: new Date(Math.round(ApproximateArrivalTimestamp * 1_000)),
    })),
  });

  it('gives what the CBOR says, however it is cut', () => {
    const anyChunkBytes = fc.constantFrom(1, 2, 7, 64, 1_000, Infinity);
    fc.assert(
      fc.property(anyAnswer, anyChunkBytes, (answer, chunkBytes) => {
        const wire = wireOf(answer);
        expect(parseBody(new CborRecordsParser(), encodeCbor(wire), chunkBytes)).toEqual(wire);
      }),
    );
  });

  it('cuts as it comes in, in the middle of records or between them', () => {
    const data = Array.from({ length: 60 }, (_, index) => Buffer.alloc(40_000, index));
    const body = encodeCbor({ MillisBehindLatest: 7, Records: data.map((Data) => ({ Data })) });
    for (const chunkBytes of [999, 65_536, 700_000]) {
      const parsed = parseBody(new CborRecordsParser(), body, chunkBytes);
      // Byte by byte a matcher takes seconds.
      const isEqual = parsed.Records.map(({ Data }, index) => Data && data[index]?.equals(Data));
      expect(isEqual).toEqual(data.map(() => true));
      expect(parsed.MillisBehindLatest).toBe(7);
    }
  });

  it('takes lengths that are not told, milliseconds without a tag, and members it does not know', () => {
    const text = (value: string): Buffer => encodeCbor(value);
    const body = Buffer.concat([
      Buffer.from('bf', 'hex'),
      text('Records'),
      Buffer.from('9f', 'hex'),
      encodeCbor({
        Data: Buffer.from('x'),
        ApproximateArrivalTimestamp: 1_795_000_000_123,
        EncryptionType: 'NONE',
      }),
      Buffer.from('bf', 'hex'),
      text('SequenceNumber'),
      text('7'),
      Buffer.from('ffff', 'hex'),
      text('Other'),
      encodeCbor([{ Data: Buffer.from('y') }]),
      text('NextShardIterator'),
      text('next'),
      Buffer.from('ff', 'hex'),
    ]);
    for (const chunkBytes of [1, Infinity]) {
      expect(parseBody(new CborRecordsParser(), body, chunkBytes)).toEqual({
        NextShardIterator: 'next',
        Records: [
          { Data: Buffer.from('x'), ApproximateArrivalTimestamp: new Date(1_795_000_000_123) },
          { SequenceNumber: '7' },
        ],
      });
    }
  });

  it('gives what stays as it is when other answers are read', () => {
    const parser = new CborRecordsParser();
    const answer = { Records: [{ Data: Buffer.alloc(50_000, 1) }], NextShardIterator: 'next' };
    const body = encodeCbor(answer);
    const parsed = parseBody(parser, body, 1_000);
    parseBody(new CborRecordsParser(), body.fill(2, 20, 50_000), 1_000);
    expect(parsed.Records[0]?.Data?.every((byte) => byte === 1)).toBe(true);
  });

  it('takes data in base64 and times in seconds, as emulators have them, but no data for nothing', () => {
    const read = (record: object): unknown =>
      parseBody(new CborRecordsParser(), encodeCbor({ Records: [record] })).Records[0];
    expect(read({ Data: 'aGk=', ApproximateArrivalTimestamp: 1_795_000_000.25 })).toEqual({
      Data: Buffer.from('hi'),
      ApproximateArrivalTimestamp: new Date(1_795_000_000_250),
    });
    expect(() => read({ Data: { type: 'Buffer', data: [104] } })).toThrow('data are no bytes');
  });

  it('throws for what is cut off, or is no answer', () => {
    const body = encodeCbor({ Records: [{ Data: Buffer.from('x') }], NextShardIterator: 'next' });
    for (let end = 0; end < body.length; end += 1) {
      const parser = new CborRecordsParser();
      expect(() => parseBody(parser, body.subarray(0, end))).toThrow('cut off');
    }
    for (const wrong of [
      encodeCbor([]),
      encodeCbor({ Records: 'x' }),
      Buffer.from('a101', 'hex'),
    ]) {
      expect(() => parseBody(new CborRecordsParser(), wrong)).toThrow('not valid CBOR');
    }
  });
});
