import { ShardlineError } from '@shardline/shared';

import type { PartialBatch } from './handler.js';

/** When a handler is not called again with records it failed on. */
export interface FailurePolicy {
  /** 0 is without end. */
  readonly maxAttempts: number;
  /** 0 is without end. Unit: milliseconds. */
  readonly maxRecordAgeMs: number;
  /** Halve a batch that failed, so that one bad record does not take others with it. */
  readonly bisectBatches: boolean;
}

/** What is to become of records a handler failed on. */
export type FailureVerdict =
  | { readonly kind: 'retry' }
  /** Two batches, each on its own from its first attempt. */
  | { readonly kind: 'split'; readonly at: number }
  | { readonly kind: 'giveUp'; readonly reason: 'attempts' | 'age' };

/** A call that failed. */
export interface FailedCall {
  /** 1 for the first. */
  readonly attempt: number;
  readonly items: number;
  /** Of the youngest record: a batch is too old when all of it is. */
  readonly ageMs: number;
}

/** Decides about records a handler failed on. */
export function judgeFailure(
  { attempt, items, ageMs }: FailedCall,
  policy: FailurePolicy,
): FailureVerdict {
  const { maxAttempts, maxRecordAgeMs, bisectBatches } = policy;
  if (maxRecordAgeMs > 0 && ageMs > maxRecordAgeMs) return { kind: 'giveUp', reason: 'age' };
  if (bisectBatches && items > 1) return { kind: 'split', at: Math.ceil(items / 2) };
  if (maxAttempts > 0 && attempt >= maxAttempts) return { kind: 'giveUp', reason: 'attempts' };
  return { kind: 'retry' };
}

/**
 * How many items of a batch the handler says it has dealt with.
 *
 * @throws ShardlineError `INVALID_OPTION` if it names an item it was not given: then none counts.
 */
export function handledOf(partial: PartialBatch | void, items: number): number {
  if (!partial) return items;
  const { retryFrom } = partial;
  if (Number.isInteger(retryFrom) && retryFrom >= 0 && retryFrom <= items) return retryFrom;
  throw new ShardlineError(
    'INVALID_OPTION',
    `\`retryFrom\` must be an integer from 0 to ${items} records, got ${String(retryFrom)}`,
    { value: String(retryFrom), limit: `0 to ${items}`, unit: 'records' },
  );
}
