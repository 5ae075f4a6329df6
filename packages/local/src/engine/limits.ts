/** What the service allows; every number can be changed, and `null` lifts the limit. */
export interface Limits {
  /** Unit: records per second and shard. @defaultValue 1000 */
  readonly writeRecordsPerSecond: number | null;
  /** Data and partition keys. Unit: bytes per second and shard. @defaultValue 1 MiB */
  readonly writeBytesPerSecond: number | null;
  /** GetRecords calls. Unit: calls per second and shard. @defaultValue 5 */
  readonly readCallsPerSecond: number | null;
  /** GetRecords, shared by all readers. Unit: bytes per second and shard. @defaultValue 2 MiB */
  readonly readBytesPerSecond: number | null;
  /** How long after a subscription began another for the same consumer and shard is refused. Unit: milliseconds. @defaultValue 5000 */
  readonly resubscribePauseMs: number;
  /** Life of a subscription. Unit: milliseconds. @defaultValue 300000 */
  readonly subscriptionLifeMs: number;
  /** Life of a shard iterator. Unit: milliseconds. @defaultValue 300000 */
  readonly iteratorLifeMs: number;
}

/** @see https://docs.aws.amazon.com/streams/latest/dev/service-sizes-and-limits.html */
export const SERVICE_LIMITS: Limits = {
  writeRecordsPerSecond: 1_000,
  writeBytesPerSecond: 2 ** 20,
  readCallsPerSecond: 5,
  readBytesPerSecond: 2 * 2 ** 20,
  resubscribePauseMs: 5_000,
  subscriptionLifeMs: 300_000,
  iteratorLifeMs: 300_000,
};

/** No rate is limited; iterators and subscriptions live as long as the service's. */
export const NO_RATE_LIMITS: Limits = {
  ...SERVICE_LIMITS,
  writeRecordsPerSecond: null,
  writeBytesPerSecond: null,
  readCallsPerSecond: null,
  readBytesPerSecond: null,
};

/** Bytes of records one GetRecords call or one subscription event gives at most. */
export const MAX_READ_BYTES = 10 * 2 ** 20;
/** Records one GetRecords call gives at most. */
export const MAX_READ_RECORDS = 10_000;
/** Data and partition keys of one PutRecords call. */
export const MAX_PUT_BYTES = 10 * 2 ** 20;
