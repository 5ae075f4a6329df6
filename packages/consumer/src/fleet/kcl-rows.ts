import { type Clock, isShardlineError } from '@shardline/shared';

import type { LeaseTable, Row } from '../lease/lease-table.js';
import { type ClientVersion, clientVersionOf, MIGRATION_KEY } from './lease-mode.js';

/** As KCL 3.0 to 3.4 name the tables they keep their own rows in. */
const STATE_TABLE = '-CoordinatorState';
const METRICS_TABLE = '-WorkerMetricStats';
/** Tells a KCL that its workers may look for rows in the lease table. */
const SINGLE_TABLE_SUPPORT = '1';
const METRICS_ENTITY = 'WORKER_METRIC_STATS';
/** Our mark on a metrics row. */
const OWN_METRICS = 'shardlineWorker';
/** A KCL takes workers for dead whose row is older. */
const LIVE_SECONDS = 60;
const TABLE_MIGRATION_KEY = 'TableMigration3.5';
/** States of the table's migration in which rows are written to the lease table. */
const IN_LEASE_TABLE = new Set([
  'TABLE_MIGRATION_STATUS_PENDING',
  'TABLE_MIGRATION_STATUS_COMPLETE',
]);

/**
 * The rows by which workers of a KCL 3.x know of each other: in the lease table, or in tables beside it
 * where an older one has made them.
 */
export class KclRows {
  readonly #table: LeaseTable;
  readonly #clock: Clock;
  #state: LeaseTable;
  #metrics: LeaseTable;

  constructor(table: LeaseTable, clock: Clock) {
    this.#table = table;
    this.#clock = clock;
    this.#state = table;
    this.#metrics = table;
  }

  /**
   * Finds out where the rows are.
   *
   * @param isOptional - Without the right to look for tables beside the lease table there are none.
   */
  async open(isOptional = false): Promise<void> {
    const sideTable = async (suffix: string, keyName: string): Promise<LeaseTable | undefined> => {
      try {
        return await this.#table.sideTable?.(suffix, keyName);
      } catch (error) {
        if (isOptional && isShardlineError(error, 'ACCESS_DENIED')) return undefined;
        throw error;
      }
    };
    const state = await sideTable(STATE_TABLE, 'key');
    const metrics = await sideTable(METRICS_TABLE, 'wid');
    const migration = await state?.get(TABLE_MIGRATION_KEY);
    const isMoved = IN_LEASE_TABLE.has(migration?.['tm']?.S ?? '');
    this.#state = state ?? this.#table;
    this.#metrics = isMoved ? this.#table : (metrics ?? this.#table);
  }

  /** How the fleet of the KCL works; undefined if there is none of a 3.x. */
  async clientVersion(): Promise<ClientVersion | undefined> {
    const row = await this.#state.get(MIGRATION_KEY);
    if (row || this.#state === this.#table) return clientVersionOf(row);
    return clientVersionOf(await this.#table.get(MIGRATION_KEY));
  }

  /**
   * Tells the KCL's leader that a worker lives. Without measurements of its machine it is given leases by
   * their throughput, as one of a JVM that cannot measure.
   */
  async report(workerId: string): Promise<void> {
    const nowSeconds = { N: String(Math.floor(this.#clock.now() / 1_000)) };
    const set: Row = {
      lut: nowSeconds,
      slu: nowSeconds,
      sup: { N: SINGLE_TABLE_SUPPORT },
      [OWN_METRICS]: { BOOL: true },
    };
    const { isDone } = await this.#metrics.update(workerId, { set }, {});
    if (isDone) return;
    const entityType = this.#metrics === this.#table && { entityType: { S: METRICS_ENTITY } };
    await this.#metrics.create({ leaseKey: { S: workerId }, ...entityType, ...set });
  }

  /** Removes a worker's row, so that it is given no more leases. */
  async withdraw(workerId: string): Promise<void> {
    await this.#metrics.delete(workerId, { [OWN_METRICS]: { BOOL: true } });
  }

  /** Workers of a KCL that say they live. */
  async foreignWorkers(): Promise<readonly string[]> {
    const rows = [
      ...(await this.#table.scan('', true)),
      ...(this.#metrics === this.#table ? [] : await this.#metrics.scan('', true)),
    ];
    const sinceSeconds = this.#clock.now() / 1_000 - LIVE_SECONDS;
    return rows
      .filter((row) => !row[OWN_METRICS]?.BOOL && Number(row['lut']?.N) > sinceSeconds)
      .map((row) => row['leaseKey']?.S ?? '');
  }
}
