import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import type { DynamoDBClient, DynamoDBClientConfig } from '@aws-sdk/client-dynamodb';
import type { KinesisClient, KinesisClientConfig } from '@aws-sdk/client-kinesis';
import {
  choiceOption,
  type Clock,
  type DamagePolicy,
  integerOptions,
  type Random,
  type RangeCheck,
  rejectUnknownOptions,
  resolveStreamRef,
  ShardlineError,
  type StreamRef,
  systemClock,
  systemRandom,
  textOption,
} from '@shardline/shared';

import type { LeaseStore } from './lease/lease-store.js';
import type { DeadLetter, RecordHandler } from './processing/handler.js';
import type { InitialPosition } from './shard/shard-sync.js';

/** How a {@link Consumer} behaves. A stream, an application name and a handler are needed. */
export interface ConsumerOptions {
  /** 1 to 128 characters of `a-z A-Z 0-9 _ . -`. */
  readonly streamName?: string;
  /** In place of `streamName`, for streams of other accounts. */
  readonly streamArn?: string;
  /** Workers of one name share the stream; also the default name of the lease table and the fan-out consumer. */
  readonly applicationName: string;
  /** Gets records of one shard, in the stream's order for each partition key. */
  readonly handler: RecordHandler;
  /** Differs from worker to worker. @defaultValue the host's name and a random part */
  readonly workerId?: string;
  /** Created if it does not exist. 3 to 255 characters of `a-z A-Z 0-9 _ . -`. @defaultValue `applicationName` */
  readonly leaseTableName?: string;
  /** Where leases are kept, in place of DynamoDB. */
  readonly leaseStore?: LeaseStore;
  /** Where an application begins that has no position yet. @defaultValue `'LATEST'` */
  readonly initialPosition?: InitialPosition;
  /** How shards are read. @defaultValue `'polling'` */
  readonly retrieval?: 'polling' | 'fanOut';
  /** Name of the fan-out consumer; registered if it is not. @defaultValue `applicationName` */
  readonly fanOutConsumerName?: string;
  /** ARN of a fan-out consumer that is registered, in place of its name. */
  readonly fanOutConsumerArn?: string;
  /**
   * How many records of one shard are handled at a time. Records of one partition key are handled in
   * order, one after the other, whatever the number.
   *
   * Range: 1 to 1 000.
   *
   * @defaultValue 1
   */
  readonly concurrency?: number;
  /** Most records in one call of a handler's `processBatch`. Range: 1 to 10 000. @defaultValue 1 000 */
  readonly maxBatchRecords?: number;
  /**
   * How often a handler is tried before `deadLetter` gets the records. 0 is without end.
   *
   * Range: 0 to 1 000 000.
   *
   * @defaultValue 0
   */
  readonly maxAttempts?: number;
  /** Gets what a handler failed on `maxAttempts` times; needed if that is not 0. */
  readonly deadLetter?: DeadLetter;
  /**
   * How long a worker may be silent before others take its shards.
   *
   * Unit: milliseconds. Range: 1 000 to 600 000.
   *
   * @defaultValue 10 000
   */
  readonly failoverMs?: number;
  /** How often a worker looks at all leases. Unit: milliseconds. Range: 100 to 600 000. @defaultValue 2 000 */
  readonly assignmentIntervalMs?: number;
  /** How often leases are compared with the stream's shards. Unit: milliseconds. Range: 1 000 to 3 600 000. @defaultValue 120 000 */
  readonly auditIntervalMs?: number;
  /** How often positions are stored. Unit: milliseconds. Range: 10 to 600 000. @defaultValue 1 000 */
  readonly checkpointIntervalMs?: number;
  /** How long a poller waits at the tip of a shard. Unit: milliseconds. Range: 200 to 60 000. @defaultValue 250 */
  readonly idlePauseMs?: number;
  /** How long handlers may take to finish when a shard is given away. Unit: milliseconds. Range: 0 to 3 600 000. @defaultValue 30 000 */
  readonly drainTimeoutMs?: number;
  /**
   * Records of each idempotent producer remembered in each shard, to drop second copies of them. 0
   * drops none.
   *
   * Range: 0 to 1 000 000.
   *
   * @defaultValue 10 000
   */
  readonly duplicateWindowRecords?: number;
  /** Most shards this worker takes. Range: 1 to 1 000 000. @defaultValue 1 000 000 */
  readonly maxLeases?: number;
  /** Data read and not yet handled, of all shards. Unit: bytes. Range: 65 536 to 17 179 869 184. @defaultValue 67 108 864 */
  readonly maxBufferBytes?: number;
  /** Largest content a compressed record may expand to. Unit: bytes. Range: 1 024 to 1 073 741 824. @defaultValue 33 554 432 */
  readonly maxRawBytes?: number;
  /** What to do with records that are damaged. @defaultValue `'raw'` */
  readonly onDamage?: DamagePolicy;
  /** What to do with user records the shard does not own. @defaultValue `'userRecord'` */
  readonly rangeCheck?: RangeCheck;
  /** A Kinesis client to share; it stays yours to destroy, and should be made with `maxAttempts: 1`. */
  readonly client?: KinesisClient;
  /** Region, credentials, endpoint and so on for Kinesis clients of the consumer's own. */
  readonly clientConfig?: KinesisClientConfig;
  /** A DynamoDB client to share; it stays yours to destroy. */
  readonly dynamodbClient?: DynamoDBClient;
  /** Region, credentials, endpoint and so on for a DynamoDB client of the consumer's own. */
  readonly dynamodbConfig?: DynamoDBClientConfig;
  /** @defaultValue the machine's */
  readonly clock?: Clock;
  /** @defaultValue the machine's */
  readonly random?: Random;
}

const RULES = {
  concurrency: { min: 1, max: 1_000, fallback: 1, unit: 'records' },
  maxBatchRecords: { min: 1, max: 10_000, fallback: 1_000, unit: 'records' },
  maxAttempts: { min: 0, max: 1_000_000, fallback: 0, unit: 'attempts' },
  failoverMs: { min: 1_000, max: 600_000, fallback: 10_000, unit: 'ms' },
  assignmentIntervalMs: { min: 100, max: 600_000, fallback: 2_000, unit: 'ms' },
  auditIntervalMs: { min: 1_000, max: 3_600_000, fallback: 120_000, unit: 'ms' },
  checkpointIntervalMs: { min: 10, max: 600_000, fallback: 1_000, unit: 'ms' },
  idlePauseMs: { min: 200, max: 60_000, fallback: 250, unit: 'ms' },
  drainTimeoutMs: { min: 0, max: 3_600_000, fallback: 30_000, unit: 'ms' },
  duplicateWindowRecords: { min: 0, max: 1_000_000, fallback: 10_000, unit: 'records' },
  maxLeases: { min: 1, max: 1_000_000, fallback: 1_000_000, unit: 'leases' },
  maxBufferBytes: { min: 65_536, max: 2 ** 34, fallback: 2 ** 26, unit: 'bytes' },
  maxRawBytes: { min: 1_024, max: 2 ** 30, fallback: 2 ** 25, unit: 'bytes' },
} as const;

const OTHER_NAMES = [
  'streamName',
  'streamArn',
  'applicationName',
  'handler',
  'workerId',
  'leaseTableName',
  'leaseStore',
  'initialPosition',
  'retrieval',
  'fanOutConsumerName',
  'fanOutConsumerArn',
  'deadLetter',
  'onDamage',
  'rangeCheck',
  'client',
  'clientConfig',
  'dynamodbClient',
  'dynamodbConfig',
  'clock',
  'random',
];

/** Options with every default filled in. */
export type ResolvedConsumerOptions = Readonly<ReturnType<typeof integerOptions<typeof RULES>>> & {
  readonly stream: StreamRef;
  readonly applicationName: string;
  readonly handler: RecordHandler;
  readonly workerId: string;
  readonly leaseTableName: string;
  readonly initialPosition: InitialPosition;
  readonly retrieval: 'polling' | 'fanOut';
  readonly fanOutConsumerName: string;
  readonly fanOutConsumerArn: string | undefined;
  readonly deadLetter: DeadLetter | undefined;
  readonly onDamage: DamagePolicy;
  readonly rangeCheck: RangeCheck;
  readonly clock: Clock;
  readonly random: Random;
};

const NAME = /^[a-zA-Z0-9_.-]{1,128}$/;
const NAME_LIMIT = '1 to 128 characters of a-z A-Z 0-9 _ . -';

/** @throws ShardlineError `INVALID_OPTION`. */
export function resolveConsumerOptions(options: ConsumerOptions): ResolvedConsumerOptions {
  rejectUnknownOptions(options, [...OTHER_NAMES, ...Object.keys(RULES)]);
  const applicationName = textOption('applicationName', options.applicationName, NAME, NAME_LIMIT);
  const numbers = integerOptions(options, RULES);
  if (numbers.maxAttempts > 0 && !options.deadLetter) {
    throw new ShardlineError(
      'INVALID_OPTION',
      '`maxAttempts` needs the `deadLetter` option: without it records would be skipped unseen',
      { value: numbers.maxAttempts, limit: 0, unit: 'attempts' },
    );
  }
  return {
    ...numbers,
    applicationName,
    stream: resolveStreamRef(options),
    handler: checkHandler(options.handler),
    workerId:
      options.workerId === undefined
        ? `${hostname()}-${randomUUID().slice(0, 8)}`
        : textOption('workerId', options.workerId, /^.{1,256}$/, '1 to 256 characters'),
    leaseTableName: textOption(
      'leaseTableName',
      options.leaseTableName ?? applicationName,
      /^[a-zA-Z0-9_.-]{3,255}$/,
      '3 to 255 characters of a-z A-Z 0-9 _ . -',
    ),
    initialPosition: checkPosition(options.initialPosition),
    retrieval: choiceOption('retrieval', options.retrieval, ['polling', 'fanOut'], 'polling'),
    fanOutConsumerName: textOption(
      'fanOutConsumerName',
      options.fanOutConsumerName ?? applicationName,
      NAME,
      NAME_LIMIT,
    ),
    fanOutConsumerArn: options.fanOutConsumerArn,
    deadLetter: options.deadLetter,
    onDamage: choiceOption('onDamage', options.onDamage, ['raw', 'error', 'keepPrefix'], 'raw'),
    rangeCheck: choiceOption(
      'rangeCheck',
      options.rangeCheck,
      ['userRecord', 'aggregate', 'off'],
      'userRecord',
    ),
    clock: options.clock ?? systemClock,
    random: options.random ?? systemRandom,
  };
}

function checkHandler(handler: unknown): RecordHandler {
  const { processRecord, processBatch } = (handler ?? {}) as Record<string, unknown>;
  if ((typeof processRecord === 'function') === (typeof processBatch === 'function')) {
    throw new ShardlineError(
      'INVALID_OPTION',
      '`handler` must have one of the functions `processRecord` and `processBatch`',
      { value: typeof handler, limit: 'processRecord, processBatch' },
    );
  }
  return handler as RecordHandler;
}

function checkPosition(position: unknown): InitialPosition {
  if (position === undefined) return 'LATEST';
  const timestamp = (position as { timestamp?: unknown } | null)?.timestamp;
  if (position === 'LATEST' || position === 'TRIM_HORIZON') return position;
  if (timestamp instanceof Date && !Number.isNaN(timestamp.getTime())) return { timestamp };
  throw new ShardlineError(
    'INVALID_OPTION',
    "`initialPosition` must be 'LATEST', 'TRIM_HORIZON' or { timestamp } with a valid Date",
    { value: typeof position, limit: 'LATEST, TRIM_HORIZON, { timestamp }' },
  );
}
