import {
  choiceOption,
  type Clock,
  type DamagePolicy,
  fromLambdaRecord,
  integerOptions,
  type LambdaKinesisRecord,
  type Position,
  RecordDecoder,
  rejectUnknownOptions,
  ShardlineError,
  systemClock,
  type UserRecord,
} from '@shardline/shared';

import { handledOf } from './processing/failure-policy.js';
import type { HandlerContext, RecordHandler } from './processing/handler.js';
import { laneOf } from './processing/lanes.js';

/** The event a Kinesis event source mapping gives to a function. */
export interface LambdaKinesisEvent {
  readonly Records: readonly (LambdaKinesisRecord & {
    readonly eventID: string;
    readonly eventSourceARN?: string;
  })[];
  /** With a tumbling window: its bounds, as ISO 8601. */
  readonly window?: { readonly start: string; readonly end: string };
  readonly state?: unknown;
  readonly isFinalInvokeForWindow?: boolean;
  readonly shardId?: string;
}

/** What the function answers. */
export interface LambdaKinesisResponse {
  /** At most one: the first Kinesis record that is to be given again, with all behind it. */
  readonly batchItemFailures: readonly { readonly itemIdentifier: string }[];
  readonly state?: unknown;
}

/** What is used of the second argument of a function. */
export interface LambdaContext {
  getRemainingTimeInMillis(): number;
}

export interface LambdaHandlerOptions<Item = UserRecord> {
  readonly handler: RecordHandler<Item>;
  /** What the handler gets in place of the record. */
  readonly deserialize?: (record: UserRecord) => Item | Promise<Item>;
  /** False passes a user record over, inside an aggregate too. */
  readonly filter?: (record: UserRecord) => boolean;
  /**
   * Whether the event source mapping has `ReportBatchItemFailures` among its `FunctionResponseTypes`.
   * Without it Lambda takes any answer for success, so the function throws instead and the whole batch is
   * given again.
   */
  readonly reportsBatchItemFailures: boolean;
  /** Records handled at a time, those of one partition key in order. Range: 1 to 1 000. @defaultValue 1 */
  readonly concurrency?: number;
  /**
   * The handler's `signal` aborts so long before the function would be stopped, so that what is done is
   * reported. Unit: milliseconds. Range: 0 to 60 000.
   *
   * @defaultValue 1 000
   */
  readonly timeReserveMs?: number;
  /** Largest content a compressed record may expand to. Unit: bytes. Range: 1 024 to 1 073 741 824. @defaultValue 33 554 432 */
  readonly maxRawBytes?: number;
  /** What to do with records that are damaged. @defaultValue `'raw'` */
  readonly onDamage?: DamagePolicy;
  /** @defaultValue the machine's */
  readonly clock?: Clock;
}

const RULES = {
  concurrency: { min: 1, max: 1_000, fallback: 1, unit: 'records' },
  timeReserveMs: { min: 0, max: 60_000, fallback: 1_000, unit: 'ms' },
  maxRawBytes: { min: 1_024, max: 2 ** 30, fallback: 2 ** 25, unit: 'bytes' },
} as const;

const OTHER_NAMES = [
  'handler',
  'deserialize',
  'filter',
  'reportsBatchItemFailures',
  'onDamage',
  'clock',
];

/** Shards whose handled records one container remembers. */
const MAX_SHARDS = 100;

/**
 * Makes a Lambda function of a handler: Kinesis records are decompressed and taken apart, failures are
 * reported by the first Kinesis record that has one, and what was handled behind it, or before it in the
 * same aggregate, is remembered while the container lives and not handled again.
 *
 * @throws ShardlineError `INVALID_OPTION`.
 */
export function createLambdaHandler<Item = UserRecord>(
  options: LambdaHandlerOptions<Item>,
): (event: LambdaKinesisEvent, context?: LambdaContext) => Promise<LambdaKinesisResponse> {
  rejectUnknownOptions(options, [...OTHER_NAMES, ...Object.keys(RULES)]);
  if (typeof options.reportsBatchItemFailures !== 'boolean') {
    throw new ShardlineError(
      'INVALID_OPTION',
      '`reportsBatchItemFailures` must say whether the event source mapping has ReportBatchItemFailures',
      { value: typeof options.reportsBatchItemFailures, limit: 'true, false' },
    );
  }
  const { concurrency, timeReserveMs, maxRawBytes } = integerOptions(options, RULES);
  const { clock = systemClock } = options;
  const decoder = new RecordDecoder({
    onDamage: choiceOption('onDamage', options.onDamage, ['raw', 'error', 'keepPrefix'], 'raw'),
    maxRawBytes,
  });
  const remembered = new Map<string, ReadonlySet<string>>();

  return async (event, context) => {
    const shardId = shardOf(event);
    const stopping = new AbortController();
    const timer =
      context &&
      clock.schedule(context.getRemainingTimeInMillis() - timeReserveMs, () =>
        stopping.abort(new Error('the time of the function is almost over')),
      );
    const before = remembered.get(shardId);
    const shard = { shardId, streamName: streamOf(event) };
    const batch = new LambdaBatch(options, shard, stopping.signal, concurrency);
    try {
      for (const record of event.Records) {
        if (!batch.decode(record, decoder, before)) break;
      }
      const state = event.window
        ? await batch.runWindow(event)
        : await batch.run().then(() => undefined);
      remembered.delete(shardId);
      const { firstFailed } = batch;
      if (!firstFailed) return { batchItemFailures: [], ...(event.window && { state }) };
      remembered.set(shardId, batch.done);
      if (remembered.size > MAX_SHARDS) {
        remembered.delete(remembered.keys().next().value as string);
      }
      if (!options.reportsBatchItemFailures) throw firstFailed.error;
      return {
        batchItemFailures: [{ itemIdentifier: firstFailed.sequenceNumber }],
        ...(event.window && { state: event.state }),
      };
    } finally {
      timer?.cancel();
    }
  };
}

interface Failed {
  readonly sequenceNumber: string;
  readonly error: unknown;
}

/** One invocation: the user records of one event, and what became of each. */
class LambdaBatch<Item> {
  /** Positions handled, of this invocation and those it was told of. */
  readonly done = new Set<string>();
  readonly #options: LambdaHandlerOptions<Item>;
  readonly #shard: Pick<HandlerContext, 'shardId' | 'streamName'>;
  readonly #signal: AbortSignal;
  readonly #lanes: UserRecord[][];
  readonly #order: UserRecord[] = [];
  #undecoded: Failed | undefined;
  #error: unknown;

  constructor(
    options: LambdaHandlerOptions<Item>,
    shard: Pick<HandlerContext, 'shardId' | 'streamName'>,
    signal: AbortSignal,
    concurrency: number,
  ) {
    this.#options = options;
    this.#shard = shard;
    this.#signal = signal;
    const isParallel = options.handler.processRecord !== undefined;
    this.#lanes = Array.from({ length: isParallel ? concurrency : 1 }, () => []);
  }

  /** Takes one Kinesis record apart. False if that failed: nothing behind it is begun. */
  decode(
    record: LambdaKinesisRecord,
    decoder: RecordDecoder,
    before: ReadonlySet<string> | undefined,
  ): boolean {
    const records: UserRecord[] = [];
    try {
      decoder.decodeInto(fromLambdaRecord(record), records);
      for (const each of records) {
        const key = keyOf(each);
        this.#order.push(each);
        if (before?.has(key) || (this.#options.filter && !this.#options.filter(each))) {
          this.done.add(key);
        } else {
          const lane = laneOf(each.partitionKey ?? '', this.#lanes.length);
          this.#lanes[lane]?.push(each);
        }
      }
      return true;
    } catch (error) {
      this.#undecoded = { sequenceNumber: record.kinesis.sequenceNumber, error };
      return false;
    }
  }

  /** The first Kinesis record with a user record that was not handled. */
  get firstFailed(): Failed | undefined {
    const open = this.#order.find((record) => !this.done.has(keyOf(record)));
    if (!open) return this.#undecoded;
    const error = this.#error ?? this.#signal.reason ?? new Error('not handled');
    return { sequenceNumber: open.sequenceNumber, error };
  }

  /** Handles lane by lane; a lane ends at its first failure. */
  async run(): Promise<void> {
    await Promise.all(this.#lanes.map((lane) => this.#runLane(lane)));
  }

  /** One call for the records of a window. @returns Its new state. */
  async runWindow(event: LambdaKinesisEvent): Promise<unknown> {
    const { handler } = this.#options;
    const records = this.#lanes.flat();
    const { start, end } = event.window as { start: string; end: string };
    try {
      const state = await handler.processWindow?.(
        await this.#items(records),
        {
          startAt: Date.parse(start),
          endAt: Date.parse(end),
          state: event.state,
          isFinal: event.isFinalInvokeForWindow ?? false,
        },
        this.#context(records),
      );
      for (const record of records) this.done.add(keyOf(record));
      return state;
    } catch (error) {
      // A last call may have no record to report.
      if (records.length === 0) throw error;
      this.#error ??= error;
      return event.state;
    }
  }

  async #runLane(lane: readonly UserRecord[]): Promise<void> {
    const { handler } = this.#options;
    try {
      if (handler.processBatch) {
        if (lane.length === 0) return;
        const result = await handler.processBatch(await this.#items(lane), this.#context(lane));
        for (const record of lane.slice(0, handledOf(result, lane.length)))
          this.done.add(keyOf(record));
        return;
      }
      for (const record of lane) {
        if (this.#signal.aborted) return;
        const [item] = await this.#items([record]);
        await handler.processRecord?.(item as Item, this.#context([record]));
        this.done.add(keyOf(record));
      }
    } catch (error) {
      this.#error ??= error;
    }
  }

  async #items(records: readonly UserRecord[]): Promise<Item[]> {
    const { deserialize } = this.#options;
    const items: Item[] = [];
    for (const record of records)
      items.push(deserialize ? await deserialize(record) : (record as Item));
    return items;
  }

  #context(records: readonly UserRecord[]): HandlerContext {
    const last = records.at(-1);
    const position: Position = {
      sequenceNumber: last?.sequenceNumber ?? 'TRIM_HORIZON',
      subSequenceNumber: last?.subSequenceNumber ?? 0,
    };
    return {
      ...this.#shard,
      position,
      records,
      signal: this.#signal,
      // Lambda calls one function at a time for a shard, and keeps the positions itself.
      fencingToken: 0,
      attempt: 1,
      millisBehindLatest: 0,
      checkpoint: () => Promise.resolve(undefined),
      prepareCheckpoint: () => Promise.resolve(undefined),
    };
  }
}

function keyOf({ sequenceNumber, subSequenceNumber }: Position): string {
  return `${sequenceNumber}:${subSequenceNumber}`;
}

/** An event id is the shard's id, a colon and the sequence number. */
function streamOf(event: LambdaKinesisEvent): string {
  return event.Records[0]?.eventSourceARN?.split('/')[1] ?? '';
}

function shardOf({ Records, shardId }: LambdaKinesisEvent): string {
  return shardId ?? Records[0]?.eventID.split(':')[0] ?? '';
}
