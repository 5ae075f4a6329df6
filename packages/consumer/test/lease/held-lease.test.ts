import { MemoryLeaseTable } from '@shardline/consumer';
import { ManualClock, settle } from '@shardline/shared/testing';
import { describe, expect, it } from 'vitest';

import { FleetStore } from '../../src/fleet/fleet-store.js';
import { LeaseObserver } from '../../src/fleet/lease-observer.js';
import { HeldLease } from '../../src/lease/held-lease.js';
import { LeaseStore } from '../../src/lease/lease-store.js';
import { type Lease, type LeaseLayout, newLease, progressAt } from '../../src/lease/lease.js';

const at = (sequenceNumber: string) => ({ sequenceNumber, subSequenceNumber: 0 });

async function setup(layout: LeaseLayout = 'kcl') {
  const clock = new ManualClock();
  const table = new MemoryLeaseTable();
  const store = new LeaseStore(table);
  const fleet = new FleetStore(table);
  await store.create(
    newLease(
      { streamId: undefined, streamEpochSeconds: undefined, layout },
      { shardId: 's', checkpoint: at('LATEST'), parentShardIds: [], hashRange: undefined },
    ),
  );
  const taken = (await store.take((await store.get('s')) as Lease, 'me')) as Lease;
  const held = new HeldLease(taken, clock.monotonicMs(), {
    store,
    clock,
    workerId: 'me',
    failoverMs: 10_000,
  });
  return { clock, store, fleet, held };
}

describe('HeldLease', () => {
  it('ends before any observer may take it, if it is not renewed', async () => {
    const { clock, store, fleet, held } = await setup();
    const observer = new LeaseObserver(10_000);
    observer.observe((await fleet.list(true)).leases, clock.monotonicMs());
    let endedMs: number | undefined;
    held.signal.addEventListener('abort', () => (endedMs = clock.monotonicMs()));
    let takeableMs: number | undefined;
    while (takeableMs === undefined) {
      await clock.advance(100);
      observer.observe((await fleet.list(true)).leases, clock.monotonicMs());
      if (observer.isExpired((await store.get('s')) as Lease, clock.monotonicMs()))
        takeableMs = clock.monotonicMs();
    }
    expect(endedMs).toBe(9_000);
    expect(takeableMs).toBeGreaterThan(10_000);
    expect(held.signal.reason).toMatchObject({ code: 'LEASE_LOST' });
  });

  it('counts from before the request was sent, however long the answer took', async () => {
    const { clock, store, held } = await setup();
    await clock.advance(5_000);
    const renew = store.renew.bind(store);
    store.renew = async (...args) => {
      const answer = await renew(...args);
      await new Promise<void>((resolve) => clock.schedule(3_000, resolve));
      return answer;
    };
    const renewal = held.renew();
    await clock.advance(3_000);
    await renewal;
    // Sent at 5,000: valid until 14,000, not until 17,000.
    await clock.advance(5_900);
    expect(held.isValid).toBe(true);
    await clock.advance(200);
    expect(held.isValid).toBe(false);
  });

  it('knows that it is over before its timer says so, as after a stall', async () => {
    const { clock, held } = await setup();
    clock.monotonicMs = () => 60_000;
    expect(held.signal.aborted).toBe(false);
    expect(held.isValid).toBe(false);
    expect(held.signal.aborted).toBe(true);
    await expect(held.checkpoint(progressAt(at('5')))).rejects.toMatchObject({
      code: 'LEASE_LOST',
    });
  });

  it('counts a checkpoint as a renewal, never goes back, and writes one after the other', async () => {
    const { clock, store, held } = await setup();
    await clock.advance(6_000);
    await Promise.all([
      held.checkpoint(progressAt(at('5'))),
      held.renew(),
      held.checkpoint(progressAt(at('7'))),
      held.checkpoint(progressAt(at('6'))),
    ]);
    expect(await store.get('s')).toMatchObject({ checkpoint: at('7'), leaseCounter: 4 });
    await clock.advance(8_900);
    expect(held.isValid).toBe(true);
    await clock.advance(200);
    expect(held.isValid).toBe(false);
  });

  it('ends at once when another worker has taken it', async () => {
    const { store, held } = await setup();
    await store.take((await store.get('s')) as Lease, 'thief');
    await expect(held.checkpoint(progressAt(at('5')))).rejects.toMatchObject({
      code: 'LEASE_LOST',
    });
    expect(held.signal.aborted).toBe(true);
    expect((await store.get('s'))?.checkpoint).toEqual(at('LATEST'));
  });

  it('keeps a lease whose renewals fail until its time is over', async () => {
    const { clock, store, held } = await setup();
    store.renew = () => Promise.reject(new Error('no network'));
    await expect(held.renew()).rejects.toThrow('no network');
    expect(held.isValid).toBe(true);
    await clock.advance(9_000);
    expect(held.isValid).toBe(false);
  });

  it('hears of a request at its renewal, stays owner meanwhile, and gives it to who asked', async () => {
    const { store, held } = await setup();
    const asked: string[] = [];
    held.onHandOverRequested((next) => asked.push(next));
    await store.requestHandOver((await store.get('s')) as Lease, 'next');
    await held.renew();
    await held.renew();
    expect(asked).toEqual(['next']);
    await held.checkpoint(progressAt(at('5')));
    await held.release();
    expect(await store.get('s')).toMatchObject({
      leaseOwner: 'next',
      checkpointOwner: undefined,
      checkpoint: at('5'),
    });
    expect(held.signal.aborted).toBe(true);
  });

  it('gives it to who asked since the last renewal, too', async () => {
    const { store, held } = await setup();
    await store.requestHandOver((await store.get('s')) as Lease, 'next');
    await held.release();
    expect(await store.get('s')).toMatchObject({ leaseOwner: 'next', checkpointOwner: undefined });
  });

  it('leaves no timer behind once it is released', async () => {
    const { clock, store, held } = await setup();
    await held.release();
    await settle();
    expect(await store.get('s')).toMatchObject({ leaseOwner: undefined });
    expect(clock.pending).toBe(0);
  });

  it('hears of a request by a checkpoint, too', async () => {
    const { store, held } = await setup();
    const asked: string[] = [];
    held.onHandOverRequested((next) => asked.push(next));
    await store.requestHandOver((await store.get('s')) as Lease, 'next');
    await held.checkpoint(progressAt(at('5')));
    await held.renew();
    expect(asked).toEqual(['next']);
  });

  it('lives by heartbeats where those count: a checkpoint or a renewal tells nobody that we live', async () => {
    const { clock, held } = await setup('native');
    await clock.advance(5_000);
    await held.checkpoint(progressAt(at('5')));
    await held.renew();
    await clock.advance(3_900);
    expect(held.isValid).toBe(true);
    held.confirm(8_000);
    await clock.advance(8_000);
    expect(held.isValid).toBe(true);
    await clock.advance(200);
    expect(held.isValid).toBe(false);
    held.confirm(17_000);
    expect(held.isValid).toBe(false);
  });

  it('changes its layout with its counter, and lives by what counts in the new one from then on', async () => {
    const { clock, store, held } = await setup('kcl');
    await clock.advance(5_000);
    await held.convert('native', 2_000);
    expect(await store.get('s')).toMatchObject({ layout: 'native', leaseCounter: 2 });
    await clock.advance(5_900);
    expect(held.isValid).toBe(true);
    await held.convert('kcl', 2_000);
    expect(await store.get('s')).toMatchObject({
      layout: 'kcl',
      leaseCounter: 3,
      leaseOwner: 'me',
    });
    await clock.advance(8_900);
    expect(held.isValid).toBe(true);
  });

  it('recognises a change of layout whose answer was lost', async () => {
    const { store, held } = await setup('kcl');
    const convert = store.convert.bind(store);
    store.convert = async (...args) => {
      await convert(...args);
      throw new Error('no answer');
    };
    await expect(held.convert('native', 0)).rejects.toThrow('no answer');
    await held.renew();
    expect(held.lease).toMatchObject({ layout: 'native', leaseCounter: 2 });
    expect(held.isValid).toBe(true);
  });
});
