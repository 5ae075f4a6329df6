import { describe, expect, it } from 'vitest';

import { fuzz } from './run-fuzz.js';
import { TARGETS } from './targets.js';

/** Long enough to fall over what is plainly wrong; `fuzz --seconds N` goes deeper. */
const FOR_MS = 1_000;

describe('any bytes at all', () => {
  it.each(TARGETS)(
    'are taken by the parser of $name without a crash, a hang or a loss',
    async (target) => {
      const { inputs, problems } = await fuzz(target, 1, FOR_MS);
      expect(problems).toEqual([]);
      expect(inputs).toBeGreaterThan(50);
    },
    60_000,
  );
});
