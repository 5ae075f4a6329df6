import type { KinesisClient, KinesisClientConfig } from '@aws-sdk/client-kinesis';
import {
  type ByteBudget,
  choiceOption,
  type Clock,
  type Codec,
  integerOptions,
  isCodecAvailable,
  type Random,
  rejectUnknownOptions,
  resolveStreamRef,
  ShardlineError,
  type StreamRef,
  systemClock,
  systemRandom,
} from '@shardline/shared';

import type { PutOutcome, UndeliverableRecord } from './pending-record.js';

/** What the user gives to put. */
export interface PutRecord<Data = string | Uint8Array> {
  /** Copied before `put` returns: the caller may reuse its buffer at once. */
  readonly data: Data;
  /** 1 to 256 characters. @defaultValue what the `partitionKey` option makes of `data`, or a random key */
  readonly partitionKey?: string;
  /** Decides the shard in place of the key's MD5. A decimal number from 0 to 2^128 - 1. */
  readonly explicitHashKey?: string;
}

/**
 * `lean` writes the JSON that the SDK would, at a fraction of the CPU time, and sends it through all of the
 * client but its serializer; to middleware of yours at the step `initialize` the request has no records. `cbor`
 * is the same with bodies in CBOR, as the Java SDK sends them: a quarter fewer bytes, since payloads are not in
 * base64; not every stand-in for Kinesis takes it. With `sdk` the SDK does it all.
 */
export type Wire = (typeof WIRES)[number];

const WIRES = ['lean', 'cbor', 'sdk'] as const;

/** How a {@link Producer} behaves. One of `streamName` and `streamArn` is needed; all else has a default. */
export interface ProducerOptions<Data = string | Uint8Array> {
  /** 1 to 128 characters of `a-z A-Z 0-9 _ . -`. */
  readonly streamName?: string;
  /** In place of `streamName`, for streams of other accounts. */
  readonly streamArn?: string;
  /** How PutRecords is written. @defaultValue `'lean'` */
  readonly wire?: Wire;
  /** A client to share; it stays yours to destroy, and should be made with `maxAttempts: 1`. */
  readonly client?: KinesisClient;
  /** Region, credentials, endpoint and so on for a client of the producer's own. */
  readonly clientConfig?: KinesisClientConfig;
  /** Turns what you put into bytes. @defaultValue strings as UTF-8, bytes as they are */
  readonly serialize?: (data: Data) => string | Uint8Array;
  /** Finds the partition key of a record that names none. @defaultValue a random key */
  readonly partitionKey?: (data: Data) => string;
  /**
   * Whether several user records share a Kinesis record. With `false` every reader can read the
   * stream, at the cost of a Kinesis record each. With `true` not on streams whose records the service
   * distributes itself (AUTO), where readers that check hash ranges drop aggregates; with `'always'`
   * even there.
   *
   * @defaultValue true
   */
  readonly aggregation?: boolean | 'always';
  /**
   * Largest Kinesis record made of several user records, its partition key included. The default is
   * two PUT payload units.
   *
   * Unit: bytes. Range: 64 to 10 485 760.
   *
   * @defaultValue 51 200
   * @see https://aws.amazon.com/kinesis/data-streams/pricing/
   */
  readonly aggregationMaxBytes?: number;
  /** Most user records in one Kinesis record. Range: 1 to 1 000 000. @defaultValue 100 000 */
  readonly aggregationMaxRecords?: number;
  /** Compresses each Kinesis record that shrinks by it; see `docs/record-format.md`. @defaultValue `'none'` */
  readonly compression?: 'none' | Exclude<Codec, 'stored'>;
  /**
   * `strict` stores the records of one partition key in the order of `put`, through retries and
   * resharding, by sending one Kinesis record a shard at a time.
   *
   * @defaultValue `'none'`
   */
  readonly ordering?: 'none' | 'strict';
  /**
   * How long a record may wait for others while requests are in flight, or while more shards have an aggregate
   * open than one request can serve: 500. Otherwise it leaves at once.
   *
   * Unit: milliseconds. Range: 0 to 60 000.
   *
   * @defaultValue 50
   */
  readonly lingerMs?: number;
  /**
   * How long to try before a record is given up.
   *
   * Unit: milliseconds. Range: 100 to 86 400 000.
   *
   * @defaultValue 30 000
   */
  readonly recordTtlMs?: number;
  /** How long one request may take. Unit: milliseconds. Range: 100 to 600 000. @defaultValue 10 000 */
  readonly requestTimeoutMs?: number;
  /** Most requests in flight. Range: 1 to 256. @defaultValue 16 */
  readonly maxRequestsInFlight?: number;
  /**
   * Data and partition keys held and not yet settled; `put` waits and `offer` says no beyond it.
   *
   * Unit: bytes. Range: 1 024 to 17 179 869 184.
   *
   * @defaultValue 67 108 864
   */
  readonly maxBufferBytes?: number;
  /** Records held and not yet settled. Range: 1 to 100 000 000. @defaultValue 1 000 000 */
  readonly maxBufferRecords?: number;
  /** A budget to share between producers, in place of `maxBufferBytes`. */
  readonly budget?: ByteBudget;
  /** Age at which the stream's shards are looked at again. Unit: milliseconds. Range: 1 000 to 3 600 000. @defaultValue 60 000 */
  readonly shardMapMaxAgeMs?: number;
  /**
   * Marks each user record so that Shardline's consumer drops a second copy of it, which a request
   * whose answer was lost leaves behind. Costs about 25 bytes a record, and an aggregate of one for a
   * lone record.
   *
   * @defaultValue false
   */
  readonly idempotent?: boolean;
  /**
   * What to do when the stream is missing or the credentials are refused: give the records up at once,
   * or try again until their time is up.
   *
   * @defaultValue `'fail'`
   */
  readonly whenRefused?: 'fail' | 'wait';
  /** Gets what could not be delivered, such as {@link DiskSpill.take}; promises reject all the same. */
  readonly onUndeliverable?: (records: readonly UndeliverableRecord[]) => void;
  /** Closes the producer when the process gets SIGTERM, then lets the process end by it. @defaultValue false */
  readonly closeOnSigterm?: boolean;
  /** Counts the most frequent hash keys for {@link Producer.stats}. @defaultValue false */
  readonly trackHotKeys?: boolean;
  /** Told what became of records that were offered, once a Kinesis record. */
  readonly onOutcome?: (outcome: PutOutcome) => void;
  /** @defaultValue the machine's */
  readonly clock?: Clock;
  /** @defaultValue the machine's */
  readonly random?: Random;
}

const RULES = {
  aggregationMaxBytes: { min: 64, max: 10_485_760, fallback: 51_200, unit: 'bytes' },
  aggregationMaxRecords: { min: 1, max: 1_000_000, fallback: 100_000, unit: 'records' },
  lingerMs: { min: 0, max: 60_000, fallback: 50, unit: 'ms' },
  recordTtlMs: { min: 100, max: 86_400_000, fallback: 30_000, unit: 'ms' },
  requestTimeoutMs: { min: 100, max: 600_000, fallback: 10_000, unit: 'ms' },
  maxRequestsInFlight: { min: 1, max: 256, fallback: 16, unit: 'requests' },
  maxBufferBytes: { min: 1_024, max: 2 ** 34, fallback: 2 ** 26, unit: 'bytes' },
  maxBufferRecords: { min: 1, max: 100_000_000, fallback: 1_000_000, unit: 'records' },
  shardMapMaxAgeMs: { min: 1_000, max: 3_600_000, fallback: 60_000, unit: 'ms' },
} as const;

const OTHER_NAMES = [
  'streamName',
  'streamArn',
  'client',
  'clientConfig',
  'serialize',
  'partitionKey',
  'aggregation',
  'compression',
  'ordering',
  'idempotent',
  'whenRefused',
  'wire',
  'onUndeliverable',
  'closeOnSigterm',
  'trackHotKeys',
  'budget',
  'onOutcome',
  'clock',
  'random',
];

/** Options with every default filled in. */
export type ResolvedProducerOptions<Data> = Readonly<
  ReturnType<typeof integerOptions<typeof RULES>>
> & {
  readonly stream: StreamRef;
  readonly aggregation: boolean | 'always';
  readonly isIdempotent: boolean;
  readonly waitsWhenRefused: boolean;
  readonly wire: Wire;
  readonly onUndeliverable: ProducerOptions<Data>['onUndeliverable'];
  readonly closeOnSigterm: boolean;
  readonly trackHotKeys: boolean;
  readonly isStrict: boolean;
  readonly codec: Codec;
  readonly serialize: (data: Data) => string | Uint8Array;
  readonly partitionKey: ((data: Data) => string) | undefined;
  readonly onOutcome: ((outcome: PutOutcome) => void) | undefined;
  readonly clock: Clock;
  readonly random: Random;
};

/** @throws ShardlineError `INVALID_OPTION`, `CODEC_UNAVAILABLE`. */
export function resolveProducerOptions<Data>(
  options: ProducerOptions<Data>,
): ResolvedProducerOptions<Data> {
  rejectUnknownOptions(options, [...OTHER_NAMES, ...Object.keys(RULES)]);
  if (options.idempotent === true && options.aggregation === false) {
    throw new ShardlineError(
      'INVALID_OPTION',
      '`idempotent` needs `aggregation`: the mark is kept in the aggregate',
      { value: 'idempotent' },
    );
  }
  const compression = choiceOption(
    'compression',
    options.compression,
    ['none', 'gzip', 'deflate', 'brotli', 'zstd'] as const,
    'none',
  );
  if (compression !== 'none' && !isCodecAvailable(compression)) {
    throw new ShardlineError(
      'CODEC_UNAVAILABLE',
      `\`compression\` '${compression}' needs Node 22.15 or later, this is ${process.version}`,
      { value: compression, limit: 'Node 22.15' },
    );
  }
  return {
    ...integerOptions(options, RULES),
    stream: resolveStreamRef(options),
    aggregation: options.aggregation ?? true,
    isIdempotent: options.idempotent ?? false,
    waitsWhenRefused:
      choiceOption('whenRefused', options.whenRefused, ['fail', 'wait'], 'fail') === 'wait',
    wire: choiceOption('wire', options.wire, WIRES, 'lean'),
    onUndeliverable: guarded('onUndeliverable', options.onUndeliverable),
    closeOnSigterm: options.closeOnSigterm ?? false,
    trackHotKeys: options.trackHotKeys ?? false,
    isStrict: choiceOption('ordering', options.ordering, ['none', 'strict'], 'none') === 'strict',
    codec: compression === 'none' ? 'stored' : compression,
    serialize: options.serialize ?? ((data) => data as string | Uint8Array),
    partitionKey: options.partitionKey,
    onOutcome: guarded('onOutcome', options.onOutcome),
    clock: options.clock ?? systemClock,
    random: options.random ?? systemRandom,
  };
}

/** A callback that throws must not keep the records it was told of from being settled. */
function guarded<Argument>(
  name: string,
  callback: ((argument: Argument) => void) | undefined,
): ((argument: Argument) => void) | undefined {
  return (
    callback &&
    ((argument) => {
      try {
        callback(argument);
      } catch (error) {
        process.emitWarning(`\`${name}\` threw ${String(error)}`, 'ShardlineWarning');
      }
    })
  );
}
