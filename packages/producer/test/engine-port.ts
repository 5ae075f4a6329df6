import { type KinesisEngine, ServiceFault } from '@shardline/local';
import type { ManualClock } from '@shardline/shared/testing';

import type { KinesisWritePort, PutRecordsEntry } from '../src/put-records-client.js';
import type { OpenShard } from '../src/shard-map.js';
import type { EntryOutcome } from '../src/verdict.js';

/** The local engine without sockets, in virtual time. */
export class EnginePort implements KinesisWritePort {
  readonly engine: KinesisEngine;
  readonly #clock: ManualClock;
  readonly #latencyMs: number;

  constructor(engine: KinesisEngine, clock: ManualClock, latencyMs: number) {
    this.engine = engine;
    this.#clock = clock;
    this.#latencyMs = latencyMs;
  }

  describe(): ReturnType<KinesisWritePort['describe']> {
    const stream = this.engine.streams.get('orders');
    const shards = (stream?.openShards ?? []).map(({ id, birth }): OpenShard => ({
      shardId: id,
      range: birth.range,
    }));
    return Promise.resolve({ shards, maxRecordBytes: 2 ** 20, isSelfDistributing: false });
  }

  async putRecords(entries: readonly PutRecordsEntry[]): Promise<readonly EntryOutcome[]> {
    await new Promise<void>((resolve) => this.#clock.schedule(this.#latencyMs, resolve));
    const Records = entries.map(({ partitionKey, explicitHashKey, payload }) => ({
      PartitionKey: partitionKey,
      Data: Buffer.from(payload),
      ...(explicitHashKey !== undefined && { ExplicitHashKey: explicitHashKey }),
    }));
    try {
      const answer = this.engine.execute('PutRecords', { StreamName: 'orders', Records });
      return (answer['Records'] as Record<string, string>[]).map((result): EntryOutcome => {
        const { ShardId, SequenceNumber, ErrorCode = '' } = result;
        return ShardId !== undefined && SequenceNumber !== undefined
          ? { shardId: ShardId, sequenceNumber: SequenceNumber }
          : { errorCode: ErrorCode };
      });
    } catch (error) {
      throw error instanceof ServiceFault ? error : new Error(String(error));
    }
  }

  close(): void {}
}
