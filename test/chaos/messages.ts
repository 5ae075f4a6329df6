import type { LocalClientConfig } from '@shardline/local';

/** What a child process is told by its environment. */
export interface ChildConfig {
  readonly name: string;
  readonly kinesis: LocalClientConfig;
  readonly dynamodb: LocalClientConfig;
  readonly retrieval: 'polling' | 'fanOut';
  readonly files: readonly string[];
  /** For a producer: the number of its first record. */
  readonly firstNumber: number;
  /** For the server. */
  readonly ports: { readonly kinesis: number; readonly dynamodb: number };
  readonly dataFolder: string;
}

/** A record that a worker's handler got. */
export interface Arrival {
  readonly n: number;
  readonly key: string;
  readonly shardId: string;
}

/** What child processes tell their parent. */
export type ChildMessage =
  | { readonly kind: 'ready' }
  /** The stream has these records. */
  | { readonly kind: 'acknowledged'; readonly numbers: readonly number[] }
  /** The producer will put no number from here on. */
  | { readonly kind: 'drained'; readonly nextNumber: number }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'arrivals'; readonly arrivals: readonly Arrival[] };

export const STREAM = 'chaos';
export const FAILOVER_MS = 3_000;

export function childConfig(): ChildConfig {
  return JSON.parse(process.env['CHAOS_CHILD'] ?? '{}') as ChildConfig;
}

/** Resolves when the message is in the pipe: it arrives even if this process is killed the next moment. */
export function tell(message: ChildMessage): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send?.(message, undefined, {}, (error) => (error ? reject(error) : resolve()));
  });
}
