import { type ErrorCode, isShardlineError, ShardlineError } from './errors.js';

/**
 * What to do about an error of the service or of the way to it.
 *
 * - `throttle`: slow down, then the same call can succeed.
 * - `transient`: the same call can succeed; it may also have been carried out already.
 * - `credentials`: refresh once, then treat as `permanent`.
 * - `poison`: something in the request is refused; the rest of it may be fine.
 * - `notFound`, `denied`, `permanent`: the same call will fail again.
 * - `unknown`: a name this table does not hold.
 */
export type AwsErrorClass =
  | 'throttle'
  | 'transient'
  | 'credentials'
  | 'poison'
  | 'notFound'
  | 'denied'
  | 'permanent'
  | 'unknown';

const CLASS_BY_NAME: Readonly<Record<string, AwsErrorClass>> = {
  ProvisionedThroughputExceededException: 'throttle',
  ThrottlingException: 'throttle',
  LimitExceededException: 'throttle',
  KMSThrottlingException: 'throttle',
  RequestLimitExceeded: 'throttle',
  TooManyRequestsException: 'throttle',
  SlowDown: 'throttle',
  InternalFailure: 'transient',
  InternalFailureException: 'transient',
  InternalServerError: 'transient',
  ServiceUnavailable: 'transient',
  ServiceUnavailableException: 'transient',
  RequestTimeout: 'transient',
  TimeoutError: 'transient',
  ECONNRESET: 'transient',
  ECONNREFUSED: 'transient',
  EPIPE: 'transient',
  ETIMEDOUT: 'transient',
  EHOSTUNREACH: 'transient',
  ENETUNREACH: 'transient',
  ENOTFOUND: 'transient',
  EAI_AGAIN: 'transient',
  ERR_HTTP2_STREAM_CANCEL: 'transient',
  ERR_HTTP2_STREAM_ERROR: 'transient',
  ERR_HTTP2_SESSION_ERROR: 'transient',
  ERR_HTTP2_INVALID_SESSION: 'transient',
  ERR_HTTP2_GOAWAY_SESSION: 'transient',
  ExpiredTokenException: 'credentials',
  ExpiredToken: 'credentials',
  RequestExpired: 'credentials',
  RequestTimeTooSkewed: 'credentials',
  ValidationException: 'poison',
  InvalidArgumentException: 'poison',
  SerializationException: 'poison',
  ResourceNotFoundException: 'notFound',
  AccessDeniedException: 'denied',
  UnrecognizedClientException: 'denied',
  InvalidSignatureException: 'denied',
  IncompleteSignatureException: 'denied',
  MissingAuthenticationTokenException: 'denied',
  InvalidClientTokenId: 'denied',
  CredentialsProviderError: 'denied',
  KMSAccessDeniedException: 'denied',
  KMSDisabledException: 'permanent',
  KMSInvalidStateException: 'permanent',
  KMSNotFoundException: 'permanent',
  KMSOptInRequired: 'permanent',
  UnknownOperationException: 'permanent',
};

const TRANSIENT_STATUS = new Set([500, 502, 503, 504]);

interface AwsErrorShape {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly cause?: unknown;
}

/** Classifies by the service's error code alone, such as an `ErrorCode` inside PutRecords. */
export function classifyErrorName(name: string): AwsErrorClass {
  return Object.hasOwn(CLASS_BY_NAME, name) ? (CLASS_BY_NAME[name] ?? 'unknown') : 'unknown';
}

/** Classifies what an AWS SDK client threw, by name, system code and HTTP status. */
export function classifyAwsError(error: unknown): AwsErrorClass {
  if (typeof error !== 'object' || error === null) return 'unknown';
  const { name, code, $metadata } = error as AwsErrorShape;
  for (const candidate of [name, code]) {
    if (typeof candidate !== 'string') continue;
    const found = classifyErrorName(candidate);
    if (found !== 'unknown') return found;
  }
  const status = $metadata?.httpStatusCode;
  if (status === 429) return 'throttle';
  if (status === 413) return 'poison';
  if (status !== undefined && TRANSIENT_STATUS.has(status)) return 'transient';
  if (status === 403) return 'denied';
  return 'unknown';
}

/** The name under which the service, the SDK or the system reported the error. */
export function awsErrorName(error: unknown): string {
  if (typeof error !== 'object' || error === null) return 'Unknown';
  const { name, code } = error as AwsErrorShape;
  if (typeof code === 'string' && (typeof name !== 'string' || name === 'Error')) return code;
  return typeof name === 'string' ? name : 'Unknown';
}

const CODE_BY_CLASS: Readonly<Record<AwsErrorClass, ErrorCode>> = {
  throttle: 'THROTTLED',
  transient: 'SERVICE_UNAVAILABLE',
  credentials: 'ACCESS_DENIED',
  poison: 'SERVICE_REJECTED',
  notFound: 'STREAM_NOT_FOUND',
  denied: 'ACCESS_DENIED',
  permanent: 'SERVICE_REJECTED',
  unknown: 'SERVICE_REJECTED',
};

/**
 * Wraps what an AWS SDK client threw, once, where it enters.
 *
 * @param what - Which call it was.
 * @param right - The IAM action the call needs.
 */
export function fromAwsError(error: unknown, what: string, right?: string): ShardlineError {
  if (isShardlineError(error)) return error;
  const kind = classifyAwsError(error);
  const name = awsErrorName(error);
  const needed = kind === 'denied' && right !== undefined ? `: it needs the right ${right}` : '';
  return new ShardlineError(CODE_BY_CLASS[kind], `${what} failed with ${name}${needed}`, {
    retryable: kind === 'throttle' || kind === 'transient',
    value: name,
    cause: error,
  });
}
