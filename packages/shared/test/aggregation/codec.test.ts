import { createHash } from 'node:crypto';

import {
  AggregateEncoder,
  decodeAggregate,
  type DecodedAggregate,
  HashedKey,
  hashKeyOf,
  hashKeyToBigInt,
} from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

interface Sample {
  readonly key: string;
  readonly data: string;
  readonly hashKey?: string;
}

const MAX = '340282366920938463463374607431768211455';

/** Output of the KPL's own record class. */
const GOLDEN: readonly (readonly [string, readonly Sample[], string])[] = [
  [
    'two keys',
    [
      { key: 'pk1', data: 'hello' },
      { key: 'pk2', data: 'world' },
    ],
    'f3899ac20a03706b310a03706b321a0908001a0568656c6c6f1a0908011a05776f726c6487c22af1ed18e292eb55b018413a3cff',
  ],
  [
    'a key used twice',
    [
      { key: 'pk1', data: 'hello' },
      { key: 'pk2', data: 'world' },
      { key: 'pk1', data: 'again' },
    ],
    'f3899ac20a03706b310a03706b321a0908001a0568656c6c6f1a0908011a05776f726c641a0908001a05616761696e409f94288dcfdfc68512a12f9436f7ac',
  ],
  [
    'an explicit hash key on one record',
    [
      { key: 'p1', data: 'd1', hashKey: '123' },
      { key: 'p2', data: 'd2' },
    ],
    'f3899ac20a0270310a02703212033132331a08080010001a0264311a0608011a026432ee89704fdadc81d0e0532dc8fc934ace',
  ],
  [
    'empty data and 2^128 - 1',
    [
      { key: 'a', data: '', hashKey: '0' },
      { key: 'b', data: '', hashKey: MAX },
    ],
    'f3899ac20a01610a016212013012273334303238323336363932303933383436333436333337343630373433313736383231313435351a06080010001a001a06080110011a009ff732ebf99b1f0eba0f774e3b1fc71d',
  ],
  [
    'integer-like keys, in the order they came',
    [
      { key: '7', data: 'data-7' },
      { key: '3', data: 'data-3' },
      { key: 'abc', data: 'data-abc' },
      { key: '1', data: 'data-1' },
    ],
    'f3899ac20a01370a01330a036162630a01311a0a08001a06646174612d371a0a08011a06646174612d331a0c08021a08646174612d6162631a0a08031a06646174612d3158fdc6919ca184e6ab0da10bd95e01cb',
  ],
  [
    'a Unicode key',
    [
      { key: 'é€😀', data: 'x' },
      { key: 'é€😀', data: 'y' },
    ],
    'f3899ac20a09c3a9e282acf09f98801a0508001a01781a0508001a0179eac2e08e54cb094901cc23e566beb0eb',
  ],
];

function encode(samples: readonly Sample[], encoder = new AggregateEncoder()): Buffer {
  for (const { key, data, hashKey } of samples) {
    encoder.add(key, hashKey, Buffer.from(data));
  }
  return encoder.finish();
}

function list(aggregate: DecodedAggregate): Sample[] {
  return Array.from({ length: aggregate.count }, (_, index) => {
    const hashKey = aggregate.explicitHashKey(index);
    return {
      key: aggregate.partitionKey(index),
      data: aggregate.data(index).toString(),
      ...(hashKey !== undefined && { hashKey }),
    };
  });
}

function decode(bytes: Uint8Array): Sample[] {
  const decoding = decodeAggregate(bytes);
  if (decoding.kind !== 'aggregate') throw new Error(`decoded as ${decoding.kind}`);
  return list(decoding.aggregate);
}

/** Magic, the message given as hex, checksum. */
function sealed(message: string): Buffer {
  const body = Buffer.from(message.replaceAll(' ', ''), 'hex');
  return Buffer.concat([
    Buffer.from('f3899ac2', 'hex'),
    body,
    createHash('md5').update(body).digest(),
  ]);
}

const anySample: fc.Arbitrary<Sample> = fc.record(
  {
    key: fc.oneof(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }),
      fc.nat().map(String),
      fc.constantFrom('__proto__', 'constructor', '1', '2'),
    ),
    data: fc.string({ unit: 'grapheme', maxLength: 300 }),
    hashKey: fc.bigInt({ min: 0n, max: BigInt(MAX) }).map(String),
  },
  { requiredKeys: ['key', 'data'] },
);

describe('AggregateEncoder', () => {
  it.each(GOLDEN)('writes what the KPL writes: %s', (_, samples, hex) => {
    expect(encode(samples).toString('hex')).toBe(hex);
  });

  it('takes a record up to the byte it needs, and no record that needs one more', () => {
    fc.assert(
      fc.property(fc.array(anySample, { minLength: 1, maxLength: 200 }), (samples) => {
        const [encoder, ahead] = [new AggregateEncoder(), new AggregateEncoder()];
        const hashed = new HashedKey();
        for (const { key, data, hashKey } of samples) {
          const bytes = Buffer.from(data);
          hashed.set(key);
          ahead.add(key, hashKey, bytes);
          const needed = ahead.finish().length;
          const before = encoder.finish();
          expect(encoder.addWithin(needed - 1, hashed, hashKey, bytes, undefined)).toBe(false);
          expect(encoder.finish().equals(before)).toBe(true);
          expect(encoder.addWithin(needed, hashed, hashKey, bytes, undefined)).toBe(true);
          expect(encoder.sizeBytes).toBe(needed);
        }
        expect(encoder.finish().equals(ahead.finish())).toBe(true);
      }),
      { numRuns: 50 },
    );
  });

  it('sizes an index of two bytes and data of three length bytes right', () => {
    const encoder = new AggregateEncoder();
    for (let index = 0; index < 200; index += 1)
      encoder.add(`k${index}`, undefined, Buffer.alloc(1));
    const large = Buffer.alloc(70_000);
    const before = encoder.sizeBytes;
    encoder.add('k199', undefined, large);
    // Tag and length of the record, tag and index of its key, tag and length of its data.
    expect(encoder.sizeBytes - before).toBe(1 + 3 + 1 + 2 + 1 + 3 + large.length);
    expect(encoder.finish().length).toBe(encoder.sizeBytes);
  });

  it('gives back a copy of the data added last', () => {
    const encoder = new AggregateEncoder();
    encoder.add('k', undefined, Buffer.from('first'));
    const copy = encoder.copyLastData();
    encoder.add('k', undefined, Buffer.from('the second one'));
    expect(copy.toString()).toBe('first');
    expect(encoder.copyLastData().toString()).toBe('the second one');
  });

  it('starts afresh after reset, leaving the finished record alone', () => {
    const encoder = new AggregateEncoder();
    const first = encode(GOLDEN[0]?.[1] ?? [], encoder);
    encoder.reset();
    expect(encoder.count).toBe(0);
    expect(encoder.sizeBytes).toBe(20);
    expect(encode(GOLDEN[1]?.[1] ?? [], encoder).toString('hex')).toBe(GOLDEN[1]?.[2]);
    expect(first.toString('hex')).toBe(GOLDEN[0]?.[2]);
  });
});

describe('decodeAggregate', () => {
  it.each(GOLDEN)('reads what the KPL writes: %s', (_, samples, hex) => {
    expect(decode(Buffer.from(hex, 'hex'))).toEqual(samples);
  });

  it('gives back any records that were encoded', () => {
    fc.assert(
      fc.property(fc.array(anySample, { minLength: 1, maxLength: 60 }), (samples) => {
        expect(decode(encode(samples))).toEqual(samples);
      }),
    );
  });

  it('gives records that stay as they are while other aggregates are read', () => {
    fc.assert(
      fc.property(fc.array(fc.array(anySample, { minLength: 1, maxLength: 9 })), (all) => {
        const decodings = all.map((samples) => decodeAggregate(encode(samples)));
        expect(
          decodings.map((decoding) => decoding.kind === 'aggregate' && list(decoding.aggregate)),
        ).toEqual(all);
      }),
    );
  });

  it('gives views of the input, not copies', () => {
    const bytes = encode([{ key: 'k', data: 'abc' }]);
    const decoding = decodeAggregate(bytes);
    expect(decoding.kind === 'aggregate' && decoding.aggregate.data(0).buffer).toBe(bytes.buffer);
  });

  it('accepts records before tables, fields out of order and repeated singular fields', () => {
    // Record: data "x", key index 9, key index 0, data "y"; then the table.
    expect(decode(sealed('1a 0a 1a0178 0809 0800 1a0179 0a 01 6b'))).toEqual([
      { key: 'k', data: 'y' },
    ]);
  });

  it('ignores unknown fields of every wire type, tags and nested groups', () => {
    const unknown = '28 ff01 31 0102030405060708 3a 02 aabb 45 01020304 4b 5b 0801 5c 4c';
    const tags = '22 06 0a0174 120176';
    expect(decode(sealed(`${unknown} 0a016b 1a 0d 0800 ${tags} 1a0178 ${unknown}`))).toEqual([
      { key: 'k', data: 'x' },
    ]);
  });

  it('gives an explicit hash key only where its index is present', () => {
    expect(decode(sealed('0a016b 120135 1a05 0800 1a0178'))).toEqual([{ key: 'k', data: 'x' }]);
  });

  it('reads an empty message as no records', () => {
    expect(decode(sealed('28 00'))).toEqual([]);
  });

  it.each([
    ['no magic', Buffer.from('hello, this is longer than twenty bytes')],
    ['nothing', Buffer.alloc(0)],
    ['magic alone', Buffer.from('f3899ac2', 'hex')],
    ['magic and no more than a checksum', sealed('')],
  ])('takes %s as plain', (_, bytes) => {
    expect(decodeAggregate(bytes)).toEqual({ kind: 'plain' });
  });

  it.each([
    ['a field longer than the message', '0a 05 6b'],
    ['a record without a key index', '0a016b 1a03 1a0178'],
    ['a record without data', '0a016b 1a02 0800'],
    ['a varint of eleven bytes', '28 ffffffffffffffffffff01'],
    ['field number 0', '00 00'],
    ['wire type 6', '0e'],
    ['a group that ends another', '2b 34'],
    ['a group that never ends', '2b 2b'],
    ['a length cut off', '0a'],
  ])('calls %s malformed, with nothing kept', (_, hex) => {
    expect(decodeAggregate(sealed(hex))).toMatchObject({
      kind: 'damaged',
      damage: 'malformed',
      prefix: { count: 0 },
    });
  });

  it.each([
    ['partition key', '0a016b 1a05 0800 1a0178 1a05 0801 1a0179 1a05 0800 1a017a'],
    ['explicit hash key', '0a016b 120135 1a05 0800 1a0178 1a07 0800 1001 1a0179'],
    [
      'partition key index of 64 bits',
      '0a016b 1a05 0800 1a0178 1a0e 08ffffffffffffffffff01 1a0179',
    ],
  ])('keeps the records before a %s index out of range', (_, hex) => {
    const decoding = decodeAggregate(sealed(hex));
    expect(decoding).toMatchObject({ kind: 'damaged', damage: 'index' });
    expect(decoding.kind === 'damaged' && list(decoding.prefix)).toEqual([{ key: 'k', data: 'x' }]);
  });

  it('notices any single changed byte behind the magic', () => {
    const bytes = encode(GOLDEN[0]?.[1] ?? []);
    for (let at = 4; at < bytes.length; at += 1) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 0x40;
      expect(decodeAggregate(changed)).toMatchObject({ kind: 'damaged', damage: 'checksum' });
    }
  });

  it('neither throws nor hangs on arbitrary messages', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (message) => {
        decodeAggregate(sealed(Buffer.from(message).toString('hex')));
      }),
      { numRuns: 2_000 },
    );
  });

  it('carries the origin of a record, which other tags do not disturb', () => {
    const encoder = new AggregateEncoder();
    encoder.add('k', undefined, Buffer.from('abc'), 'producer-1:42');
    encoder.add('k', undefined, Buffer.from('def'));
    expect(encoder.finish().length).toBe(encoder.sizeBytes);
    const decoding = decodeAggregate(encoder.finish());
    const origins =
      decoding.kind === 'aggregate' && [0, 1].map((index) => decoding.aggregate.origin(index));
    expect(origins).toEqual(['producer-1:42', undefined]);
    const foreign = decodeAggregate(
      sealed('0a016b 1a14 0800 1a0178 2206 0a0174 120176 2205 0a016f 1200'),
    );
    expect(foreign.kind).toBe('aggregate');
  });
});

describe('DecodedAggregate.hashKey', () => {
  it('is what the service would find for each record, whatever keys it has', () => {
    const anyKey = fc.oneof(
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }),
      fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 256 }),
    );
    const anyRecord = fc.record({ key: anyKey, hashKey: fc.option(fc.constantFrom('0', MAX)) });
    fc.assert(
      fc.property(fc.array(anyRecord, { minLength: 1, maxLength: 40 }), (records) => {
        const encoder = new AggregateEncoder();
        for (const { key, hashKey } of records)
          encoder.add(key, hashKey ?? undefined, Buffer.from('x'));
        const decoding = decodeAggregate(encoder.finish());
        expect(decoding.kind).toBe('aggregate');
        const found = new Uint32Array(4);
        const keys = records.map((_, index) => {
          if (decoding.kind === 'aggregate') decoding.aggregate.hashKey(index, found);
          return hashKeyToBigInt(found);
        });
        expect(keys).toEqual(
          records.map(({ key, hashKey }) => (hashKey === null ? hashKeyOf(key) : BigInt(hashKey))),
        );
      }),
      { numRuns: 200 },
    );
  });

  it('stays right however often lanes have nothing to do', () => {
    const long = 'k'.repeat(100);
    const encoder = new AggregateEncoder();
    encoder.add('short', undefined, Buffer.from('x'));
    encoder.add(long, undefined, Buffer.from('x'));
    const bytes = encoder.finish();
    const found = new Uint32Array(4);
    const wrong: number[] = [];
    for (let time = 0; time < 40_000; time += 1) {
      const decoding = decodeAggregate(bytes, true);
      for (const [index, key] of ['short', long].entries()) {
        if (decoding.kind === 'aggregate') decoding.aggregate.hashKey(index, found);
        if (time % 1_000 === 0 && hashKeyToBigInt(found) !== hashKeyOf(key)) wrong.push(time);
      }
    }
    expect(wrong).toEqual([]);
  });
});
