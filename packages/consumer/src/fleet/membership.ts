import type { Random } from '@shardline/shared';

import type { LeaseTable } from '../lease/lease-table.js';
import type { Lease, LeaseLayout } from '../lease/lease.js';
import type { Fleet } from './fleet-store.js';
import type { Holdings } from './holdings.js';
import { KclMember } from './kcl-member.js';
import { type LeaseMode, modeOf, startingMode } from './lease-mode.js';
import { LeaseView } from './lease-view.js';
import { NativeMember, type NativeMemberOptions } from './native-member.js';

export interface MembershipOptions extends NativeMemberOptions {
  readonly table: LeaseTable;
  readonly leaseMode: LeaseMode | 'auto';
  readonly keyPrefix: string;
  readonly random: Random;
}

/** A worker's part in its fleet, in whichever mode the table is: it follows when that changes. */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #view: LeaseView;
  readonly #native: NativeMember;
  readonly #kcl: KclMember;
  #fleet: Fleet | undefined;

  constructor(options: MembershipOptions, holdings: Holdings) {
    this.#options = options;
    this.#view = new LeaseView(options.fleet, options.workerId, options.failoverMs, options.clock);
    this.#native = new NativeMember(options, holdings, this.#view);
    this.#kcl = new KclMember(options, holdings, this.#view, options.table);
  }

  /** All leases, as they were listed last. */
  get leases(): readonly Lease[] {
    return this.#view.leases;
  }

  get mode(): LeaseMode {
    if (this.#fleet) return this.#fleet.layout === 'native' ? 'native' : 'kcl2';
    return this.#kcl.version === undefined ? 'kcl2' : 'kcl3';
  }

  /** How new leases are to be kept. */
  get layout(): LeaseLayout {
    return this.#fleet?.layout ?? 'kcl';
  }

  /** Who deals out the leases, if it is one of ours. */
  get leader(): string | undefined {
    return this.#fleet?.leader;
  }

  /** True if it is for this worker to see to the fleet as a whole: of a native fleet one does, of others all. */
  get isCaretaker(): boolean {
    return !this.#fleet || this.#native.isLeader;
  }

  /** How far the application is behind, in milliseconds, as a leader of ours said last. */
  get lagMs(): number | undefined {
    return this.#fleet?.lagMs;
  }

  /** Streams this worker reads, if the application reads several. */
  set streams(streams: readonly string[] | undefined) {
    this.#native.streams = streams;
  }

  /** When others last knew that we live, for a lease that was written at a time. */
  toldMs(layout: LeaseLayout, writtenMs: number): number {
    return layout === 'kcl' ? writtenMs : (this.#native.aliveMs ?? -Infinity);
  }

  /**
   * Joins the fleet, or founds it.
   *
   * @throws ShardlineError `LEASE_MODE_MISMATCH`, `WORKER_ID_IN_USE`; what the table threw.
   */
  async start(signal: AbortSignal): Promise<void> {
    const { fleet, leaseMode, keyPrefix } = this.#options;
    const listing = await fleet.list(true);
    const isEmpty = listing.leases.length + listing.others.length === 0;
    // Where keys have a prefix no KCL can be.
    if (keyPrefix === '' && !listing.fleet && !isEmpty) await this.#kcl.open();
    const { version } = this.#kcl;
    const found = modeOf(listing, version);
    if (startingMode(found, leaseMode, version) === 'native' && found === undefined) {
      await fleet.found('native');
    }
    this.#fleet = await fleet.fleet();
    if (this.#fleet) await this.#native.join(signal);
    await this.#view.list(true);
  }

  /** One round: looks at what has changed and does our part about it. */
  async round(signal: AbortSignal): Promise<void> {
    this.#fleet = await this.#options.fleet.glance();
    if (this.#fleet) await this.#native.round(this.#fleet, signal);
    else await this.#kcl.round();
  }

  /** Tells others that we live. */
  beat(): Promise<void> {
    return this.#native.beat();
  }

  /** Tells others that leases have changed hands, or are to. */
  async announce(): Promise<void> {
    if (this.#fleet) await this.#options.fleet.announce();
  }

  /** Asks for others to take over what we hold. False if there is nobody, or nobody that can be asked. */
  async askForSuccessors(): Promise<boolean> {
    const others = this.#fleet?.workerIds.filter((id) => id !== this.#options.workerId) ?? [];
    if (others.length === 0) return false;
    await this.#native.askForSuccessors();
    return true;
  }

  /** Removes our traces from the table. */
  async leave(): Promise<void> {
    await this.#native.leave();
    await this.#kcl.leave();
  }
}
