import { invalidArgument } from './service-fault.js';

/** What a shard iterator stands for. */
export interface IteratorState {
  readonly streamName: string;
  /** Tells a stream from an earlier one of the same name. */
  readonly streamCreatedAt: number;
  readonly shardId: string;
  /** Counter of the next record to read. */
  readonly counter: number;
  readonly issuedAt: number;
}

export function formatIterator(state: IteratorState): string {
  const { streamName, streamCreatedAt, shardId, counter, issuedAt } = state;
  const body = JSON.stringify([streamName, streamCreatedAt, shardId, counter, issuedAt]);
  return Buffer.from(`AAAAAAAAAAE${body}`).toString('base64');
}

/** @throws ServiceFault `InvalidArgumentException`. */
export function parseIterator(text: string): IteratorState {
  const decoded = Buffer.from(text, 'base64').toString();
  try {
    if (decoded.startsWith('AAAAAAAAAAE[')) {
      const fields = JSON.parse(decoded.slice(11)) as unknown[];
      const [streamName, streamCreatedAt, shardId, counter, issuedAt] = fields;
      if (
        typeof streamName === 'string' &&
        typeof shardId === 'string' &&
        Number.isSafeInteger(streamCreatedAt) &&
        Number.isSafeInteger(counter) &&
        Number.isSafeInteger(issuedAt)
      ) {
        return {
          streamName,
          shardId,
          streamCreatedAt: streamCreatedAt as number,
          counter: counter as number,
          issuedAt: issuedAt as number,
        };
      }
    }
  } catch {
    // Not JSON: as invalid as any other text.
  }
  throw invalidArgument('Invalid ShardIterator.');
}
