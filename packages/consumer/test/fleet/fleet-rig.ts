import { setMaxListeners } from 'node:events';

import { MemoryLeaseTable } from '@shardline/consumer';
import { pause } from '@shardline/shared';
import { type ManualClock, seededRandom } from '@shardline/shared/testing';

import { FleetStore } from '../../src/fleet/fleet-store.js';
import type { Holdings } from '../../src/fleet/holdings.js';
import type { LeaseMode } from '../../src/fleet/lease-mode.js';
import { Membership } from '../../src/fleet/membership.js';
import { HeldLease } from '../../src/lease/held-lease.js';
import { LeaseStore } from '../../src/lease/lease-store.js';
import type { LeaseTable } from '../../src/lease/lease-table.js';
import { type Lease, type LeaseLayout, newLease, ownerOf } from '../../src/lease/lease.js';

export const FAILOVER_MS = 10_000;
const ROUND_MS = 1_000;

/** A worker without shards to read: what it holds it gives as soon as it is asked. */
export class Member implements Holdings {
  readonly workerId: string;
  readonly membership: Membership;
  readonly lagMs = 0;
  readonly held = new Map<string, HeldLease>();
  readonly #store: LeaseStore;
  readonly #clock: ManualClock;
  readonly #stopping = new AbortController();
  #isDead = false;

  constructor(
    workerId: string,
    table: LeaseTable,
    clock: ManualClock,
    {
      leaseMode = 'auto',
      maxLeases = 1_000_000,
    }: { leaseMode?: LeaseMode | 'auto'; maxLeases?: number } = {},
  ) {
    this.workerId = workerId;
    this.#clock = clock;
    setMaxListeners(0, this.#stopping.signal);
    this.#store = new LeaseStore(table);
    this.membership = new Membership(
      {
        workerId,
        incarnation: `${workerId}-${clock.monotonicMs()}`,
        table,
        store: this.#store,
        fleet: new FleetStore(table),
        leaseMode,
        keyPrefix: '',
        failoverMs: FAILOVER_MS,
        maxLeases,
        drainTimeoutMs: 30_000,
        relistMs: 120_000,
        clock,
        random: seededRandom(1),
      },
      this,
    );
  }

  async start(): Promise<void> {
    const { signal } = this.#stopping;
    await this.membership.start(signal);
    void this.#every(ROUND_MS, () => this.membership.round(signal));
    void this.#every(FAILOVER_MS / 3, async () => {
      await this.membership.beat();
      for (const held of this.held.values()) {
        if (held.lease.layout === 'kcl') await held.renew().catch(() => {});
      }
    });
  }

  /** Does nothing any more, without a word. */
  kill(): void {
    this.#isDead = true;
    this.#stopping.abort();
  }

  /** Leases that it may believe to be its own. */
  get valid(): readonly string[] {
    return [...this.held].filter(([, held]) => held.isValid).map(([key]) => key);
  }

  get heldKeys(): Iterable<string> {
    return this.held.keys();
  }

  holds(leaseKey: string): boolean {
    return this.held.has(leaseKey);
  }

  reads(): boolean {
    return true;
  }

  async take(lease: Lease): Promise<void> {
    const sentMs = this.#clock.monotonicMs();
    const taken = await this.#store.take(lease, this.workerId);
    if (taken) await this.begin(taken, sentMs);
    await this.membership.announce();
  }

  begin(lease: Lease, sentMs: number): Promise<void> {
    if (this.held.has(lease.leaseKey)) return Promise.resolve();
    const held = new HeldLease(lease, this.membership.toldMs(lease.layout, sentMs), {
      store: this.#store,
      clock: this.#clock,
      workerId: this.workerId,
      failoverMs: FAILOVER_MS,
    });
    this.held.set(lease.leaseKey, held);
    held.signal.addEventListener('abort', () => this.held.delete(lease.leaseKey));
    held.onHandOverRequested(() => void this.#handOver(held));
    return Promise.resolve();
  }

  async adopt(lease: Lease): Promise<void> {
    const sentMs = this.#clock.monotonicMs();
    const renewal = await this.#store.renew(lease, this.workerId);
    if (renewal.kind === 'renewed') await this.begin(renewal.lease, sentMs);
  }

  async passOn(lease: Lease): Promise<void> {
    await this.#store.completeHandOver(lease, this.workerId);
  }

  expect(_leaseKey: string): void {}

  async verify(leaseKey: string): Promise<void> {
    await this.held.get(leaseKey)?.renew();
  }

  seek(): void {}

  confirm(sentMs: number): void {
    for (const held of this.held.values()) held.confirm(sentMs);
  }

  async convert(layout: LeaseLayout, heartbeatSentMs: number): Promise<void> {
    for (const held of this.held.values()) await held.convert(layout, heartbeatSentMs);
  }

  abandonNative(): void {
    for (const held of this.held.values()) if (held.lease.layout === 'native') held.abandon();
  }

  async #handOver(held: HeldLease): Promise<void> {
    await pause(this.#clock, 50, this.#stopping.signal);
    if (this.#isDead) return;
    await held.release();
    await this.membership.announce();
  }

  async #every(intervalMs: number, work: () => Promise<void>): Promise<void> {
    while (!this.#isDead) {
      await pause(this.#clock, intervalMs, this.#stopping.signal);
      if (!this.#isDead) await work();
    }
  }
}

/** A table with so many leases that nobody has. */
export async function tableOf(count: number, layout: LeaseLayout): Promise<MemoryLeaseTable> {
  const table = new MemoryLeaseTable();
  const store = new LeaseStore(table);
  const checkpoint = { sequenceNumber: 'TRIM_HORIZON', subSequenceNumber: 0 };
  for (let index = 0; index < count; index += 1) {
    const shardId = `shardId-${String(index).padStart(12, '0')}`;
    const fields = { shardId, checkpoint, parentShardIds: [], hashRange: undefined };
    await store.create(
      newLease({ streamId: undefined, streamEpochSeconds: undefined, layout }, fields),
    );
  }
  return table;
}

/** By worker, how many leases the table says it has. */
export async function countsIn(table: LeaseTable): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const lease of (await new FleetStore(table).list(true)).leases) {
    const owner = ownerOf(lease) ?? 'nobody';
    counts.set(owner, (counts.get(owner) ?? 0) + 1);
  }
  return counts;
}
