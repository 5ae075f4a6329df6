import type { Clock } from '@shardline/shared';
import { sleep } from '@shardline/shared';

import type { StartingPoint } from '../../src/fetch/fetcher.js';
import type {
  KinesisReadPort,
  OpenedIterator,
  ReadPage,
  SubscriptionBatch,
} from '../../src/fetch/kinesis-read-port.js';

/** A failure as the service would name it. */
export function failure(name: string): Error {
  return Object.assign(new Error(name), { name });
}

/** A page with one record of some bytes. */
export function page(sequence: number, bytes = 10, millisBehindLatest = 0): ReadPage {
  return {
    records: [{ Data: Buffer.alloc(bytes), PartitionKey: 'k', SequenceNumber: String(sequence) }],
    millisBehindLatest,
    nextIterator: 'next',
    childShards: undefined,
  };
}

export const EMPTY: ReadPage = {
  records: [],
  millisBehindLatest: 0,
  nextIterator: 'next',
  childShards: undefined,
};

/** What a test asks a reader to have done, and when. */
export interface PortLog {
  readonly iterators: { readonly atMs: number; readonly from: StartingPoint }[];
  readonly reads: number[];
  /** How many records each read asked for. */
  readonly limits: number[];
  readonly subscriptions: { readonly atMs: number; readonly from: StartingPoint }[];
}

/** A Kinesis that answers as a test says, on the test's clock, and notes what it was asked. */
export function scriptedPort(
  clock: Clock,
  script: {
    readonly read?: (call: number) => ReadPage | Error;
    /** Events of a subscription, each after some time; it ends behind the last. */
    readonly subscribe?: (
      call: number,
    ) => Error | readonly { readonly afterMs: number; readonly event: SubscriptionBatch | Error }[];
  },
): { readonly port: KinesisReadPort; readonly log: PortLog } {
  const log: PortLog = { iterators: [], reads: [], limits: [], subscriptions: [] };
  const port: KinesisReadPort = {
    describe: () => Promise.resolve({ accountId: '000000000000', createdAtSeconds: 1 }),
    listShards: () => Promise.resolve([]),
    getIterator: (_shard, from): Promise<OpenedIterator> => {
      log.iterators.push({ atMs: clock.monotonicMs(), from });
      return Promise.resolve({ iterator: 'first', notBeforeMs: 5_000 });
    },
    getRecords: (_iterator, maxRecords) => {
      log.limits.push(maxRecords);
      log.reads.push(clock.monotonicMs());
      const answer = script.read?.(log.reads.length - 1) ?? EMPTY;
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
    subscribe: (_arn, _shard, from, signal) => {
      log.subscriptions.push({ atMs: clock.monotonicMs(), from });
      const events = script.subscribe?.(log.subscriptions.length - 1) ?? [];
      if (events instanceof Error) return Promise.reject(events);
      return Promise.resolve(
        (async function* (): AsyncGenerator<SubscriptionBatch> {
          for (const { afterMs, event } of events) {
            try {
              await sleep(clock, afterMs, signal);
            } catch {
              // As the SDK's: an aborted stream ends as if it had come to its end.
              return;
            }
            if (event instanceof Error) throw event;
            yield event;
          }
        })(),
      );
    },
    consumerArn: () => Promise.resolve('arn'),
    removeConsumer: () => Promise.resolve(),
    close: () => {},
  };
  return { port, log };
}
