import { MemoryLeaseTable } from '@shardline/consumer';
import { comparePositions } from '@shardline/shared';
import { ManualClock } from '@shardline/shared/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { FleetStore } from '../../src/fleet/fleet-store.js';
import { LeaseObserver } from '../../src/fleet/lease-observer.js';
import { HeldLease } from '../../src/lease/held-lease.js';
import { LeaseStore } from '../../src/lease/lease-store.js';
import type { LeaseTable } from '../../src/lease/lease-table.js';
import { type Lease, newLease, ownerOf, progressAt } from '../../src/lease/lease.js';

const FAILOVER_MS = 10_000;
const at = (sequence: number) => ({ sequenceNumber: String(sequence), subSequenceNumber: 0 });

const WORKERS = ['a', 'b', 'c'] as const;

/** What may come next: somebody does something, or time passes. */
const anyStep = fc.record({
  worker: fc.integer({ min: 0, max: WORKERS.length - 1 }),
  act: fc.constantFrom(
    'renew',
    'renew',
    'checkpoint',
    'takeIfExpired',
    'takeIfExpired',
    'steal',
    'requestHandOver',
    'release',
    'convert',
    'look',
  ),
  /** How much virtual time passes before. */
  afterMs: fc.constantFrom(0, 1, 500, 3_000, 9_500, 10_500),
  /** The call has its effect and is reported as failed. */
  isAnswerLost: fc.boolean(),
});

/** A table whose answers get lost when it is told so. */
function forgetful(table: LeaseTable): { readonly table: LeaseTable; loseNext: boolean } {
  const state = { loseNext: false, table: table };
  state.table = new Proxy(table, {
    get: (target, name) => {
      const method = target[name as keyof LeaseTable] as (...args: unknown[]) => Promise<unknown>;
      if (name !== 'update') return method.bind(target);
      return async (...args: unknown[]) => {
        const answer = await method.apply(target, args);
        if (!state.loseNext) return answer;
        state.loseNext = false;
        throw new Error('no answer');
      };
    },
  });
  return state;
}

describe('the conditional writes of the lease table', () => {
  it('leave at most one owner that thinks the lease its own, let counters grow alone and checkpoints never go back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { maxLength: 60 }), async (steps) => {
        const clock = new ManualClock();
        const memory = new MemoryLeaseTable();
        const lossy = forgetful(memory);
        const store = new LeaseStore(lossy.table);
        const fleet = new FleetStore(memory);
        await store.create(
          newLease(
            { streamId: undefined, streamEpochSeconds: undefined, layout: 'kcl' },
            { shardId: 's', checkpoint: at(0), parentShardIds: [], hashRange: undefined },
          ),
        );
        const current = async (): Promise<Lease> =>
          (await new LeaseStore(memory).get('s')) as Lease;
        const observers = WORKERS.map(() => new LeaseObserver(FAILOVER_MS));
        const held: (HeldLease | undefined)[] = WORKERS.map(() => undefined);
        let before = await current();
        /** Those that were stolen from, and those that have let go: they learn what became of it later. */
        const excused = new Set<HeldLease | undefined>();
        const hold = (index: number, lease: Lease | undefined, sentMs: number): void => {
          const workerId = WORKERS[index] as string;
          if (!lease || held[index]?.isValid) return;
          const options = { store, clock, workerId, failoverMs: FAILOVER_MS };
          held[index] = new HeldLease(lease, sentMs, options);
        };
        for (const { worker: index, act, afterMs, isAnswerLost } of steps) {
          await clock.advance(afterMs);
          const workerId = WORKERS[index] as string;
          const mine = held[index];
          const seen = await current();
          observers[index]?.observe((await fleet.list(true)).leases, clock.monotonicMs());
          const isExpired = observers[index]?.isExpired(seen, clock.monotonicMs()) ?? false;
          const sentMs = clock.monotonicMs();
          lossy.loseNext = isAnswerLost;
          try {
            if (act === 'renew') await mine?.renew();
            else if (act === 'checkpoint') {
              const next = Number(mine?.lease.checkpoint.sequenceNumber ?? 0) + 1;
              await mine?.checkpoint(progressAt(at(next)));
            } else if (act === 'takeIfExpired') {
              const isFree = ownerOf(seen) === undefined || (isExpired && !mine?.isValid);
              if (isFree) hold(index, await store.take(seen, workerId), sentMs);
            } else if (act === 'steal') {
              for (const each of held) if (each !== mine) excused.add(each);
              if (!mine?.isValid) hold(index, await store.take(seen, workerId), sentMs);
            } else if (act === 'requestHandOver') await store.requestHandOver(seen, workerId);
            else if (act === 'release') {
              // Nothing runs for it any more, whatever becomes of the call.
              excused.add(mine);
              await mine?.release();
            } else if (act === 'convert' && mine) await mine.convert('kcl', sentMs);
          } catch {
            // The answer was lost, or the lease.
          }
          lossy.loseNext = false;
          const now = await current();
          expect(now.leaseCounter).toBeGreaterThanOrEqual(before.leaseCounter);
          expect(now.leaseCounter).toBeLessThanOrEqual(before.leaseCounter + 2);
          expect(comparePositions(now.checkpoint, before.checkpoint)).toBeGreaterThanOrEqual(0);
          before = now;
          const valid = held.filter((each) => each?.isValid && !excused.has(each));
          expect(valid.length).toBeLessThanOrEqual(1);
        }
        for (const each of held) each?.abandon();
      }),
      { numRuns: 1_000 },
    );
  });

  it('let one of any two writes through that start from the same row', async () => {
    const anyWrite = fc.constantFrom(
      'renew',
      'take',
      'checkpoint',
      'release',
      'convert',
      'complete',
    );
    await fc.assert(
      fc.asyncProperty(anyWrite, anyWrite, fc.boolean(), async (first, second, isAsked) => {
        const store = new LeaseStore(new MemoryLeaseTable());
        await store.create(
          newLease(
            { streamId: undefined, streamEpochSeconds: undefined, layout: 'native' },
            { shardId: 's', checkpoint: at(0), parentShardIds: [], hashRange: undefined },
          ),
        );
        const taken = await store.take((await store.get('s')) as Lease, 'a');
        if (isAsked) await store.requestHandOver(taken as Lease, 'b');
        const lease = (await store.get('s')) as Lease;
        const write = async (what: string, workerId: string, to: number): Promise<boolean> => {
          if (what === 'renew') return (await store.renew(lease, workerId)).kind === 'renewed';
          if (what === 'take') return (await store.take(lease, workerId)) !== undefined;
          if (what === 'release') return store.release(lease, workerId);
          if (what === 'complete') return store.completeHandOver(lease, workerId);
          if (what === 'convert')
            return (await store.convert(lease, workerId, 'kcl')) !== undefined;
          return (await store.checkpoint(lease, workerId, progressAt(at(to)))) !== undefined;
        };
        // The second is another worker's: what it did not write itself it must not take for its own.
        const isFirst = await write(first, 'a', 5);
        const isSecond = await write(second, 'thief', 6);
        expect(isFirst && isSecond).toBe(false);
      }),
    );
  });
});
