// Symbol.for: the ESM and the CJS build, or two versions, recognise each other's errors.
const BRAND = Symbol.for('@shardline/shared/ShardlineError');

/** Every code an error of Shardline can carry; each has a row in `docs/errors.md`. */
export const ERROR_CODES = [
  'INVALID_OPTION',
  'INVALID_RECORD',
  'RECORD_TOO_LARGE',
  'RECORD_EXPIRED',
  'DAMAGED_RECORD',
  'RAW_SIZE_EXCEEDED',
  'CODEC_UNAVAILABLE',
  'STREAM_NOT_FOUND',
  'ACCESS_DENIED',
  'THROTTLED',
  'SERVICE_REJECTED',
  'SERVICE_UNAVAILABLE',
  'LEASE_LOST',
  'LEASE_TABLE_INVALID',
  'LEASE_MODE_MISMATCH',
  'WORKER_ID_IN_USE',
  'BATCH_INCOMPLETE',
  'WINDOW_STATE_TOO_LARGE',
  'CLOSED',
] as const;

/** What went wrong, as a name that never changes its meaning. */
export type ErrorCode = (typeof ERROR_CODES)[number];

export interface ShardlineErrorOptions {
  /** The same call, later and unchanged, can succeed. */
  readonly retryable?: boolean;
  /** What was refused. Never record data, a partition key or a credential. */
  readonly value?: string | number | undefined;
  /** The bound that was broken. */
  readonly limit?: string | number | undefined;
  /** What `value` and `limit` count, such as `bytes` or `ms`. */
  readonly unit?: string | undefined;
  readonly cause?: unknown;
}

/** Base of every error Shardline raises. Match on `code`, not on the class. */
export class ShardlineError extends Error {
  override readonly name: string = 'ShardlineError';
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly value: string | number | undefined;
  readonly limit: string | number | undefined;
  readonly unit: string | undefined;
  /** @internal */
  readonly [BRAND] = true;

  constructor(code: ErrorCode, message: string, options: ShardlineErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.value = options.value;
    this.limit = options.limit;
    this.unit = options.unit;
  }
}

/** True for errors raised by any loaded copy of Shardline, with this code if one is given. */
export function isShardlineError(value: unknown, code?: ErrorCode): value is ShardlineError {
  if (typeof value !== 'object' || value === null || !(BRAND in value)) return false;
  return code === undefined || (value as ShardlineError).code === code;
}
