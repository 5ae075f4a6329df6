import { numberOf, parseLease } from '../lease/lease-row.js';
import type { LeaseTable, Row } from '../lease/lease-table.js';
import type { Lease, LeaseLayout } from '../lease/lease.js';

/** What the workers of a fleet have in common, in one row. */
export interface Fleet {
  /** How leases are to be kept; while they change over, some are still kept the other way. */
  readonly layout: LeaseLayout;
  /** The worker that deals out the leases. */
  readonly leader: string | undefined;
  /** Grows when leases have changed hands, or are to: then it is worth listing them. */
  readonly changes: number;
  readonly workerIds: readonly string[];
  /** How far the application is behind, as its leader last said, in milliseconds. */
  readonly lagMs: number | undefined;
}

/** A worker of a fleet, in its own row. */
export interface WorkerRow {
  readonly workerId: string;
  /** Grows while the worker lives. */
  readonly heartbeat: number;
  /** Tells a process from another of the same name. */
  readonly incarnation: string;
  readonly isLeaving: boolean;
  readonly maxLeases: number;
  /** Streams it reads, by name; undefined if the application has one stream. */
  readonly streams: readonly string[] | undefined;
  readonly lagMs: number | undefined;
}

/** What a worker tells with each heartbeat. */
export type WorkerFacts = Pick<WorkerRow, 'isLeaving' | 'maxLeases' | 'streams' | 'lagMs'>;

/** Everything in the table of an application. */
export interface Listing {
  readonly leases: readonly Lease[];
  readonly fleet: Fleet | undefined;
  readonly workers: readonly WorkerRow[];
  /** Rows of other kinds: of a KCL 3.x, or of nobody we know. */
  readonly others: readonly Row[];
}

const FLEET = {
  key: 'Shardline',
  entityType: 'SHARDLINE_FLEET',
  layout: 'shardlineLayout',
  leader: 'shardlineLeader',
  changes: 'shardlineChanges',
  workers: 'shardlineWorkers',
  lagMs: 'shardlineLagMs',
} as const;

const WORKER = {
  keyPrefix: 'Shardline:worker:',
  entityType: 'SHARDLINE_WORKER',
  heartbeat: 'shardlineHeartbeat',
  incarnation: 'shardlineIncarnation',
  isLeaving: 'shardlineLeaving',
  maxLeases: 'shardlineMaxLeases',
  streams: 'shardlineStreams',
  lagMs: 'shardlineLagMs',
} as const;

/**
 * The rows by which the workers of a fleet know of each other. There are none in a table of the KCL's
 * layout; where there are, a KCL 2.x stops with an error instead of taking leases.
 */
export class FleetStore {
  readonly #table: LeaseTable;
  readonly #keyPrefix: string;

  constructor(table: LeaseTable, keyPrefix = '') {
    this.#table = table;
    this.#keyPrefix = keyPrefix;
  }

  /** All rows. @param isConsistent - With all writes that were acknowledged before. */
  async list(isConsistent: boolean): Promise<Listing> {
    const leases: Lease[] = [];
    const workers: WorkerRow[] = [];
    const others: Row[] = [];
    let fleet: Fleet | undefined;
    for (const row of await this.#table.scan(this.#keyPrefix, isConsistent)) {
      const lease = parseLease(row, this.#keyPrefix);
      const worker = lease ? undefined : this.#parseWorker(row);
      if (lease) leases.push(lease);
      else if (worker) workers.push(worker);
      else if (row['entityType']?.S === FLEET.entityType) fleet = parseFleet(row);
      else others.push(row);
    }
    return { leases, fleet, workers, others };
  }

  /** With all writes that were acknowledged. */
  async fleet(): Promise<Fleet | undefined> {
    const row = await this.#table.get(this.#fleetKey);
    return row && parseFleet(row);
  }

  /** May miss the latest writes, but for those that made it or ended it. */
  async glance(): Promise<Fleet | undefined> {
    const [row] = await this.#table.getMany([this.#fleetKey]);
    return row ? parseFleet(row) : this.fleet();
  }

  /** Founds a fleet, unless there is one. */
  async found(layout: LeaseLayout): Promise<void> {
    await this.#table.create({
      leaseKey: { S: this.#fleetKey },
      entityType: { S: FLEET.entityType },
      [FLEET.layout]: { S: layout },
      [FLEET.changes]: { N: '0' },
    });
  }

  /** Says how leases are to be kept from now on. False if there is no fleet. */
  async setLayout(layout: LeaseLayout): Promise<boolean> {
    const change = { set: { [FLEET.layout]: { S: layout } }, add: { [FLEET.changes]: ONE } };
    return (await this.#table.update(this.#fleetKey, change, {})).isDone;
  }

  /** Tells all that leases have changed hands, or are to. */
  async announce(): Promise<void> {
    await this.#table.update(this.#fleetKey, { add: { [FLEET.changes]: ONE } }, {});
  }

  /** Tells how far the application is behind. */
  async setLag(lagMs: number): Promise<void> {
    const change = { set: { [FLEET.lagMs]: { N: String(lagMs) } } };
    await this.#table.update(this.#fleetKey, change, {});
  }

  /** Makes a worker the leader in place of another. False if somebody else was quicker. */
  async lead(workerId: string, before: string | undefined): Promise<boolean> {
    const { isDone, row } = await this.#table.update(
      this.#fleetKey,
      { set: { [FLEET.leader]: { S: workerId } }, add: { [FLEET.changes]: ONE } },
      { [FLEET.leader]: before === undefined ? 'absent' : { S: before } },
    );
    return isDone || row?.[FLEET.leader]?.S === workerId;
  }

  /** Gives the lead up. */
  async resign(workerId: string): Promise<void> {
    await this.#table.update(
      this.#fleetKey,
      { remove: [FLEET.leader], add: { [FLEET.changes]: ONE } },
      { [FLEET.leader]: { S: workerId } },
    );
  }

  /** One worker, with all writes that were acknowledged. */
  async worker(workerId: string): Promise<WorkerRow | undefined> {
    const row = await this.#table.get(this.#workerKey(workerId));
    return row && this.#parseWorker(row);
  }

  /** Those of several workers that are there; may miss the latest writes. */
  async workers(workerIds: readonly string[]): Promise<readonly WorkerRow[]> {
    const rows = await this.#table.getMany(workerIds.map((id) => this.#workerKey(id)));
    return rows.flatMap((row) => this.#parseWorker(row) ?? []);
  }

  /**
   * Enters a worker in the fleet. False if there is one of its name.
   *
   * @param incarnation - Of this process.
   */
  async join(workerId: string, incarnation: string, facts: WorkerFacts): Promise<boolean> {
    // First: a row that nobody knows of would be watched by nobody.
    await this.enroll(workerId);
    const isNew = await this.#table.create({
      leaseKey: { S: this.#workerKey(workerId) },
      entityType: { S: WORKER.entityType },
      [WORKER.heartbeat]: { N: '1' },
      [WORKER.incarnation]: { S: incarnation },
      ...factAttributes(facts),
    });
    return isNew || (await this.worker(workerId))?.incarnation === incarnation;
  }

  /** Adds a worker to the list of all. */
  async enroll(workerId: string): Promise<void> {
    const roster = { add: { [FLEET.workers]: { SS: [workerId] }, [FLEET.changes]: ONE } };
    await this.#table.update(this.#fleetKey, roster, {});
  }

  /** Tells that a worker lives. False if the fleet has given it up, or another has its name. */
  async beat(workerId: string, incarnation: string, facts: WorkerFacts): Promise<boolean> {
    const set = factAttributes(facts);
    const { isDone } = await this.#table.update(
      this.#workerKey(workerId),
      {
        set,
        remove: [WORKER.isLeaving, WORKER.lagMs].filter((name) => !(name in set)),
        add: { [WORKER.heartbeat]: ONE },
      },
      { [WORKER.incarnation]: { S: incarnation } },
    );
    return isDone;
  }

  /**
   * Strikes a worker off. False if it lives.
   *
   * @param worker - As it was last seen.
   */
  async remove({ workerId, incarnation, heartbeat }: WorkerRow): Promise<boolean> {
    const isRemoved = await this.#table.delete(this.#workerKey(workerId), {
      [WORKER.incarnation]: { S: incarnation },
      [WORKER.heartbeat]: { N: String(heartbeat) },
    });
    if (isRemoved) await this.forget(workerId);
    return isRemoved;
  }

  /** Removes a worker's own traces. */
  async leave(workerId: string, incarnation: string): Promise<void> {
    await this.#table.delete(this.#workerKey(workerId), {
      [WORKER.incarnation]: { S: incarnation },
    });
    await this.forget(workerId);
  }

  /** Takes a worker off the list of all. */
  async forget(workerId: string): Promise<void> {
    const change = {
      take: { [FLEET.workers]: { SS: [workerId] } },
      add: { [FLEET.changes]: ONE },
    };
    await this.#table.update(this.#fleetKey, change, {});
  }

  /** Removes the fleet's row: leases are kept as the KCL does from now on. */
  async dissolve(): Promise<void> {
    await this.#table.delete(this.#fleetKey);
  }

  /** Removes what is left of workers, if there is no fleet. */
  async clear(): Promise<void> {
    const { workers } = await this.list(true);
    if (workers.length === 0 || (await this.fleet())) return;
    for (const { workerId } of workers) await this.#table.delete(this.#workerKey(workerId));
  }

  get #fleetKey(): string {
    return this.#keyPrefix + FLEET.key;
  }

  #workerKey(workerId: string): string {
    return this.#keyPrefix + WORKER.keyPrefix + workerId;
  }

  #parseWorker(row: Row): WorkerRow | undefined {
    const incarnation = row[WORKER.incarnation]?.S;
    const heartbeat = numberOf(row, WORKER.heartbeat);
    if (incarnation === undefined || heartbeat === undefined) return undefined;
    return {
      workerId: (row['leaseKey']?.S ?? '').slice(this.#workerKey('').length),
      heartbeat,
      incarnation,
      isLeaving: row[WORKER.isLeaving]?.BOOL ?? false,
      maxLeases: numberOf(row, WORKER.maxLeases) ?? Infinity,
      streams: row[WORKER.streams]?.SS,
      lagMs: numberOf(row, WORKER.lagMs),
    };
  }
}

const ONE = { N: '1' };

function factAttributes({ isLeaving, maxLeases, streams, lagMs }: WorkerFacts): Row {
  return {
    [WORKER.maxLeases]: { N: String(maxLeases) },
    ...(isLeaving && { [WORKER.isLeaving]: { BOOL: true } }),
    ...(streams && streams.length > 0 && { [WORKER.streams]: { SS: [...streams] } }),
    ...(lagMs !== undefined && { [WORKER.lagMs]: { N: String(lagMs) } }),
  };
}

function parseFleet(row: Row): Fleet {
  return {
    layout: row[FLEET.layout]?.S === 'kcl' ? 'kcl' : 'native',
    leader: row[FLEET.leader]?.S,
    changes: numberOf(row, FLEET.changes) ?? 0,
    workerIds: row[FLEET.workers]?.SS ?? [],
    lagMs: numberOf(row, FLEET.lagMs),
  };
}
