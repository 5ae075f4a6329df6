import { type AwsErrorClass, classifyErrorName, type ErrorCode } from '@shardline/shared';

/** What the service answered for one entry of PutRecords. */
export type EntryOutcome =
  | { readonly shardId: string; readonly sequenceNumber: string }
  | { readonly errorCode: string };

/** What to do with an entry that was answered. */
export type Verdict =
  | { readonly kind: 'delivered' }
  /** It landed on a shard whose range the map does not hold: look again, then ask again. */
  | { readonly kind: 'unknownShard' }
  /** Readers that check ranges drop it: send all its records again. */
  | { readonly kind: 'resend' }
  | { readonly kind: 'retry'; readonly throttled: boolean }
  | { readonly kind: 'dead'; readonly code: ErrorCode };

/** Where an entry landed, compared with where it was meant to go. */
export type Landing = 'predicted' | 'elsewhereInside' | 'elsewhereOutside' | 'unknown';

/**
 * Judges one entry. A Kinesis record that landed on another shard than predicted is judged as a
 * whole: readers drop all of an aggregate if one record of it lies outside the shard.
 */
export function judge(outcome: EntryOutcome, isAggregate: boolean, landing: Landing): Verdict {
  if ('errorCode' in outcome) return judgeError(classifyErrorName(outcome.errorCode));
  if (!isAggregate || landing === 'predicted' || landing === 'elsewhereInside') {
    return { kind: 'delivered' };
  }
  return { kind: landing === 'unknown' ? 'unknownShard' : 'resend' };
}

function judgeError(kind: AwsErrorClass): Verdict {
  switch (kind) {
    case 'throttle':
      return { kind: 'retry', throttled: true };
    case 'denied':
      return { kind: 'dead', code: 'ACCESS_DENIED' };
    case 'poison':
    case 'permanent':
    case 'notFound':
      return { kind: 'dead', code: 'SERVICE_REJECTED' };
    case 'transient':
    case 'credentials':
    case 'unknown':
      // Until the records' time is up: a name we do not know may be a passing trouble.
      return { kind: 'retry', throttled: false };
  }
}

/** What to do with a request that failed as a whole. */
export type RequestVerdict = 'retry' | 'bisect' | 'fail';

/**
 * Judges a whole request.
 *
 * @param refusals - Requests that failed in a row before this one.
 * @param waitsWhenRefused - Whether a missing stream and refused credentials are waited out.
 */
export function judgeRequest(
  kind: AwsErrorClass,
  refusals: number,
  waitsWhenRefused: boolean,
): RequestVerdict {
  switch (kind) {
    case 'throttle':
    case 'transient':
    case 'unknown':
      return 'retry';
    case 'credentials':
      // The provider refreshes on the next call; a second refusal is final.
      return refusals === 0 || waitsWhenRefused ? 'retry' : 'fail';
    case 'poison':
      return 'bisect';
    case 'notFound':
    case 'denied':
    case 'permanent':
      return waitsWhenRefused ? 'retry' : 'fail';
  }
}
