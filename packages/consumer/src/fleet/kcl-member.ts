import type { Random } from '@shardline/shared';

import type { LeaseTable } from '../lease/lease-table.js';
import { isFinished, type Lease, ownerOf } from '../lease/lease.js';
import type { Holdings } from './holdings.js';
import { inBatches } from './in-batches.js';
import { KclRows } from './kcl-rows.js';
import { type ClientVersion, isLedByKcl, type LeaseMode } from './lease-mode.js';
import type { LeaseView } from './lease-view.js';
import type { MemberOptions } from './native-member.js';
import { planTakes } from './taking.js';

/** How often the state of a KCL 3.x is looked at, and told that we live: as often as its own workers tell it. */
const REPORT_MS = 30_000;
/**
 * A lease that stands still for longer is given by no leader of the KCL any more: one that died is followed
 * within three minutes.
 */
const LEADERLESS_MS = 200_000;
const CONCURRENT_TAKES = 16;

export interface KclMemberOptions extends MemberOptions {
  readonly leaseMode: LeaseMode | 'auto';
  readonly random: Random;
}

/**
 * A worker beside those of a KCL: takes and steals like those of a 2.x, or lives by what the leader of a 3.x
 * gives it, whichever the fleet of the KCL does at the time.
 */
export class KclMember {
  readonly #options: KclMemberOptions;
  readonly #holdings: Holdings;
  readonly #view: LeaseView;
  readonly #table: LeaseTable;
  readonly #rows: KclRows;
  #version: ClientVersion | undefined;
  #lookedMs = -Infinity;
  #hasReported = false;

  constructor(options: KclMemberOptions, holdings: Holdings, view: LeaseView, table: LeaseTable) {
    this.#options = options;
    this.#holdings = holdings;
    this.#view = view;
    this.#table = table;
    this.#rows = new KclRows(table, options.clock);
  }

  /** How the fleet of the KCL works, as last looked at; undefined if there is none of a 3.x. */
  get version(): ClientVersion | undefined {
    return this.#version;
  }

  /** Finds out which KCL there is, if any. */
  async open(): Promise<void> {
    await this.#rows.open(this.#options.leaseMode === 'kcl2');
    this.#version = await this.#rows.clientVersion();
  }

  async round(): Promise<void> {
    const { workerId, clock, relistMs } = this.#options;
    if (clock.monotonicMs() - this.#lookedMs >= REPORT_MS) await this.#report();
    const isLed = isLedByKcl(this.#version);
    const keys = isLed ? await this.#table.keysOf?.(workerId) : undefined;
    for (const key of keys ?? []) if (!this.#holdings.holds(key)) this.#holdings.expect(key);
    if (!keys || this.#view.ageMs >= relistMs) {
      await this.#view.list(false);
      await this.#view.notice(this.#holdings);
      await this.#convertStrays();
    }
    const nowMs = clock.monotonicMs();
    const { observer, leases } = this.#view;
    if (isLed) {
      const isLeft = (lease: Lease): boolean => observer.isOrphaned(lease, nowMs, LEADERLESS_MS);
      const left = leases.filter((lease) => this.#isOurs(lease) && isLeft(lease));
      await inBatches(left, CONCURRENT_TAKES, (lease) => this.#holdings.take(lease));
      return;
    }
    const { free, stolen } = planTakes({
      ...this.#options,
      leases: leases.filter((lease) => this.#holdings.reads(lease)),
      isExpired: (lease) =>
        !this.#holdings.holds(lease.leaseKey) && observer.isExpired(lease, nowMs),
      isOrphaned: (lease) => observer.isOrphaned(lease, nowMs),
    });
    await inBatches(free, CONCURRENT_TAKES, (lease) => this.#holdings.take(lease));
    // By its next renewal the owner knows.
    const noticeMs = this.#options.failoverMs / 3;
    await inBatches(stolen, CONCURRENT_TAKES, (lease) => this.#holdings.take(lease, noticeMs));
  }

  /** True for leases that are ours to take, if they are anybody's. */
  #isOurs(lease: Lease): boolean {
    const isHeld = this.#holdings.holds(lease.leaseKey);
    return lease.layout === 'kcl' && !isFinished(lease) && !isHeld && this.#holdings.reads(lease);
  }

  /** Removes our traces. */
  async leave(): Promise<void> {
    if (this.#hasReported) await this.#rows.withdraw(this.#options.workerId);
    this.#hasReported = false;
  }

  async #report(): Promise<void> {
    await this.open();
    if (this.#version !== undefined && this.#version !== 'CLIENT_VERSION_2X') {
      await this.#rows.report(this.#options.workerId);
      this.#hasReported = true;
    }
    this.#lookedMs = this.#options.clock.monotonicMs();
  }

  /** A fleet that was native until a moment ago may have left a row behind. */
  async #convertStrays(): Promise<void> {
    const { store, fleet, workerId } = this.#options;
    if (this.#view.hasWorkers) await fleet.clear();
    const strays = this.#view.leases.filter(({ layout }) => layout === 'native');
    if (strays.length === 0) return;
    await this.#holdings.convert('kcl', this.#options.clock.monotonicMs());
    for (const lease of strays) {
      const owner = ownerOf(lease);
      const isNobodys =
        owner === undefined ||
        owner === workerId ||
        isFinished(lease) ||
        this.#view.observer.isExpired(lease, this.#options.clock.monotonicMs());
      if (isNobodys && !this.#holdings.holds(lease.leaseKey)) {
        await store.convert(lease, undefined, 'kcl');
      }
    }
  }
}
