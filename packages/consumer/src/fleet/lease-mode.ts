import { ShardlineError } from '@shardline/shared';

import type { Row } from '../lease/lease-table.js';
import type { Listing } from './fleet-store.js';

/**
 * How the workers of an application share its leases.
 *
 * - `native`: a leader deals them out, one heartbeat a worker tells who lives, hand-overs lose no time and
 *   handle nothing twice. For Shardline's workers alone.
 * - `kcl2`: every worker takes its share and steals what is missing, beside workers of a KCL 2.x.
 * - `kcl3`: the leader of a KCL 3.x deals them out; until its fleet has migrated, as `kcl2`.
 */
export type LeaseMode = 'native' | 'kcl2' | 'kcl3';

/** What the row of a KCL 3.x says about how its fleet works. */
export type ClientVersion =
  | 'CLIENT_VERSION_UPGRADE_FROM_2X'
  | 'CLIENT_VERSION_2X'
  | 'CLIENT_VERSION_3X_WITH_ROLLBACK'
  | 'CLIENT_VERSION_3X';

/** Key of the row in which a KCL 3.x keeps its state of migration. */
export const MIGRATION_KEY = 'Migration3.0';

/** The state of migration of a KCL 3.x; undefined if there is none. */
export function clientVersionOf(row: Row | undefined): ClientVersion | undefined {
  return row?.['cv']?.S as ClientVersion | undefined;
}

/** True if the leader of a KCL 3.x deals out the leases. */
export function isLedByKcl(version: ClientVersion | undefined): boolean {
  return version === 'CLIENT_VERSION_3X' || version === 'CLIENT_VERSION_3X_WITH_ROLLBACK';
}

/** The mode a table is in; undefined if it is empty. */
export function modeOf(
  { leases, fleet }: Pick<Listing, 'leases' | 'fleet'>,
  version: ClientVersion | undefined,
): LeaseMode | undefined {
  if (fleet) return fleet.layout === 'native' ? 'native' : 'kcl2';
  if (version !== undefined) return 'kcl3';
  return leases.length === 0 ? undefined : 'kcl2';
}

/**
 * The mode a worker starts in: the table's, if it is one the worker may join.
 *
 * @param wanted - As the application was told; `auto` is whatever the table is in, native on an empty one.
 * @throws ShardlineError `LEASE_MODE_MISMATCH`.
 */
export function startingMode(
  found: LeaseMode | undefined,
  wanted: LeaseMode | 'auto',
  version: ClientVersion | undefined,
): LeaseMode {
  if (wanted === 'auto') return found ?? 'native';
  if (found === undefined || found === wanted) return wanted;
  // A KCL 3.x joins tables of a 2.x and migrates them by itself; until it has, there is no row of its own.
  if (wanted === 'kcl3' && found === 'kcl2') return wanted;
  // Rolled back, and without need of a row of ours.
  if (wanted === 'kcl2' && version === 'CLIENT_VERSION_2X') return wanted;
  throw new ShardlineError(
    'LEASE_MODE_MISMATCH',
    `\`leaseMode\` is '${wanted}', but the lease table is in mode '${found}': ${REASONS[found]}`,
    { value: wanted, limit: found },
  );
}

const REASONS: Readonly<Record<LeaseMode, string>> = {
  native:
    'its workers heed a leader and heartbeats that other modes do not know. Start with `auto`, or change the table over by `changeLeaseMode`',
  kcl2: 'workers of a KCL that know nothing of leaders may share it. Start with `auto`, or stop them and change the table over by `changeLeaseMode`',
  kcl3: 'a KCL 3.x leads or is about to, and needs a metrics row of every worker. Start with `auto` or `kcl3`',
};
