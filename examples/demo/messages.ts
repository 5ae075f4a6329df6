import type { ConsumerStatus } from '@shardline/consumer';
import type { LocalClientConfig } from '@shardline/local';
import type { ProducerStats } from '@shardline/producer';

/** What a child process is told by its environment. */
export interface ChildConfig {
  readonly kinesis: LocalClientConfig;
  readonly dynamodb: LocalClientConfig;
  readonly streamName: string;
  readonly name: string;
  /** For workers. */
  readonly retrieval: 'polling' | 'fanOut';
  /** For the producer. */
  readonly files: readonly string[];
  readonly linesPerSecond: number;
}

/** What is put into the stream: the line, with what it takes to recognise it at the other end. */
export interface Payload {
  readonly n: number;
  readonly sentAt: number;
  readonly line: string;
}

/** A record that a worker's handler got. */
export interface Arrival {
  readonly n: number;
  readonly key: string;
  readonly shardId: string;
  readonly latencyMs: number;
}

/** What child processes tell their parent. */
export type ChildMessage =
  | { readonly kind: 'sent'; readonly numbers: readonly number[]; readonly requestBytes: number }
  | { readonly kind: 'produced'; readonly stats: ProducerStats; readonly failed: number }
  | { readonly kind: 'arrivals'; readonly arrivals: readonly Arrival[] }
  | { readonly kind: 'status'; readonly status: ConsumerStatus };

export function childConfig(): ChildConfig {
  return JSON.parse(process.env['DEMO_CHILD'] ?? '{}') as ChildConfig;
}

/** Resolves when the message is in the pipe: it arrives even if this process is killed the next moment. */
export function tell(message: ChildMessage): Promise<void> {
  return new Promise((resolve, reject) => {
    process.send?.(message, undefined, {}, (error) => (error ? reject(error) : resolve()));
  });
}
