import type { Position } from '@shardline/shared';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  encodeFinished,
  FinishedAbove,
  MAX_FINISHED_BYTES,
} from '../../src/processing/finished-above.js';

const positions = fc
  .uniqueArray(fc.tuple(fc.bigInt({ min: 0n, max: 2n ** 186n }), fc.nat(60)), {
    selector: ([sequence, sub]) => `${sequence} ${sub}`,
    maxLength: 80,
  })
  .map((pairs) =>
    pairs
      .sort(([a, subA], [b, subB]) => (a === b ? subA - subB : a < b ? -1 : 1))
      .map(([sequence, subSequenceNumber]): Position => ({
        sequenceNumber: sequence.toString(),
        subSequenceNumber,
      })),
  );

describe('positions finished above the checkpoint', () => {
  it('come back from their text, and no others', () => {
    fc.assert(
      fc.property(positions, (finished) => {
        const text = encodeFinished(finished);
        const held = new FinishedAbove(text);
        const kept = finished.filter((position) => held.has(position));
        // What does not fit is left out from the far end: that is only repeated.
        const isWhole = (text?.length ?? 0) < MAX_FINISHED_BYTES - 200;
        expect(kept).toEqual(isWhole ? finished : finished.slice(0, kept.length));
        for (const { sequenceNumber, subSequenceNumber } of finished) {
          const other = { sequenceNumber, subSequenceNumber: subSequenceNumber + 100 };
          expect(held.has(other)).toBe(false);
        }
      }),
    );
  });

  it('take a few bytes for the user records of one aggregate, and never more than the bound', () => {
    const run = Array.from({ length: 1_000 }, (_, subSequenceNumber) => ({
      sequenceNumber: '49590338271490256608559692538361571095921575989136588898',
      subSequenceNumber,
    }));
    expect(encodeFinished(run)?.length).toBeLessThan(60);
    const many = Array.from({ length: 2_000 }, (_, index) => ({
      sequenceNumber: (10n ** 55n + BigInt(index) ** 9n).toString(),
      subSequenceNumber: index % 7,
    }));
    expect(encodeFinished(many)?.length).toBeLessThanOrEqual(MAX_FINISHED_BYTES);
  });

  it('are none where there is nothing, or nothing that can be read', () => {
    expect(encodeFinished([])).toBeUndefined();
    fc.assert(
      fc.property(fc.string(), (text) => {
        const held = new FinishedAbove(text);
        expect(held.has({ sequenceNumber: 'LATEST', subSequenceNumber: 0 })).toBe(false);
      }),
    );
    const damaged = new FinishedAbove('a:0-3;!');
    expect(damaged.has({ sequenceNumber: '10', subSequenceNumber: 0 })).toBe(false);
  });
});
