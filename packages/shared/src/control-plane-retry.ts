import pRetry from 'p-retry';

import { classifyAwsError } from './aws-errors.js';
import { type BackoffRule, fullJitterMs } from './backoff.js';
import { type Clock, sleep } from './clock.js';
import type { Random } from './random.js';

export interface ControlPlaneRetryOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly signal?: AbortSignal | undefined;
  /** How often to try again after the first failure. @defaultValue 8 */
  readonly retries?: number;
  /** @defaultValue 100 ms growing to 5 s */
  readonly backoff?: BackoffRule;
}

/**
 * Repeats a call that describes or changes a stream or a table while the service throttles it or is
 * unreachable. Costs some microseconds a call: not for records.
 */
export function retryControlPlane<Result>(
  call: () => Promise<Result>,
  options: ControlPlaneRetryOptions,
): Promise<Result> {
  const { clock, random, signal, retries = 8, backoff = { baseMs: 100, capMs: 5_000 } } = options;
  return pRetry(call, {
    retries,
    // The waiting is ours, on the caller's clock; p-retry counts and decides.
    minTimeout: 0,
    maxTimeout: 0,
    ...(signal && { signal }),
    shouldRetry: ({ error }) => {
      const kind = classifyAwsError(error);
      return kind === 'throttle' || kind === 'transient';
    },
    onFailedAttempt: async ({ error, attemptNumber, retriesLeft }) => {
      const kind = classifyAwsError(error);
      if (retriesLeft === 0 || (kind !== 'throttle' && kind !== 'transient')) return;
      await sleep(clock, fullJitterMs(backoff, attemptNumber - 1, random), signal);
    },
  });
}
