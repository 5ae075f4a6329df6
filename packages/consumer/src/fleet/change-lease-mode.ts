import { type Clock, ShardlineError, sleep } from '@shardline/shared';

import type { LeaseStore } from '../lease/lease-store.js';
import type { LeaseTable } from '../lease/lease-table.js';
import { isFinished, isForeign, type LeaseLayout, ownerOf } from '../lease/lease.js';
import type { FleetStore, Listing } from './fleet-store.js';
import { KclRows } from './kcl-rows.js';
import { LeaseObserver } from './lease-observer.js';

export interface ModeChangeOptions {
  readonly table: LeaseTable;
  readonly store: LeaseStore;
  readonly fleet: FleetStore;
  readonly keyPrefix: string;
  readonly failoverMs: number;
  readonly pollMs: number;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Has a fleet keep its leases in another mode, while it works or while nobody does. Says so in the
 * fleet's row, which the workers follow, each with the rows it holds; sees to the rows that nobody holds
 * itself. Resolves when all are kept so.
 *
 * @throws ShardlineError `LEASE_MODE_MISMATCH`; `signal.reason`; what the table threw.
 */
export async function changeLeaseMode(
  to: 'native' | 'kcl2',
  options: ModeChangeOptions,
): Promise<void> {
  const { table, fleet, clock, pollMs, signal, failoverMs } = options;
  await table.prepare(signal);
  if (to === 'native') await beNative(options);
  else await beReadableByKcl(options);
  const layout: LeaseLayout = to === 'native' ? 'native' : 'kcl';
  const observer = new LeaseObserver(failoverMs);
  for (;;) {
    const listing = await fleet.list(true);
    observer.observe(listing.leases, clock.monotonicMs());
    observer.observeWorkers(listing.workers, clock.monotonicMs());
    const isOverruled = listing.fleet ? listing.fleet.layout !== layout : to === 'native';
    if (isOverruled) {
      throw new ShardlineError('LEASE_MODE_MISMATCH', 'somebody else has changed the mode since', {
        value: to,
        limit: to === 'native' ? 'kcl2' : 'native',
      });
    }
    const open = listing.leases.filter((lease) => lease.layout !== layout);
    if (open.length === 0 && (to === 'native' || (await endFleet(listing, observer, options))))
      return;
    for (const lease of open) {
      if (isNobodys(lease, listing, observer, clock.monotonicMs())) {
        await options.store.convert(lease, undefined, layout);
      }
    }
    await sleep(clock, pollMs, signal);
  }
}

async function beNative(options: ModeChangeOptions): Promise<void> {
  const { table, fleet } = options;
  const names = [...(await livingForeigners(options))].join(', ');
  if (names !== '') {
    throw new ShardlineError(
      'LEASE_MODE_MISMATCH',
      `workers of a KCL are alive, or were a minute ago: ${names}. Stop them first`,
      { value: names, limit: 0, unit: 'workers' },
    );
  }
  const { others } = await fleet.list(true);
  if (!(await fleet.setLayout('native'))) await fleet.found('native');
  // Rows of a KCL 3.x mean nothing any more.
  for (const { leaseKey } of others) if (leaseKey?.S !== undefined) await table.delete(leaseKey.S);
}

/** Workers of a KCL that have written to the table just now, or do while we watch it. */
async function livingForeigners(options: ModeChangeOptions): Promise<ReadonlySet<string>> {
  const { table, fleet, keyPrefix, clock, failoverMs, signal } = options;
  const living = new Set<string>();
  if (keyPrefix !== '') return living;
  const kcl = new KclRows(table, clock);
  await kcl.open();
  for (const workerId of await kcl.foreignWorkers()) living.add(workerId);
  const before = (await fleet.list(true)).leases.filter(isForeign);
  if (before.length === 0) return living;
  // A KCL that stops leaves its name in the rows; one that lives renews them.
  await sleep(clock, failoverMs, signal);
  for (const lease of (await fleet.list(true)).leases) {
    const former = before.find(({ leaseKey }) => leaseKey === lease.leaseKey);
    const isRenewed = former && former.leaseCounter !== lease.leaseCounter;
    if (isRenewed && isForeign(lease)) living.add(ownerOf(lease) ?? '');
  }
  return living;
}

async function beReadableByKcl({ fleet, keyPrefix }: ModeChangeOptions): Promise<void> {
  if (keyPrefix !== '') {
    throw new ShardlineError('LEASE_MODE_MISMATCH', 'no KCL reads keys with a `leaseKeyPrefix`', {
      value: 'kcl2',
      limit: 'native',
    });
  }
  await fleet.setLayout('kcl');
}

/** Removes the fleet's rows, the living workers' too: they do without. True if there are none. */
async function endFleet(
  { fleet: row, workers }: Listing,
  observer: LeaseObserver,
  { fleet, clock }: ModeChangeOptions,
): Promise<boolean> {
  if (!row && workers.length === 0) return true;
  // A leader that lives does it, when it has seen that nobody holds a native lease any more.
  const hasLiving = workers.some((worker) => !observer.isDead(worker, clock.monotonicMs()));
  if (hasLiving) return false;
  await fleet.dissolve();
  await fleet.clear();
  return true;
}

/** True if nobody who lives will see to a row. */
function isNobodys(
  lease: Listing['leases'][number],
  { workers }: Listing,
  observer: LeaseObserver,
  nowMs: number,
): boolean {
  const owner = ownerOf(lease);
  if (owner === undefined || isFinished(lease)) return true;
  const worker = workers.find(({ workerId }) => workerId === owner);
  return lease.layout === 'native' && worker
    ? observer.isDead(worker, nowMs)
    : observer.isExpired(lease, nowMs);
}
