import type { Random } from '@shardline/shared';

import type { KinesisEngine, Output } from './engine/engine.js';
import { ServiceFault } from './engine/service-fault.js';
import type { Input } from './engine/validation.js';

/** What goes wrong. */
export type Fault =
  /** The error is answered and nothing is done. */
  | {
      readonly kind: 'error';
      readonly name: string;
      readonly status?: number;
      readonly message?: string;
    }
  /** The work is done and the caller is told that it failed. */
  | {
      readonly kind: 'errorAfter';
      readonly name: string;
      readonly status?: number;
      readonly message?: string;
    }
  /** The answer comes later. Unit: milliseconds. */
  | { readonly kind: 'delay'; readonly delayMs: number }
  /** The connection is cut and nothing is done. */
  | { readonly kind: 'drop' }
  /** The work is done and the connection is cut. */
  | { readonly kind: 'dropAfter' }
  /** The work is done, half of the answer is sent, and the connection is cut. */
  | { readonly kind: 'truncate' }
  /** A subscription begins so many records before its position: they are given twice. */
  | { readonly kind: 'repeat'; readonly records: number }
  /** Some records of a PutRecords call are refused; `ratio` of them, 0 to 1, chosen by chance. */
  | { readonly kind: 'rejectRecords'; readonly errorCode: string; readonly ratio: number };

/** When something goes wrong. */
export interface FaultRule {
  /** @defaultValue every operation */
  readonly operation?: string;
  /** Only requests that name this shard. */
  readonly shardId?: string;
  /** Only subscriptions of the fan-out consumer of this name. */
  readonly consumerName?: string;
  /** How often; `Infinity` until it is removed. @defaultValue 1 */
  readonly times?: number;
  /** 0 to 1. @defaultValue 1 */
  readonly probability?: number;
  readonly fault: Fault;
}

/** Faults to come, in the order they were asked for. */
export class Faults {
  readonly #random: Random;
  readonly #rules = new Map<FaultRule, number>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Makes something go wrong. @returns A function that takes the rule back. */
  inject(rule: FaultRule): () => void {
    this.#rules.set(rule, rule.times ?? 1);
    return () => this.#rules.delete(rule);
  }

  clear(): void {
    this.#rules.clear();
  }

  /** The fault for this request, if there is one; it is then counted. */
  next(operation: string, input: Input): Fault | undefined {
    for (const [rule, left] of this.#rules) {
      if (rule.operation !== undefined && rule.operation !== operation) continue;
      if (rule.shardId !== undefined && rule.shardId !== input['ShardId']) continue;
      const arn = input['ConsumerARN'] as string | undefined;
      const isOther =
        rule.consumerName !== undefined && !arn?.includes(`/consumer/${rule.consumerName}:`);
      if (isOther) continue;
      if (rule.probability !== undefined && this.#random() >= rule.probability) continue;
      if (left <= 1) this.#rules.delete(rule);
      else this.#rules.set(rule, left - 1);
      return rule.fault;
    }
    return undefined;
  }

  /** Carries out a PutRecords request of which some records are refused. */
  putSome(
    engine: KinesisEngine,
    input: Input,
    fault: Extract<Fault, { kind: 'rejectRecords' }>,
  ): Output {
    const entries = input['Records'] as readonly unknown[];
    const refused = entries.map(() => this.#random() < fault.ratio);
    const kept = entries.filter((_, index) => !refused[index]);
    const output =
      kept.length > 0
        ? engine.execute('PutRecords', { ...input, Records: kept })
        : { FailedRecordCount: 0, Records: [] };
    const results = [...(output['Records'] as readonly unknown[])];
    const failed = refused.filter(Boolean).length;
    return {
      ...output,
      FailedRecordCount: (output['FailedRecordCount'] as number) + failed,
      Records: refused.map((isRefused) =>
        isRefused
          ? { ErrorCode: fault.errorCode, ErrorMessage: 'Refused on command.' }
          : results.shift(),
      ),
    };
  }
}

export function faultError(fault: Extract<Fault, { kind: 'error' | 'errorAfter' }>): ServiceFault {
  return new ServiceFault(fault.name, fault.message ?? 'Failed on command.', fault.status ?? 400);
}
