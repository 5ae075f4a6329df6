import { ByteBudget } from '@shardline/shared';
import { settle } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

describe('ByteBudget', () => {
  it('admits in order, never over capacity, and never stalls', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 10 }), { maxLength: 30 }),
        async (sizes) => {
          const budget = new ByteBudget(10);
          const admitted: number[] = [];
          const held: number[] = [];
          sizes.forEach((bytes, index) => {
            void budget.acquire(bytes).then(() => {
              admitted.push(index);
              held.push(bytes);
            });
          });
          await settle();
          while (held.length > 0) {
            expect(budget.usedBytes).toBeLessThanOrEqual(10);
            budget.release(held.shift() ?? 0);
            await settle();
          }
          expect(admitted).toEqual([...sizes.keys()]);
          expect(budget.usedBytes).toBe(0);
        },
      ),
      { numRuns: 40 },
    );
  });

  it('refuses at once what can never fit, naming both sizes', async () => {
    await expect(new ByteBudget(10).acquire(11)).rejects.toMatchObject({
      code: 'RECORD_TOO_LARGE',
      value: 11,
      limit: 10,
      unit: 'bytes',
    });
  });

  it('lets the next one in when a waiter in front aborts', async () => {
    const budget = new ByteBudget(10);
    await budget.acquire(5);
    const controller = new AbortController();
    const large = budget.acquire(10, controller.signal);
    const small = budget.acquire(5);
    expect(budget.tryAcquire(1)).toBe(false);
    controller.abort(new Error('enough'));
    await expect(large).rejects.toThrow('enough');
    await small;
    expect(budget.usedBytes).toBe(10);
    expect(budget.waiting).toBe(0);
  });

  it('rejects with the reason of a signal that has aborted already', async () => {
    await expect(new ByteBudget(10).acquire(1, AbortSignal.abort(new Error('no')))).rejects.toThrow(
      'no',
    );
  });

  it('refuses a capacity that is no positive integer', () => {
    expect(() => new ByteBudget(0)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', value: 0 }),
    );
  });
});
