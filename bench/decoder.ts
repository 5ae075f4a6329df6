import { createHash, randomUUID } from 'node:crypto';

import { AggregateEncoder, decodeRecords, HashedKey } from '@shardline/shared';
import { deaggregateSync } from 'aws-kinesis-agg';

import { compareApart, type LoneContender } from './harness.js';
import { decodeWithProtobufjs } from './protobufjs-codec.js';

const AGGREGATE_BYTES = 51_200;
const AGGREGATES = 2_000;
/** As one GetRecords brings them. */
const BATCH = 20;

/** Takes aggregates apart, checksum verified, every key and datum looked at. */
export async function decoderBench(): Promise<void> {
  for (const bytes of [100, 1_024]) {
    await compareApart(
      `decoder, ${bytes} B, unique 36-byte keys, aggregates of 50 KiB`,
      'user record',
      import.meta.url,
      decoders,
      { bytes },
    );
  }
}

export function decoders({ bytes }: { readonly bytes: number }): readonly LoneContender[] {
  return [
    {
      name: 'shardline decodeRecords',
      isOurs: true,
      start: () => {
        const { aggregate } = fill(bytes);
        const batch = Array.from({ length: BATCH }, () => ({ Data: Buffer.from(aggregate) }));
        return () => {
          let seen = 0;
          for (let index = 0; index < AGGREGATES; index += BATCH) {
            for (const { data, partitionKey } of decodeRecords(batch)) {
              seen += data.length > 0 && partitionKey !== undefined ? 1 : 0;
            }
          }
          return seen;
        };
      },
    },
    {
      name: 'aws-kinesis-agg deaggregateSync with checksums',
      start: () => {
        const data = fill(bytes).aggregate.toString('base64');
        return () => {
          let seen = 0;
          for (let index = 0; index < AGGREGATES; index += 1) {
            deaggregateSync({ data }, true, (_error, found) => {
              seen += found?.length ?? 0;
            });
          }
          return seen;
        };
      },
    },
    {
      name: 'protobufjs with checksums',
      start: () => {
        const { aggregate } = fill(bytes);
        return () => {
          let seen = 0;
          for (let index = 0; index < AGGREGATES; index += 1) {
            seen += decodeWithProtobufjs(aggregate);
          }
          return seen;
        };
      },
    },
    {
      name: 'limit: one MD5 over the bytes',
      start: () => {
        const { aggregate, records } = fill(bytes);
        return () => {
          for (let index = 0; index < AGGREGATES; index += 1) {
            createHash('md5').update(aggregate).digest();
          }
          return AGGREGATES * records;
        };
      },
    },
  ];
}

function fill(bytes: number): { readonly aggregate: Buffer; readonly records: number } {
  const encoder = new AggregateEncoder();
  const data = Buffer.alloc(bytes, 'x');
  const key = new HashedKey();
  do key.set(randomUUID());
  while (encoder.addWithin(AGGREGATE_BYTES, key, undefined, data, undefined));
  return { aggregate: encoder.finish(), records: encoder.count };
}
