import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';

import { KinesisClient } from '@aws-sdk/client-kinesis';
import { KinesisEngine, ServiceFault } from '@shardline/local';
import {
  AggregateEncoder,
  CborError,
  decodeRecords,
  encodeCbor,
  isShardlineError,
  type Random,
  storeInEnvelope,
  systemClock,
  systemRandom,
} from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';

import { CborRecordsParser } from '../../packages/consumer/src/fetch/cbor-records-answer.js';
import { KinesisReadClient } from '../../packages/consumer/src/fetch/kinesis-read-client.js';
import { OWN, parseLease } from '../../packages/consumer/src/lease/lease-row.js';
import type { Row } from '../../packages/consumer/src/lease/lease-table.js';
import { FinishedAbove } from '../../packages/consumer/src/processing/finished-above.js';
import { decodeWindow } from '../../packages/consumer/src/processing/tumbling-window.js';
import { parseCborRequest } from '../../packages/local/src/protocol/cbor-request.js';
import {
  eventFrame,
  exceptionFrame,
  INITIAL_RESPONSE,
} from '../../packages/local/src/protocol/event-stream.js';
import { parseJsonRequest } from '../../packages/local/src/protocol/json.js';
import { mutate, randomBytes } from './mutate.js';

/** A parser of bytes, and what it must never do. */
export interface Target {
  readonly name: string;
  /** Inputs that mean something, to be mutated. */
  readonly samples: readonly Buffer[];
  /** Throws if the parser does what it must not. */
  readonly check: (input: Buffer) => void | Promise<void>;
}

const AGGREGATE_MAGIC = Buffer.from('f3899ac2', 'hex');
const MAX_RAW_BYTES = 2 ** 16;
const EVENTS = 4;

export const TARGETS: readonly Target[] = [
  {
    name: 'records',
    samples: [
      aggregate(1),
      aggregate(40),
      storeInEnvelope(aggregate(7), 'aggregate'),
      storeInEnvelope(Buffer.from('plain'), 'data'),
    ],
    check: (input) => {
      checkRecords(input);
      // With its checksum mended it reaches the parser behind it.
      if (input.length > 20) checkRecords(resealed(input));
    },
  },
  {
    name: 'cbor-requests',
    samples: [
      request(encodeCbor),
      encodeCbor({ a: [1, -2, 1.5, true, null, Buffer.alloc(9), new Date(5)], b: { c: 'text' } }),
    ],
    check: (input) => checkRequest(input, parseCborRequest),
  },
  {
    name: 'json-requests',
    samples: [
      request((value) => Buffer.from(JSON.stringify(value))),
      Buffer.from('{"Timestamp":1.5,"Data":"AAAA","ShardFilter":{"Type":"AT_LATEST"}}'),
    ],
    check: (input) => checkRequest(input, parseJsonRequest),
  },
  {
    name: 'cbor-answers',
    samples: [
      encodeCbor({
        MillisBehindLatest: 0,
        NextShardIterator: 'next',
        Records: [1, 2].map((number) => ({
          Data: Buffer.alloc(number),
          PartitionKey: 'k',
          SequenceNumber: String(number),
          ApproximateArrivalTimestamp: new Date(number),
        })),
      }),
    ],
    check: checkCborAnswer,
  },
  { name: 'event-streams', samples: [events()], check: checkEvents },
  {
    name: 'lease-rows',
    samples: [
      Buffer.from(
        JSON.stringify({
          leaseKey: { S: 's' },
          leaseCounter: { N: '4' },
          checkpoint: { S: '49590338271490256608559692538361571095921575989136588898' },
          checkpointSubSequenceNumber: { N: '3' },
          startingHashKey: { S: '0' },
          endingHashKey: { S: '340282366920938463463374607431768211455' },
          parentShardId: { SS: ['a', 'b'] },
          pendingCheckpoint: { S: '77' },
        }),
      ),
      Buffer.from(
        JSON.stringify({
          leaseKey: { S: 's' },
          leaseCounter: { N: '4' },
          checkpoint: { S: 'LATEST' },
          [OWN.startAtMs]: { N: '5' },
          [OWN.finishedAbove]: { S: 'zz:0-3,9;1:4' },
          [OWN.windowState]: { S: '{"startAt":0,"state":1,"at":["LATEST",0]}' },
          [OWN.seek]: { M: { sequenceNumber: { S: 'AT_TIMESTAMP' }, timestampMs: { N: '9' } } },
        }),
      ),
    ],
    check: checkRow,
  },
];

function aggregate(count: number): Buffer {
  const encoder = new AggregateEncoder();
  for (let index = 0; index < count; index += 1) {
    encoder.add(
      `key-${index % 5}`,
      index % 3 === 0 ? '77' : undefined,
      Buffer.alloc(index, index),
      index % 4 === 0 ? `p:${index}` : undefined,
    );
  }
  return encoder.finish();
}

function resealed(bytes: Buffer): Buffer {
  const result = Buffer.from(bytes);
  result.set(AGGREGATE_MAGIC, 0);
  const end = result.length - 16;
  createHash('md5').update(result.subarray(4, end)).digest().copy(result, end);
  return result;
}

/** Whatever the bytes, they come back: as user records of a whole aggregate, or raw, or by a typed error. */
function checkRecords(Data: Buffer): void {
  const record = { Data, PartitionKey: 'k', SequenceNumber: '5' };
  for (const onDamage of ['raw', 'error', 'keepPrefix'] as const) {
    try {
      const records = decodeRecords([record], { onDamage, maxRawBytes: MAX_RAW_BYTES });
      // An aggregate of no records is one; everything else is given in some form.
      const isEmptyAggregate =
        records.length === 0 && Data.length <= 2 * MAX_RAW_BYTES && Data.includes(AGGREGATE_MAGIC);
      const isPrefix = onDamage === 'keepPrefix' && records.length === 0;
      if (records.length === 0 && !isEmptyAggregate && !isPrefix)
        throw new Error('a record was lost');
      const bytes = records.reduce((sum, { data }) => sum + data.length, 0);
      if (bytes > Math.max(Data.length, MAX_RAW_BYTES))
        throw new Error('more came out than can have gone in');
      const [first] = records;
      if (
        first?.damage !== undefined &&
        onDamage === 'raw' &&
        !first.data.equals(first.damage === 'envelope' ? Data : first.data)
      ) {
        throw new Error('raw bytes are not the record');
      }
    } catch (error) {
      if (!isShardlineError(error)) throw error;
    }
  }
}

function request(encode: (value: unknown) => Buffer): Buffer {
  return encode({ StreamName: 'orders', Records: [{ PartitionKey: 'k', ExplicitHashKey: '7' }] });
}

const OPERATIONS = [
  'PutRecords',
  'PutRecord',
  'GetRecords',
  'GetShardIterator',
  'ListShards',
  'CreateStream',
  'SplitShard',
  'RegisterStreamConsumer',
];

/** Any body is answered, or refused by one of the service's own errors. */
function checkRequest(body: Buffer, parse: (body: Buffer) => Record<string, unknown>): void {
  const engine = new KinesisEngine({ clock: new ManualClock(), random: seededRandom(1) });
  try {
    const input = parse(body);
    for (const operation of OPERATIONS) {
      try {
        engine.execute(operation, input);
      } catch (error) {
        if (!(error instanceof ServiceFault)) throw error;
      }
    }
  } catch (error) {
    if (!(error instanceof ServiceFault)) throw error;
  }
}

function events(): Buffer {
  const frames = Array.from({ length: EVENTS }, (_, index) =>
    eventFrame(
      JSON.stringify({
        Records: [
          {
            SequenceNumber: String(index),
            PartitionKey: 'k',
            Data: Buffer.from(String(index)).toString('base64'),
            ApproximateArrivalTimestamp: 1.5,
          },
        ],
        ContinuationSequenceNumber: String(index),
        MillisBehindLatest: 0,
      }),
    ),
  );
  return Buffer.concat([
    INITIAL_RESPONSE,
    ...frames,
    exceptionFrame('InternalFailureException', 'x'),
  ]);
}

/** A damaged event stream gives a beginning of what was sent, and then ends or throws: frames are checksummed. */
async function checkEvents(input: Buffer): Promise<void> {
  const client = new KinesisClient({
    region: 'us-east-1',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    maxAttempts: 1,
    requestHandler: {
      metadata: { handlerProtocol: 'h2' },
      handle: () =>
        Promise.resolve({
          response: {
            statusCode: 200,
            headers: { 'content-type': 'application/vnd.amazon.eventstream' },
            body: Readable.from([input], { objectMode: false }),
          },
        }),
      destroy: () => {},
    },
  });
  const port = new KinesisReadClient({
    stream: { name: 'orders', arn: undefined },
    wire: 'lean',
    client,
    clock: systemClock,
    random: systemRandom,
  });
  const given: string[] = [];
  const from = {
    position: { sequenceNumber: 'LATEST', subSequenceNumber: 0 },
    timestampMs: undefined,
    isAfter: false,
  };
  try {
    for await (const { records } of await port.subscribe(
      'arn',
      's',
      from,
      new AbortController().signal,
    )) {
      given.push(...records.map(({ Data }) => Buffer.from(Data ?? []).toString()));
    }
  } catch {
    // Any error will do: it is retried from the last event.
  } finally {
    client.destroy();
  }
  // A whole frame that is repeated or left out is the transport's doing, and cannot be told.
  if (given.some((text) => !/^[0-3]$/.test(text)))
    throw new Error(`records that were never sent: ${given.join()}`);
}

/** An answer is read, or refused as no CBOR, and the same however it is cut. */
function checkCborAnswer(input: Buffer): void {
  const read = (chunkBytes: number): string => {
    const parser = new CborRecordsParser();
    try {
      for (let at = 0; at < input.length; at += chunkBytes) {
        parser.push(input.subarray(at, at + chunkBytes));
        parser.cut();
      }
      return JSON.stringify(parser.finish());
    } catch (error) {
      if (error instanceof CborError) return 'refused';
      throw error;
    }
  };
  if (read(5) !== read(Infinity)) throw new Error('what is read depends on how it is cut');
}

/** A row is a lease that can be worked with, or passed over; it never stops the listing. */
function checkRow(input: Buffer): void {
  let row: unknown;
  try {
    row = JSON.parse(input.toString('utf8'));
  } catch {
    return;
  }
  if (typeof row !== 'object' || row === null) return;
  // DynamoDB gives each attribute one type; a mutated tree may hold anything else.
  for (const value of Object.values(row)) if (typeof value !== 'object' || value === null) return;
  const lease = parseLease(row as Row);
  if (!lease) return;
  if (!/^(\d+|LATEST|TRIM_HORIZON|AT_TIMESTAMP|SHARD_END)$/.test(lease.checkpoint.sequenceNumber))
    throw new Error('a checkpoint that is none');
  new FinishedAbove(typeof lease.finishedAbove === 'string' ? lease.finishedAbove : undefined).has(
    lease.checkpoint,
  );
  decodeWindow(lease.windowState, lease.checkpoint);
}

/** An input for a target: mutated from a sample, or made up. */
export function inputFor(target: Target, random: Random): Buffer {
  if (random() < 0.1) return randomBytes(random, Math.floor(random() * 300));
  const sample = target.samples[Math.floor(random() * target.samples.length)] as Buffer;
  return mutate(sample, random);
}
