import { createHash } from 'node:crypto';

import {
  AggregateEncoder,
  decodeRecords,
  hashKeyOf,
  type KinesisRecord,
  sealEnvelope,
  storeInEnvelope,
} from '@shardline/shared';
import { describe, expect, it } from 'vitest';

function record(data: Uint8Array | string, sequenceNumber = '100'): KinesisRecord {
  return {
    Data: Buffer.from(data),
    PartitionKey: 'outer',
    SequenceNumber: sequenceNumber,
    ApproximateArrivalTimestamp: new Date(1_700_000_000_123),
  };
}

function aggregate(...keys: string[]): Buffer {
  const encoder = new AggregateEncoder();
  for (const key of keys) encoder.add(key, undefined, Buffer.from(`data of ${key}`));
  return encoder.finish();
}

const brief = (records: ReturnType<typeof decodeRecords>): string[] =>
  records.map(
    (each) =>
      `${each.sequenceNumber}/${each.subSequenceNumber} ${each.partitionKey} ${each.data.toString()}`,
  );

describe('decodeRecords', () => {
  it('gives user records of plain, aggregated and compressed records in order, in one call', async () => {
    const records = decodeRecords([
      record('plain', '1'),
      record(aggregate('a', 'b'), '2'),
      record(await sealEnvelope(aggregate('c', 'd'), 'brotli', 'aggregate'), '3'),
      record(await sealEnvelope(Buffer.from('large text'), 'gzip', 'data'), '4'),
    ]);
    expect(brief(records)).toEqual([
      '1/0 outer plain',
      '2/0 a data of a',
      '2/1 b data of b',
      '3/0 c data of c',
      '3/1 d data of d',
      '4/0 outer large text',
    ]);
    expect(records.map((each) => each.isAggregated)).toEqual([
      false,
      true,
      true,
      true,
      true,
      false,
    ]);
    expect(records.every((each) => each.arrivedAt === 1_700_000_000_123)).toBe(true);
  });

  it('takes the records of a Lambda event', () => {
    const [first, second] = decodeRecords([
      {
        kinesis: {
          data: aggregate('a', 'b').toString('base64'),
          partitionKey: 'outer',
          sequenceNumber: '7',
          approximateArrivalTimestamp: 1_700_000_000.123,
        },
      },
    ]);
    expect(first).toMatchObject({
      partitionKey: 'a',
      sequenceNumber: '7',
      arrivedAt: 1_700_000_000_123,
    });
    expect(second).toMatchObject({ partitionKey: 'b', subSequenceNumber: 1 });
  });

  it('peels one layer only: a stored envelope of bytes that look like an aggregate stays whole', () => {
    const inner = aggregate('a');
    expect(decodeRecords([record(storeInEnvelope(inner, 'data'))])).toMatchObject([
      { data: inner, isAggregated: false },
    ]);
    const encoder = new AggregateEncoder();
    encoder.add('k', undefined, inner);
    expect(decodeRecords([record(encoder.finish())])).toMatchObject([
      { partitionKey: 'k', data: inner },
    ]);
  });

  it('takes records without data or key', () => {
    expect(decodeRecords([{ SequenceNumber: '5' }])).toMatchObject([
      { partitionKey: undefined, data: Buffer.alloc(0), arrivedAt: undefined },
    ]);
  });

  describe('with damaged records', () => {
    const broken = aggregate('a', 'b');
    broken[10] = (broken[10] ?? 0) ^ 1;
    const badIndex = ((): Buffer => {
      const body = Buffer.from('0a016b1a0508001a01781a0508051a0179', 'hex');
      return Buffer.concat([
        Buffer.from('f3899ac2', 'hex'),
        body,
        createHash('md5').update(body).digest(),
      ]);
    })();
    const cut = storeInEnvelope(Buffer.from('content'), 'data').subarray(0, -2);

    it('gives the raw bytes, marked, by default', () => {
      expect(decodeRecords([record(broken), record(badIndex), record(cut)])).toMatchObject([
        { data: broken, damage: 'checksum', partitionKey: 'outer' },
        { data: badIndex, damage: 'index' },
        { data: cut, damage: 'envelope' },
      ]);
    });

    it('throws under `error`, naming the sequence number', () => {
      for (const bytes of [broken, badIndex, cut]) {
        expect(() => decodeRecords([record(bytes, '42')], { onDamage: 'error' })).toThrow(
          expect.objectContaining({ code: 'DAMAGED_RECORD', value: '42' }),
        );
      }
    });

    it('keeps what is before a bad index under `keepPrefix`, and the raw bytes otherwise', () => {
      const records = decodeRecords([record(badIndex), record(broken)], { onDamage: 'keepPrefix' });
      expect(records).toMatchObject([
        { partitionKey: 'k', damage: undefined },
        { damage: 'checksum' },
      ]);
    });

    it('never passes on a decompression bomb, whatever the policy', async () => {
      const bomb = await sealEnvelope(Buffer.alloc(5_000), 'gzip', 'data');
      expect(() => decodeRecords([record(bomb)], { maxRawBytes: 4_999 })).toThrow(
        expect.objectContaining({ code: 'RAW_SIZE_EXCEEDED', value: 5_000, limit: 4_999 }),
      );
    });
  });

  describe('with the hash range of the shard', () => {
    const [low, high] = hashKeyOf('a') < hashKeyOf('b') ? ['a', 'b'] : ['b', 'a'];
    const lowerHalf = { start: 0n, end: hashKeyOf(low) };
    const input = [record(aggregate(high, low, high)), record('plain', '200')];

    it('drops the user records another shard owns, and tells how many', () => {
      const dropped: unknown[] = [];
      const records = decodeRecords(input, {
        hashRange: lowerHalf,
        onDropped: (...what) => dropped.push(what),
      });
      expect(brief(records)).toEqual([`100/1 ${low} data of ${low}`, '200/0 outer plain']);
      expect(dropped).toEqual([[2, '100']]);
    });

    it('drops the whole aggregate, as the KCL does, if told to', () => {
      const dropped: unknown[] = [];
      const records = decodeRecords(input, {
        hashRange: lowerHalf,
        rangeCheck: 'aggregate',
        onDropped: (...what) => dropped.push(what),
      });
      expect(brief(records)).toEqual(['200/0 outer plain']);
      expect(dropped).toEqual([[3, '100']]);
    });

    it('keeps all if told to', () => {
      expect(decodeRecords(input, { hashRange: lowerHalf, rangeCheck: 'off' })).toHaveLength(4);
    });

    it('goes by the explicit hash key where there is one', () => {
      const encoder = new AggregateEncoder();
      encoder.add(high, '0', Buffer.from('x'));
      encoder.add(low, (hashKeyOf(low) + 1n).toString(), Buffer.from('y'));
      const records = decodeRecords([record(encoder.finish())], { hashRange: lowerHalf });
      expect(records).toMatchObject([{ partitionKey: high, explicitHashKey: '0' }]);
    });
  });
});
