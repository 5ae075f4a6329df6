import { comparePositions, compareSequenceNumbers, isSentinel } from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

const anyNumber = fc.bigInt({ min: 0n, max: 10n ** 60n });

describe('compareSequenceNumbers', () => {
  it('orders numbers as numbers, whatever their length', () => {
    fc.assert(
      fc.property(anyNumber, anyNumber, (a, b) => {
        const sign = Math.sign(compareSequenceNumbers(a.toString(), b.toString()));
        expect(sign).toBe(a < b ? -1 : a > b ? 1 : 0);
      }),
    );
  });

  it('orders the sentinels around numbers as the KCL does', () => {
    const shuffled = [
      'SHARD_END',
      '0',
      'LATEST',
      '49590338271490256608559692538361571095921575989136588898',
      'TRIM_HORIZON',
      'AT_TIMESTAMP',
    ];
    expect([...shuffled].sort(compareSequenceNumbers)).toEqual([
      'AT_TIMESTAMP',
      'TRIM_HORIZON',
      'LATEST',
      '0',
      '49590338271490256608559692538361571095921575989136588898',
      'SHARD_END',
    ]);
  });

  it('knows sentinels from numbers', () => {
    expect(isSentinel('LATEST')).toBe(true);
    expect(isSentinel('123')).toBe(false);
  });
});

describe('comparePositions', () => {
  it('breaks ties by the sub-sequence number', () => {
    const at = (sequenceNumber: string, subSequenceNumber: number) => ({
      sequenceNumber,
      subSequenceNumber,
    });
    expect(comparePositions(at('10', 2), at('10', 3))).toBeLessThan(0);
    expect(comparePositions(at('10', 9), at('11', 0))).toBeLessThan(0);
    expect(comparePositions(at('10', 2), at('10', 2))).toBe(0);
  });
});
