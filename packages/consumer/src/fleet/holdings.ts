import type { Lease, LeaseLayout } from '../lease/lease.js';

/** The leases a worker holds, as whatever deals them out needs to know and to change them. */
export interface Holdings {
  readonly heldKeys: Iterable<string>;
  holds(leaseKey: string): boolean;
  /** True if a lease is of a stream we read. */
  reads(lease: Lease): boolean;
  /**
   * Takes a lease.
   *
   * @param noticeMs - How long its owner needs to notice, if one lives: nothing is begun before.
   */
  take(lease: Lease, noticeMs?: number): Promise<void>;
  /** Puts a worker to a lease that was just taken in our name. @param sentMs - When the request for it was sent. */
  begin(lease: Lease, sentMs: number): Promise<void>;
  /** Puts a worker to a lease that stands in our name, if it still does. */
  adopt(lease: Lease): Promise<void>;
  /** Gives on a lease that was asked of us and that we do not hold. */
  passOn(lease: Lease): Promise<void>;
  /** Another worker has been asked to hand it over to us. */
  expect(leaseKey: string): void;
  /** Asks the table whether a lease is still ours, and whether somebody wants it. */
  verify(leaseKey: string): Promise<void>;
  /** Somebody wants a shard to be read from elsewhere. */
  seek(lease: Lease): void;
  /** Others were told that we live. @param sentMs - When, on the monotonic clock. */
  confirm(sentMs: number): void;
  /** Keeps the rows of all leases in a layout. @param heartbeatSentMs - When others were last told that we live. */
  convert(layout: LeaseLayout, heartbeatSentMs: number): Promise<void>;
  /** Ends all native leases: nobody knows any more that we live. */
  abandonNative(): void;
  /** How far the shards we hold are behind, in milliseconds; undefined if that is not known. */
  readonly lagMs: number | undefined;
}
