import { createHash, randomUUID } from 'node:crypto';

import { AggregateEncoder, decodeRecords, HashedKey } from '@shardline/shared';
import { deaggregateSync } from 'aws-kinesis-agg';

import { compare } from './harness.js';
import { decodeWithProtobufjs } from './protobufjs-codec.js';

const AGGREGATE_BYTES = 51_200;
const AGGREGATES = 2_000;
/** As one GetRecords brings them. */
const BATCH = 20;

/** Takes aggregates apart, checksum verified, every key and datum looked at. */
export async function decoderBench(): Promise<void> {
  for (const bytes of [100, 1_024]) {
    const { aggregate, records } = fill(bytes);
    const base64 = aggregate.toString('base64');
    const batch = Array.from({ length: BATCH }, () => ({ Data: Buffer.from(aggregate) }));
    await compare(`decoder, ${bytes} B, unique 36-byte keys, aggregates of 50 KiB`, 'user record', [
      {
        name: 'shardline decodeRecords',
        isOurs: true,
        run: () => {
          let seen = 0;
          for (let index = 0; index < AGGREGATES; index += BATCH) {
            for (const { data, partitionKey } of decodeRecords(batch)) {
              seen += data.length > 0 && partitionKey !== undefined ? 1 : 0;
            }
          }
          return seen;
        },
      },
      {
        name: 'aws-kinesis-agg deaggregateSync with checksums',
        run: () => {
          let seen = 0;
          for (let index = 0; index < AGGREGATES; index += 1) {
            const record = { data: base64 };
            deaggregateSync(record, true, (_error, found) => {
              seen += found?.length ?? 0;
            });
          }
          return seen;
        },
      },
      {
        name: 'protobufjs with checksums',
        run: () => {
          let seen = 0;
          for (let index = 0; index < AGGREGATES; index += 1)
            seen += decodeWithProtobufjs(aggregate);
          return seen;
        },
      },
      {
        name: 'limit: one MD5 over the bytes',
        run: () => {
          for (let index = 0; index < AGGREGATES; index += 1) {
            createHash('md5').update(aggregate).digest();
          }
          return AGGREGATES * records;
        },
      },
    ]);
  }
}

function fill(bytes: number): { readonly aggregate: Buffer; readonly records: number } {
  const encoder = new AggregateEncoder();
  const data = Buffer.alloc(bytes, 'x');
  const key = new HashedKey();
  do key.set(randomUUID());
  while (encoder.addWithin(AGGREGATE_BYTES, key, undefined, data, undefined));
  return { aggregate: encoder.finish(), records: encoder.count };
}
