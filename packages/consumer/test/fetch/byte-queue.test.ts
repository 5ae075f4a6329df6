import fc from 'fast-check';
import { expect, it } from 'vitest';

import { ByteQueue } from '../../src/fetch/byte-queue.js';

it('gives the bytes that came in, in order, however they are cut', () => {
  const anyStep = fc.oneof(
    fc.record({ push: fc.uint8Array({ maxLength: 40 }) }),
    fc.record({ peek: fc.nat({ max: 60 }) }),
    fc.record({ drop: fc.nat({ max: 60 }) }),
  );
  fc.assert(
    fc.property(fc.array(anyStep), (steps) => {
      const queue = new ByteQueue();
      let all: number[] = [];
      const given: Uint8Array[] = [];
      const wanted: Uint8Array[] = [];
      for (const step of steps) {
        if ('push' in step) {
          queue.push(Buffer.from(step.push));
          all.push(...step.push);
        } else if ('peek' in step) {
          const bytes = Math.min(step.peek, all.length);
          given.push(Uint8Array.from(queue.peek(bytes)));
          wanted.push(Uint8Array.from(all.slice(0, bytes)));
        } else {
          const bytes = Math.min(step.drop, all.length);
          queue.drop(bytes);
          all = all.slice(bytes);
        }
        expect(queue.bytes).toBe(all.length);
      }
      expect(given).toEqual(wanted);
    }),
    { numRuns: 500 },
  );
});

it('takes more than it keeps memory for', () => {
  const queue = new ByteQueue();
  const piece = Buffer.alloc(700_000, 'x');
  queue.push(piece);
  queue.push(piece);
  expect(queue.peek(1_400_000).equals(Buffer.concat([piece, piece]))).toBe(true);
});
