import type { HashRange } from '@shardline/shared';

import {
  LAYOUTS,
  newRow,
  OWN,
  parseLease,
  progressAttributes,
  rangeAttributes,
  seekAttribute,
} from './lease-row.js';
import type { Change, Conditions, LeaseTable, Row } from './lease-table.js';
import {
  isSameProgress,
  type Lease,
  type LeaseLayout,
  ownerOf,
  type Progress,
  type SeekTarget,
} from './lease.js';

/** What became of a renewal. */
export type Renewal =
  | { readonly kind: 'renewed'; readonly lease: Lease }
  /** Still ours, not yet renewed: another worker waits for it. */
  | { readonly kind: 'handOverRequested'; readonly lease: Lease }
  | { readonly kind: 'lost' };

/**
 * Leases in a table, in the KCL's own attributes and under its conditions. Every method is one
 * conditional write or read; a condition that fails is a result, not an error. A write whose answer was
 * lost is recognised as ours when it is tried again. Attributes it does not know are left alone.
 */
export class LeaseStore {
  readonly #table: LeaseTable;
  readonly #keyPrefix: string;

  /** @param keyPrefix - What the keys of the application's rows begin with. */
  constructor(table: LeaseTable, keyPrefix = '') {
    this.#table = table;
    this.#keyPrefix = keyPrefix;
  }

  /** One lease, with all writes that were acknowledged. */
  async get(leaseKey: string): Promise<Lease | undefined> {
    return this.#parse(await this.#table.get(this.#keyPrefix + leaseKey));
  }

  /** False if there is one already. */
  create(lease: Lease): Promise<boolean> {
    const row = newRow(lease);
    return this.#table.create({ ...row, leaseKey: { S: this.#keyPrefix + lease.leaseKey } });
  }

  /**
   * Adds one to the counter, if it is what we think it is.
   *
   * @param throughputKBps - What was measured of the shard, if anything.
   */
  async renew(lease: Lease, workerId: string, throughputKBps?: number): Promise<Renewal> {
    const { isDone, current } = await this.#write(
      lease,
      { set: { ...throughputAttribute(throughputKBps), ...markOf(lease, workerId) } },
      lease.checkpointOwner === undefined ? { checkpointOwner: 'absent' } : {},
    );
    if (!current) return { kind: 'lost' };
    if (isDone) return { kind: 'renewed', lease: current };
    return renewalAfterRefusal(lease, current, workerId);
  }

  /**
   * Makes a worker the owner, if the counter is what we think it is. Undefined if it is not.
   *
   * @param workerId - Ourselves, or whom the leader gives it to.
   */
  async take(lease: Lease, workerId: string): Promise<Lease | undefined> {
    const { isDone, current } = await this.#write(lease, {
      set: { leaseOwner: { S: workerId }, ...markOf(lease, workerId) },
      remove: ['checkpointOwner', OWN.handOverMs],
      add: { ownerSwitchesSinceCheckpoint: { N: '1' } },
    });
    const isOurs = current && (isDone || isOwnWrite(lease, current, workerId));
    return isOurs ? current : undefined;
  }

  /**
   * Asks the owner for the shard. False if it is not the owner, or somebody else asked before.
   *
   * @param handOverMs - How long its handlers may take.
   */
  async requestHandOver(lease: Lease, nextOwner: string, handOverMs?: number): Promise<boolean> {
    const { leaseOwner } = lease;
    if (leaseOwner === undefined) return false;
    const { isDone } = await this.#table.update(
      this.#keyPrefix + lease.leaseKey,
      {
        set: {
          leaseOwner: { S: nextOwner },
          checkpointOwner: { S: leaseOwner },
          ...(handOverMs !== undefined && { [OWN.handOverMs]: { N: String(handOverMs) } }),
        },
      },
      { leaseOwner: { S: leaseOwner }, checkpointOwner: 'absent' },
    );
    return isDone;
  }

  /** Ends a hand-over: the next owner owns it. False if the lease is not ours any more. */
  async completeHandOver(lease: Lease, workerId: string): Promise<boolean> {
    const change = { remove: ['checkpointOwner', OWN.handOverMs] };
    return (await this.#write(lease, change, { checkpointOwner: { S: workerId } })).isDone;
  }

  /** Gives the shard to nobody. False if the lease is not ours any more, or somebody asked for it. */
  async release(lease: Lease, workerId: string): Promise<boolean> {
    const change = { remove: ['leaseOwner'] };
    return (await this.#write(lease, change, { leaseOwner: { S: workerId } })).isDone;
  }

  /** Stores how far its owner is, and counts as a renewal. Undefined if the lease is not ours any more. */
  checkpoint(
    lease: Lease,
    workerId: string,
    progress: Progress,
    throughputKBps?: number,
  ): Promise<Lease | undefined> {
    return this.#progress(lease, workerId, progress, {
      set: {
        ownerSwitchesSinceCheckpoint: { N: '0' },
        ...throughputAttribute(throughputKBps),
        ...markOf(lease, workerId),
      },
    });
  }

  /** Asks whoever reads the shard, now or next, to go on elsewhere. False if there is no such lease. */
  async requestSeek(leaseKey: string, target: SeekTarget): Promise<boolean> {
    const change = { set: { [OWN.seek]: seekAttribute(target) } };
    return (await this.#table.update(this.#keyPrefix + leaseKey, change, {})).isDone;
  }

  /**
   * Moves the position anywhere, back too, and takes back what was asked for by
   * {@link requestSeek}; counts as a renewal. Undefined if the counter is not what we think it is.
   *
   * @param workerId - Of the owner; undefined if it has none.
   */
  seek(lease: Lease, workerId: string | undefined, progress: Progress): Promise<Lease | undefined> {
    return this.#progress(lease, workerId, progress, { remove: [OWN.seek] });
  }

  /** Keeps the row in another layout; counts as a renewal. Undefined if the counter is not what we think it is. */
  async convert(
    lease: Lease,
    workerId: string | undefined,
    layout: LeaseLayout,
  ): Promise<Lease | undefined> {
    const before = LAYOUTS[lease.layout].counter;
    const { counter, entityType } = LAYOUTS[layout];
    const next = String(lease.leaseCounter + 1);
    const { row, isDone } = await this.#table.update(
      this.#keyPrefix + lease.leaseKey,
      {
        set: {
          [counter]: { N: next },
          entityType: { S: entityType },
          ...(layout === 'kcl' && workerId !== undefined && { [OWN.owner]: { S: workerId } }),
        },
        remove: [before],
      },
      { [before]: { N: String(lease.leaseCounter) } },
    );
    const current = this.#parse(row);
    const isOurs = current?.layout === layout && (isDone || isOwnWrite(lease, current, workerId));
    return isOurs ? current : undefined;
  }

  /** Notes the children of a shard; no condition but that the lease exists. */
  async setChildren(leaseKey: string, childShardIds: readonly string[]): Promise<void> {
    const change = { set: { childShardIds: { SS: [...childShardIds] } } };
    await this.#table.update(this.#keyPrefix + leaseKey, change, {});
  }

  /** Fills in what rows of others lack; no condition but that the lease exists. */
  async describe(
    leaseKey: string,
    range: HashRange,
    streamEpochSeconds: number | undefined,
  ): Promise<void> {
    const epoch = streamEpochSeconds !== undefined && {
      [OWN.streamEpochSeconds]: { N: String(streamEpochSeconds) },
    };
    const change = { set: { ...rangeAttributes(range), ...epoch } };
    await this.#table.update(this.#keyPrefix + leaseKey, change, {});
  }

  async delete(leaseKey: string): Promise<void> {
    await this.#table.delete(this.#keyPrefix + leaseKey);
  }

  /** Writes how far the owner is: every attribute of it is set or removed. */
  async #progress(
    lease: Lease,
    workerId: string | undefined,
    progress: Progress,
    besides: Pick<Change, 'set' | 'remove'>,
  ): Promise<Lease | undefined> {
    const attributes = Object.entries(progressAttributes(progress));
    const set: Row = { ...besides.set };
    const remove = [...(besides.remove ?? [])];
    for (const [name, value] of attributes) {
      if (value) set[name] = value;
      else remove.push(name);
    }
    const { isDone, current } = await this.#write(lease, { set, remove });
    const isOurs =
      current &&
      (isDone || (isOwnWrite(lease, current, workerId) && isSameProgress(current, progress)));
    return isOurs ? current : undefined;
  }

  /** A write that adds one to the counter, if that is what we think it is. */
  async #write(
    lease: Lease,
    change: Change,
    conditions: Conditions = {},
  ): Promise<{ readonly isDone: boolean; readonly current: Lease | undefined }> {
    const { counter } = LAYOUTS[lease.layout];
    const { isDone, row } = await this.#table.update(
      this.#keyPrefix + lease.leaseKey,
      { ...change, set: { ...change.set, [counter]: { N: String(lease.leaseCounter + 1) } } },
      { ...conditions, [counter]: { N: String(lease.leaseCounter) } },
    );
    return { isDone, current: this.#parse(row) };
  }

  #parse(row: Row | undefined): Lease | undefined {
    return row && parseLease(row, this.#keyPrefix);
  }
}

function throughputAttribute(throughputKBps: number | undefined): Row {
  return throughputKBps === undefined ? {} : { throughputKBps: { N: throughputKBps.toFixed(6) } };
}

/** In the KCL's layout a row tells whether its owner is one of ours. */
function markOf({ layout }: Lease, workerId: string): Row {
  return layout === 'kcl' ? { [OWN.owner]: { S: workerId } } : {};
}

/** True if what stands in the store is what our own write, whose answer was lost, put there. */
function isOwnWrite(before: Lease, current: Lease, workerId: string | undefined): boolean {
  return current.leaseCounter === before.leaseCounter + 1 && ownerOf(current) === workerId;
}

/** What a renewal that was refused means, given what stands in the store. */
function renewalAfterRefusal(lease: Lease, current: Lease, workerId: string): Renewal {
  const isUnchanged = current.leaseCounter === lease.leaseCounter;
  if (ownerOf(current) !== workerId || (!isUnchanged && !isOwnWrite(lease, current, workerId))) {
    return { kind: 'lost' };
  }
  const isNewHandOver = current.checkpointOwner !== undefined && !lease.checkpointOwner;
  return { kind: isNewHandOver ? 'handOverRequested' : 'renewed', lease: current };
}
