import type { KinesisClientConfig } from '@aws-sdk/client-kinesis';
import { Consumer, MemoryLeaseTable, type Wire } from '@shardline/consumer';
import type { UserRecord } from '@shardline/shared';

import { fastClock } from './fast-clock.js';

const SPEED = 50;

export interface Reading {
  readonly retrieval: 'polling' | 'fanOut';
  readonly wire?: Wire;
}

/** Reads so many records from the horizon of the stream `bench`, what a shard gives a second out of the way. */
export async function readAll(
  clientConfig: KinesisClientConfig,
  reading: Reading,
  records: number,
  processBatch: (batch: readonly UserRecord[]) => void,
): Promise<void> {
  const consumer = new Consumer({
    streamName: 'bench',
    applicationName: 'bench',
    ...reading,
    leaseTable: new MemoryLeaseTable(),
    initialPosition: 'TRIM_HORIZON',
    until: { records },
    clock: fastClock(SPEED),
    clientConfig,
    handler: { processBatch },
  });
  await consumer.finished();
}
