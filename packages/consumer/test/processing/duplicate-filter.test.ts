import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { DuplicateFilter } from '../../src/processing/duplicate-filter.js';

describe('DuplicateFilter', () => {
  it('lets each marked record through once, whatever the order of copies within the window', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(3), fc.nat(40)), { maxLength: 200 }), (records) => {
        const filter = new DuplicateFilter(1_000);
        const origins = records.map(([producer, number]) => `p${producer}:${number}`);
        const through = origins.filter((origin) => !filter.isCopy(origin));
        expect(through).toEqual([...new Set(origins)]);
      }),
    );
  });

  it('lets unmarked records and strange marks through', () => {
    const filter = new DuplicateFilter(10);
    for (const origin of [undefined, '', 'no colon', ':5', 'p:x']) {
      expect([filter.isCopy(origin), filter.isCopy(origin)]).toEqual([false, false]);
    }
  });

  it('remembers a bounded number of records and producers', () => {
    const filter = new DuplicateFilter(3);
    for (const number of [1, 2, 3, 4]) filter.isCopy(`p:${number}`);
    expect([filter.isCopy('p:4'), filter.isCopy('p:1')]).toEqual([true, false]);
    for (let producer = 0; producer < 500; producer += 1) filter.isCopy(`other-${producer}:1`);
    expect(filter.isCopy('p:4')).toBe(false);
    expect(new DuplicateFilter(0).isCopy('p:1')).toBe(false);
  });

  it('forgets on demand', () => {
    const filter = new DuplicateFilter(3);
    filter.isCopy('p:1');
    filter.clear();
    expect(filter.isCopy('p:1')).toBe(false);
  });
});
