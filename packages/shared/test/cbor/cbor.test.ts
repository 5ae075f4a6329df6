import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { CborReader, decodeCbor, encodeCbor } from '../../src/index.js';

const anyItem = fc.letrec((tie) => ({
  item: fc.oneof(
    { maxDepth: 3 },
    fc.string(),
    fc.maxSafeInteger(),
    fc.double({ noNaN: true }),
    fc.boolean(),
    fc.uint8Array().map((bytes) => Buffer.from(bytes)),
    fc.date({ noInvalidDate: true }),
    fc.array(tie('item')),
    fc.dictionary(fc.string(), tie('item')),
  ),
})).item;

/** How reading ends: `decoded`, or with the name of an error. */
function outcome(read: () => unknown): string {
  try {
    read();
    return 'decoded';
  } catch (error) {
    return (error as Error).name;
  }
}

describe('CBOR', () => {
  it('gives back any value, and neither throws otherwise nor hangs on any bytes', () => {
    fc.assert(
      fc.property(anyItem, (item) => {
        expect(decodeCbor(encodeCbor(item))).toEqual(item);
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const read = (): unknown => decodeCbor(Buffer.from(bytes));
        expect(outcome(read)).toBeOneOf(['decoded', 'CborError']);
      }),
      { numRuns: 2_000 },
    );
    expect(outcome(() => decodeCbor(Buffer.alloc(1_000_000, 0x81)))).toBe('CborError');
  });

  it.each([
    // RFC 8949, appendix A.
    ['1818', 24],
    ['1903e8', 1_000],
    ['1b000000e8d4a51000', 1_000_000_000_000],
    ['3903e7', -1_000],
    ['f93e00', 1.5],
    ['fb3ff199999999999a', 1.1],
    ['62c3bc', 'ü'],
    ['9f018202039f0405ffff', [1, [2, 3], [4, 5]]],
    ['bf61610161629f0203ffff', { a: 1, b: [2, 3] }],
    ['7f657374726561646d696e67ff', 'streaming'],
    ['5f42010243030405ff', Buffer.from([1, 2, 3, 4, 5])],
    // In milliseconds, as the service and its clients write it.
    ['c11b000001a1f2f0e1f0', new Date(0x01a1f2f0e1f0)],
    ['f6', undefined],
  ])('reads %s as the standard says', (hex, value) => {
    expect(decodeCbor(Buffer.from(hex, 'hex'))).toEqual(value);
  });

  it('reads structures by the names of their members, whatever else is there and however it is written', () => {
    const names = ['a', 'long name of a member that takes a head of two bytes'].map((name) =>
      Buffer.from(name),
    );
    fc.assert(
      fc.property(anyItem, anyItem, anyItem, fc.boolean(), (first, second, other, hasNoLength) => {
        const members = [
          [encodeCbor('other'), encodeCbor(other)],
          [encodeCbor(String(names[1])), encodeCbor(second)],
          [encodeCbor('a'), encodeCbor(first)],
        ].flat();
        const item = hasNoLength
          ? [Buffer.from([0xbf]), ...members, Buffer.from([0xff])]
          : [Buffer.from([0xa3]), ...members];
        const reader = new CborReader(Buffer.concat([...item, encodeCbor('next')]));
        expect(reader.members(names, () => reader.item())).toEqual([first, second]);
        expect(reader.item()).toBe('next');
      }),
    );
  });

  it('says of what is cut off that it is, so that it can be read again with more', () => {
    fc.assert(
      fc.property(anyItem, fc.nat(), (item, cut) => {
        const bytes = encodeCbor(item);
        const part = bytes.subarray(0, cut % bytes.length);
        expect(() => decodeCbor(part)).toThrow(expect.objectContaining({ isCutOff: true }));
      }),
    );
  });
});
