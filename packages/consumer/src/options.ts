import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';

import type { DynamoDBClient, DynamoDBClientConfig } from '@aws-sdk/client-dynamodb';
import type { KinesisClient, KinesisClientConfig } from '@aws-sdk/client-kinesis';
import {
  type ByteBudget,
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
  type UserRecord,
} from '@shardline/shared';

import type { LeaseMode } from './fleet/lease-mode.js';
import type { NewTableOptions } from './lease/dynamodb-lease-table.js';
import type { LeaseTable } from './lease/lease-table.js';
import type { HandlerLimit } from './processing/handler-limit.js';
import type { DeadLetter, RecordHandler } from './processing/handler.js';
import type { ReadUntil } from './processing/read-bound.js';
import type { InitialPosition } from './shard/shard-sync.js';

/**
 * `lean` takes answers of GetRecords and events of subscriptions apart at a fraction of the SDK's CPU time, all
 * else going through the client; to middleware of yours around an answer it is empty. `cbor` is the same with
 * GetRecords in CBOR, as the Java SDK speaks it: a quarter fewer bytes, since data are not in base64; not every
 * stand-in for Kinesis gives it, and subscriptions are JSON as ever. With `sdk` the SDK does it all.
 */
export type Wire = (typeof WIRES)[number];

const WIRES = ['lean', 'cbor', 'sdk'] as const;

/** One of several streams that an application reads. */
export interface StreamOptions {
  /** 1 to 128 characters of `a-z A-Z 0-9 _ . -`; no other stream of the application has it. */
  readonly streamName?: string;
  /** In place of `streamName`, for streams of other accounts. */
  readonly streamArn?: string;
  /** @defaultValue the consumer's */
  readonly initialPosition?: InitialPosition;
  /** ARN of a fan-out consumer of this stream that is registered, in place of its name. */
  readonly fanOutConsumerArn?: string;
}

/**
 * How a {@link Consumer} behaves. A stream and an application name are needed, and a handler unless the
 * records are read by `for await`.
 *
 * `Item` is what `deserialize` makes of a record.
 */
export interface ConsumerOptions<Item = UserRecord> {
  /** 1 to 128 characters of `a-z A-Z 0-9 _ . -`. */
  readonly streamName?: string;
  /** In place of `streamName`, for streams of other accounts. */
  readonly streamArn?: string;
  /**
   * Several streams in place of one; more can be added and removed while it runs. All workers of the
   * application should read the same. The keys of their leases are the KCL's for several streams.
   */
  readonly streams?: readonly StreamOptions[];
  /** Workers of one name share the stream; also the default name of the lease table and the fan-out consumer. */
  readonly applicationName: string;
  /** Gets records of one shard, in the stream's order for each partition key. */
  readonly handler?: RecordHandler<Item>;
  /**
   * What a handler gets in place of the record, such as the object in its data. What it throws counts as
   * a failure of the handler.
   */
  readonly deserialize?: (record: UserRecord) => Item | Promise<Item>;
  /**
   * False passes a user record over, inside an aggregate too; it counts as handled. If it throws, the
   * shard is read again from there, later and later, and its status says so.
   */
  readonly filter?: (record: UserRecord) => boolean;
  /** Differs from worker to worker. @defaultValue the host's name and a random part */
  readonly workerId?: string;
  /** Created if it does not exist. 3 to 255 characters of `a-z A-Z 0-9 _ . -`. @defaultValue `applicationName` */
  readonly leaseTableName?: string;
  /** Where leases are kept, in place of DynamoDB: `MemoryLeaseTable`, or your own. */
  readonly leaseTable?: LeaseTable;
  /** How the lease table is created if it does not exist. */
  readonly newLeaseTable?: NewTableOptions;
  /**
   * How the workers share the leases; `'auto'` is as the table is kept, and `'native'` on a new one. See
   * {@link LeaseMode}.
   *
   * @defaultValue `'auto'`
   */
  readonly leaseMode?: LeaseMode | 'auto';
  /**
   * What the keys of the application's rows begin with, so that several applications share one table;
   * natively alone. 1 to 128 characters. @defaultValue none
   */
  readonly leaseKeyPrefix?: string;
  /** Where an application begins that has no position yet. @defaultValue `'LATEST'` */
  readonly initialPosition?: InitialPosition;
  /** Ends the read there; `finished()` resolves then. @defaultValue reads until it is closed */
  readonly until?: ReadUntil;
  /**
   * How shards are read: by polling, by enhanced fan-out, or by whichever the traffic of a shard
   * justifies, changing over while it runs.
   *
   * @defaultValue `'polling'`
   */
  readonly retrieval?: 'polling' | 'fanOut' | 'auto';
  /**
   * With `retrieval: 'auto'`, the traffic of a shard from which on it is read by fan-out; below a quarter
   * of it polling returns.
   *
   * Unit: bytes a second. Range: 1 to 2 097 152.
   *
   * @defaultValue 262 144
   */
  readonly fanOutBytesPerSecond?: number;
  /**
   * How much of each shard's polling rate (5 calls and 2 MiB a second) this process may use; the rest is
   * left to other applications.
   *
   * Unit: percent. Range: 1 to 100.
   *
   * @defaultValue 100
   */
  readonly pollingSharePercent?: number;
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
  /** Handlers of all shards of this process that run at a time. Range: 1 to 100 000. @defaultValue 1 000 */
  readonly maxConcurrentHandlers?: number;
  /** Most records in one call of `processBatch` or `processWindow`. Range: 1 to 10 000. @defaultValue 1 000 */
  readonly maxBatchRecords?: number;
  /** Most data in one such call; a larger record comes alone. Unit: bytes. Range: 1 to 1 073 741 824. @defaultValue 6 291 456 */
  readonly maxBatchBytes?: number;
  /** How long a call waits for a fuller batch. Unit: milliseconds. Range: 0 to 300 000. @defaultValue 0 */
  readonly batchWindowMs?: number;
  /** Length of the windows `processWindow` gets. Unit: milliseconds. Range: 1 000 to 86 400 000. @defaultValue 60 000 */
  readonly tumblingWindowMs?: number;
  /**
   * How often a handler is tried before `deadLetter` gets the records. 0 is without end.
   *
   * Range: 0 to 1 000 000.
   *
   * @defaultValue 0
   */
  readonly maxAttempts?: number;
  /**
   * How old a record may be, by the service's time of arrival, that a handler is still called again with
   * after a failure. 0 is without end.
   *
   * Unit: milliseconds. Range: 0 to 31 536 000 000.
   *
   * @defaultValue 0
   */
  readonly maxRecordAgeMs?: number;
  /** Halves a batch that failed, again and again, until the record that fails is alone. @defaultValue false */
  readonly bisectBatches?: boolean;
  /** Gets what a handler is not called with any more; needed with `maxAttempts`, `maxRecordAgeMs` and `onDamage: 'deadLetter'`. */
  readonly deadLetter?: DeadLetter;
  /** Whether positions are stored by themselves, or when a handler says so by its context. @defaultValue `'auto'` */
  readonly checkpointing?: 'auto' | 'manual';
  /**
   * How long a worker may be silent before others take its shards.
   *
   * Unit: milliseconds. Range: 1 000 to 600 000.
   *
   * @defaultValue 10 000
   */
  readonly failoverMs?: number;
  /**
   * How often a worker looks whether leases have changed hands, or are to. 0 leaves it to the mode: every
   * second natively, which reads one or two rows, and every `failoverMs` beside a KCL, which reads all.
   *
   * Unit: milliseconds. Range: 0 to 600 000.
   *
   * @defaultValue 0
   */
  readonly assignmentIntervalMs?: number;
  /** How often leases are compared with the stream's shards. Unit: milliseconds. Range: 1 000 to 3 600 000. @defaultValue 120 000 */
  readonly auditIntervalMs?: number;
  /** How often positions are stored. Unit: milliseconds. Range: 10 to 600 000. @defaultValue 1 000 */
  readonly checkpointIntervalMs?: number;
  /** A position is also stored after so many records. 0 leaves it to the interval. Range: 0 to 1 000 000. @defaultValue 0 */
  readonly checkpointRecords?: number;
  /** How long a poller waits at the tip of a shard. Unit: milliseconds. Range: 200 to 60 000. @defaultValue 250 */
  readonly idlePauseMs?: number;
  /** What that grows to while a shard stays silent. Unit: milliseconds. Range: 200 to 60 000. @defaultValue 1 000 */
  readonly maxIdlePauseMs?: number;
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
  /** Shared by several consumers of a process, in place of `maxBufferBytes` for each. */
  readonly budget?: ByteBudget;
  /** Shared by several consumers of a process, in place of `maxConcurrentHandlers` for each. */
  readonly handlerLimit?: HandlerLimit;
  /** Largest content a compressed record may expand to. Unit: bytes. Range: 1 024 to 1 073 741 824. @defaultValue 33 554 432 */
  readonly maxRawBytes?: number;
  /** What to do with records that are damaged, or too large to expand. @defaultValue `'raw'` */
  readonly onDamage?: DamagePolicy | 'deadLetter';
  /** What to do with user records the shard does not own. @defaultValue `'userRecord'` */
  readonly rangeCheck?: RangeCheck;
  /** How records are read off the wire. @defaultValue `'lean'` */
  readonly wire?: Wire;
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
  maxConcurrentHandlers: { min: 1, max: 100_000, fallback: 1_000, unit: 'handlers' },
  maxBatchRecords: { min: 1, max: 10_000, fallback: 1_000, unit: 'records' },
  maxBatchBytes: { min: 1, max: 2 ** 30, fallback: 6 * 2 ** 20, unit: 'bytes' },
  batchWindowMs: { min: 0, max: 300_000, fallback: 0, unit: 'ms' },
  tumblingWindowMs: { min: 1_000, max: 86_400_000, fallback: 60_000, unit: 'ms' },
  maxRecordAgeMs: { min: 0, max: 31_536_000_000, fallback: 0, unit: 'ms' },
  fanOutBytesPerSecond: { min: 1, max: 2 ** 21, fallback: 2 ** 18, unit: 'bytes a second' },
  pollingSharePercent: { min: 1, max: 100, fallback: 100, unit: 'percent' },
  maxAttempts: { min: 0, max: 1_000_000, fallback: 0, unit: 'attempts' },
  failoverMs: { min: 1_000, max: 600_000, fallback: 10_000, unit: 'ms' },
  assignmentIntervalMs: { min: 0, max: 600_000, fallback: 0, unit: 'ms' },
  auditIntervalMs: { min: 1_000, max: 3_600_000, fallback: 120_000, unit: 'ms' },
  checkpointIntervalMs: { min: 10, max: 600_000, fallback: 1_000, unit: 'ms' },
  checkpointRecords: { min: 0, max: 1_000_000, fallback: 0, unit: 'records' },
  idlePauseMs: { min: 200, max: 60_000, fallback: 250, unit: 'ms' },
  maxIdlePauseMs: { min: 200, max: 60_000, fallback: 1_000, unit: 'ms' },
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
  'deserialize',
  'filter',
  'until',
  'bisectBatches',
  'budget',
  'handlerLimit',
  'checkpointing',
  'workerId',
  'leaseTableName',
  'leaseTable',
  'newLeaseTable',
  'leaseMode',
  'leaseKeyPrefix',
  'streams',
  'initialPosition',
  'retrieval',
  'fanOutConsumerName',
  'fanOutConsumerArn',
  'deadLetter',
  'wire',
  'onDamage',
  'rangeCheck',
  'client',
  'clientConfig',
  'dynamodbClient',
  'dynamodbConfig',
  'clock',
  'random',
];

/** A stream with every default filled in. */
export interface ResolvedStream {
  readonly ref: StreamRef;
  readonly initialPosition: InitialPosition;
  readonly fanOutConsumerArn: string | undefined;
}

/** Options with every default filled in. */
export type ResolvedConsumerOptions = Readonly<ReturnType<typeof integerOptions<typeof RULES>>> & {
  /** One, or those of `streams`. */
  readonly streams: readonly ResolvedStream[];
  /** True if the application reads several streams, even if it is one at the moment. */
  readonly areStreamsSeveral: boolean;
  readonly applicationName: string;
  /** Undefined if the records are read by `for await`. */
  readonly handler: RecordHandler<unknown> | undefined;
  readonly deserialize: ((record: UserRecord) => unknown) | undefined;
  readonly filter: ((record: UserRecord) => boolean) | undefined;
  readonly until: ReadUntil | undefined;
  readonly bisectBatches: boolean;
  readonly checkpointing: 'auto' | 'manual';
  readonly workerId: string;
  readonly leaseTableName: string;
  readonly leaseMode: LeaseMode | 'auto';
  readonly leaseKeyPrefix: string;
  readonly initialPosition: InitialPosition;
  readonly retrieval: 'polling' | 'fanOut' | 'auto';
  readonly fanOutConsumerName: string;
  readonly deadLetter: DeadLetter | undefined;
  readonly wire: Wire;
  readonly onDamage: DamagePolicy | 'deadLetter';
  readonly rangeCheck: RangeCheck;
  readonly clock: Clock;
  readonly random: Random;
};

const NAME = /^[a-zA-Z0-9_.-]{1,128}$/;
const NAME_LIMIT = '1 to 128 characters of a-z A-Z 0-9 _ . -';

/** @throws ShardlineError `INVALID_OPTION`. */
export function resolveConsumerOptions<Item>(
  options: ConsumerOptions<Item>,
): ResolvedConsumerOptions {
  rejectUnknownOptions(options, [...OTHER_NAMES, ...Object.keys(RULES)]);
  const initialPosition = checkPosition(options.initialPosition);
  const applicationName = textOption('applicationName', options.applicationName, NAME, NAME_LIMIT);
  const numbers = integerOptions(options, RULES);
  const handler = checkHandler(options.handler);
  requireDeadLetter(options, numbers);
  if (handler?.processWindow && numbers.concurrency !== 1) {
    throw new ShardlineError(
      'INVALID_OPTION',
      '`processWindow` needs a `concurrency` of 1: the state of a window goes from call to call',
      { value: numbers.concurrency, limit: 1, unit: 'records' },
    );
  }
  return {
    ...numbers,
    applicationName,
    streams: checkStreams(options, initialPosition),
    areStreamsSeveral: options.streams !== undefined,
    handler,
    tumblingWindowMs: handler?.processWindow ? numbers.tumblingWindowMs : 0,
    deserialize: checkFunction('deserialize', options.deserialize),
    filter: checkFunction('filter', options.filter),
    until: checkUntil(options.until),
    bisectBatches: options.bisectBatches ?? false,
    checkpointing: choiceOption('checkpointing', options.checkpointing, ['auto', 'manual'], 'auto'),
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
    leaseMode: choiceOption(
      'leaseMode',
      options.leaseMode,
      ['auto', 'native', 'kcl2', 'kcl3'],
      'auto',
    ),
    leaseKeyPrefix: checkPrefix(options),
    initialPosition,
    retrieval: choiceOption(
      'retrieval',
      options.retrieval,
      ['polling', 'fanOut', 'auto'],
      'polling',
    ),
    fanOutConsumerName: textOption(
      'fanOutConsumerName',
      options.fanOutConsumerName ?? applicationName,
      NAME,
      NAME_LIMIT,
    ),
    deadLetter: options.deadLetter,
    wire: choiceOption('wire', options.wire, WIRES, 'lean'),
    onDamage: choiceOption(
      'onDamage',
      options.onDamage,
      ['raw', 'error', 'keepPrefix', 'deadLetter'],
      'raw',
    ),
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

/** @throws ShardlineError `INVALID_OPTION`. */
export function resolveStream(
  options: StreamOptions,
  initialPosition: InitialPosition,
): ResolvedStream {
  return {
    ref: resolveStreamRef(options),
    initialPosition:
      options.initialPosition === undefined
        ? initialPosition
        : checkPosition(options.initialPosition),
    fanOutConsumerArn: options.fanOutConsumerArn,
  };
}

function checkStreams<Item>(
  options: ConsumerOptions<Item>,
  initialPosition: InitialPosition,
): ResolvedStream[] {
  const { streams, streamName, streamArn, fanOutConsumerArn } = options;
  if (streams === undefined) return [resolveStream(options, initialPosition)];
  const others = Object.entries({ streamName, streamArn, fanOutConsumerArn });
  const [both] = others.find(([, value]) => value !== undefined) ?? [];
  if (both !== undefined || !Array.isArray(streams)) {
    throw new ShardlineError(
      'INVALID_OPTION',
      '`streams` must be a list, and each stream has its own `streamName`, `streamArn` and `fanOutConsumerArn`',
      { value: both ?? typeof streams, limit: 'streams' },
    );
  }
  const resolved = streams.map((stream: StreamOptions) => resolveStream(stream, initialPosition));
  const names = resolved.map(({ ref }) => ref.name);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) {
    throw new ShardlineError('INVALID_OPTION', `\`streams\` has '${twice}' twice`, {
      value: twice,
    });
  }
  return resolved;
}

/** Keys with a prefix are no KCL's. */
function checkPrefix<Item>({ leaseKeyPrefix, leaseMode }: ConsumerOptions<Item>): string {
  if (leaseKeyPrefix === undefined) return '';
  if (leaseMode === 'kcl2' || leaseMode === 'kcl3') {
    throw new ShardlineError(
      'INVALID_OPTION',
      '`leaseKeyPrefix` is for native fleets alone: a KCL reads every row of its table',
      { value: leaseMode, limit: 'native' },
    );
  }
  return textOption('leaseKeyPrefix', leaseKeyPrefix, /^.{1,128}$/, '1 to 128 characters');
}

/** Whatever ends the trying needs somewhere to put what was tried. */
function requireDeadLetter(
  { deadLetter, onDamage }: Pick<ConsumerOptions, 'deadLetter' | 'onDamage'>,
  {
    maxAttempts,
    maxRecordAgeMs,
  }: { readonly maxAttempts: number; readonly maxRecordAgeMs: number },
): void {
  if (deadLetter) return;
  const asked = [
    { name: 'maxAttempts', value: maxAttempts, unit: 'attempts', isUsed: maxAttempts > 0 },
    { name: 'maxRecordAgeMs', value: maxRecordAgeMs, unit: 'ms', isUsed: maxRecordAgeMs > 0 },
    { name: 'onDamage', value: 'deadLetter', unit: undefined, isUsed: onDamage === 'deadLetter' },
  ].find(({ isUsed }) => isUsed);
  if (!asked) return;
  const { name, value, unit } = asked;
  throw new ShardlineError(
    'INVALID_OPTION',
    `\`${name}\` needs the \`deadLetter\` option: without it records would be skipped unseen`,
    { value, limit: 0, unit },
  );
}

const HANDLER_FUNCTIONS = ['processRecord', 'processBatch', 'processWindow'] as const;

function checkHandler(handler: unknown): RecordHandler<unknown> | undefined {
  if (handler === undefined) return undefined;
  const functions = (handler ?? {}) as Record<string, unknown>;
  const given = HANDLER_FUNCTIONS.filter((name) => typeof functions[name] === 'function');
  if (given.length !== 1) {
    throw new ShardlineError(
      'INVALID_OPTION',
      `\`handler\` must have one of the functions ${HANDLER_FUNCTIONS.map((name) => `\`${name}\``).join(', ')}`,
      { value: given.join(', ') || typeof handler, limit: HANDLER_FUNCTIONS.join(', ') },
    );
  }
  return handler as RecordHandler<unknown>;
}

function checkFunction<Function_>(
  name: string,
  value: Function_ | undefined,
): Function_ | undefined {
  if (value === undefined || typeof value === 'function') return value;
  throw new ShardlineError('INVALID_OPTION', `\`${name}\` must be a function`, {
    value: typeof value,
    limit: 'a function',
  });
}

function checkUntil(until: unknown): ReadUntil | undefined {
  if (until === undefined || until === 'now') return until;
  const { timestamp, records } = (until ?? {}) as { timestamp?: unknown; records?: unknown };
  if (timestamp instanceof Date && !Number.isNaN(timestamp.getTime())) return { timestamp };
  if (Number.isSafeInteger(records) && (records as number) > 0)
    return { records: records as number };
  throw new ShardlineError(
    'INVALID_OPTION',
    "`until` must be 'now', { timestamp } with a valid Date, or { records } with an integer of at least 1",
    { value: typeof until, limit: 'now, { timestamp }, { records }' },
  );
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
