import { createHash } from 'node:crypto';

import { seededRandom } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { checkChecksums, writeChecksums } from '../../src/md5/checksums.js';

const CHECKSUM_BYTES = 16;

function expected(record: Uint8Array, from: number): string {
  const end = record.length - CHECKSUM_BYTES;
  return createHash('md5').update(record.subarray(from, end)).digest('hex');
}

const endOf = (record: Uint8Array): string =>
  Buffer.from(record.subarray(record.length - CHECKSUM_BYTES)).toString('hex');

function noise(lengths: readonly number[], seed = 1): Uint8Array[] {
  const random = seededRandom(seed);
  return lengths.map((length) => {
    const bytes = new Uint8Array(length + CHECKSUM_BYTES);
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = Math.floor(random() * 256);
    return bytes;
  });
}

describe('checksums side by side', () => {
  it('are MD5, however many messages there are and however long each is', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.nat(200), fc.nat(70_000)), { maxLength: 30 }),
        fc.nat(4),
        (lengths, from) => {
          const records = noise(lengths.map((length) => length + from));
          writeChecksums(records, from);
          expect(records.map(endOf)).toEqual(records.map((record) => expected(record, from)));
          expect(checkChecksums(records, from)).toEqual(records.map(() => true));
        },
      ),
      { numRuns: 60 },
    );
  });

  it("are MD5 at every length around the ends of blocks, and at the lanes' own limits", () => {
    const lengths = Array.from({ length: 200 }, (_, index) => index);
    const records = noise([...lengths, 65_535, 65_536, 65_591, 65_592, 65_593, 65_600, 131_072]);
    writeChecksums(records, 0);
    expect(records.map(endOf)).toEqual(records.map((record) => expected(record, 0)));
  });

  it('tell the damaged one from its neighbours', () => {
    const records = noise(Array.from({ length: 11 }, (_, index) => 1_000 + index * 997));
    writeChecksums(records, 4);
    const third = records[3] as Uint8Array;
    third[500] = (third[500] ?? 0) ^ 1;
    const last = records[9] as Uint8Array;
    last[last.length - 1] = (last[last.length - 1] ?? 0) ^ 1;
    const damaged = checkChecksums(records, 4).flatMap((isRight, index) => (isRight ? [] : index));
    expect(damaged).toEqual([3, 9]);
  });

  it('are none for no messages', () => {
    writeChecksums([], 0);
    expect(checkChecksums([], 0)).toEqual([]);
  });
});
