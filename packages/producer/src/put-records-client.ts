import {
  DescribeStreamSummaryCommand,
  KinesisClient,
  type KinesisClientConfig,
  ListShardsCommand,
  type ListShardsCommandInput,
  PutRecordsCommand,
} from '@aws-sdk/client-kinesis';
import {
  classifyAwsError,
  type Clock,
  findHoles,
  fromAwsError,
  gather,
  interceptAnswer,
  nextTurn,
  parseHashRange,
  type Random,
  replaceBody,
  retryControlPlane,
  ShardlineError,
  streamInput,
  type StreamRef,
} from '@shardline/shared';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import type { Wire } from './options.js';
import { parseCborResults, PutRecordsCbor } from './put-records-cbor.js';
import { outcomeOf, type PutRecordsFormat, type PutRecordsResult } from './put-records-format.js';
import { parseJsonResults, PutRecordsJson } from './put-records-json.js';
import type { StreamTraits } from './router.js';
import type { OpenShard } from './shard-map.js';
import { SpareBodies } from './spare-bodies.js';
import type { EntryOutcome } from './verdict.js';

/** One record of a PutRecords request. */
export interface PutRecordsEntry {
  readonly partitionKey: string;
  readonly explicitHashKey: string | undefined;
  readonly payload: Buffer;
}

/** All a producer asks of Kinesis. */
export interface KinesisWritePort {
  /** Open shards that cover all hash keys, and the largest record the stream takes. */
  describe(signal: AbortSignal): Promise<{
    readonly shards: readonly OpenShard[];
    readonly maxRecordBytes: number;
    /** True where the service distributes records itself and ignores their keys. */
    readonly isSelfDistributing: boolean;
  }>;
  /**
   * One outcome an entry, in order. Payloads that were stored must not be read once it resolved: their memory is
   * used again. Throws what the SDK threw if the request failed as a whole.
   */
  putRecords(
    entries: readonly PutRecordsEntry[],
    signal: AbortSignal,
  ): Promise<readonly EntryOutcome[]>;
  close(): void;
}

interface CallRules {
  readonly clock: Clock;
  readonly random: Random;
  readonly requestTimeoutMs: number;
  readonly wire: Wire;
}

/** A record of a stream that was never told otherwise, its partition key included: 1 MiB. */
const DEFAULT_MAX_RECORD_BYTES = 2 ** 20;
/** To write so much, and then to sign and send it, takes a millisecond each. */
const LARGE_BYTES = 2 ** 18;
/** While a reshard is under way the listing can miss a shard for a moment. */
const INCOMPLETE_LISTING_TRIES = 5;

/** The adapter to `@aws-sdk/client-kinesis`. */
export class SdkKinesisWritePort implements KinesisWritePort {
  readonly #client: KinesisClient;
  readonly #isOwnClient: boolean;
  /** Undefined if the SDK writes the bodies. */
  readonly #format: PutRecordsFormat | undefined;
  readonly #spareBodies = new SpareBodies();
  readonly #stream: StreamRef;
  readonly #clock: Clock;
  readonly #random: Random;
  #hasWarned = false;

  constructor(
    stream: StreamRef,
    clients: {
      readonly client?: KinesisClient | undefined;
      readonly clientConfig?: KinesisClientConfig | undefined;
    },
    { clock, random, requestTimeoutMs, wire }: CallRules,
  ) {
    if (wire === 'lean') this.#format = new PutRecordsJson(stream);
    if (wire === 'cbor') this.#format = new PutRecordsCbor(stream);
    this.#stream = stream;
    this.#clock = clock;
    this.#random = random;
    this.#isOwnClient = clients.client === undefined;
    this.#client = clients.client ?? createClient(clients.clientConfig, requestTimeoutMs);
  }

  async describe(signal: AbortSignal): ReturnType<KinesisWritePort['describe']> {
    const [traits, shards] = await Promise.all([this.#traits(signal), this.#openShards(signal)]);
    return { shards, ...traits };
  }

  async putRecords(
    entries: readonly PutRecordsEntry[],
    signal: AbortSignal,
  ): Promise<readonly EntryOutcome[]> {
    const results = this.#format
      ? await this.#putLean(this.#format, entries, signal)
      : await this.#putBySdk(entries, signal);
    return entries.map((_, index) => outcomeOf(results[index] ?? {}));
  }

  async #putBySdk(
    entries: readonly PutRecordsEntry[],
    signal: AbortSignal,
  ): Promise<readonly PutRecordsResult[]> {
    const command = new PutRecordsCommand({
      ...streamInput(this.#stream),
      Records: entries.map(({ partitionKey, explicitHashKey, payload }) => ({
        PartitionKey: partitionKey,
        ExplicitHashKey: explicitHashKey,
        // Middleware may keep it.
        Data: Buffer.from(payload),
      })),
    });
    const { Records = [] } = await this.#client.send(command, { abortSignal: signal });
    return Records;
  }

  /** With a body of ours, and taking the answer apart: as far as the SDK knows there are no records. */
  async #putLean(
    format: PutRecordsFormat,
    entries: readonly PutRecordsEntry[],
    signal: AbortSignal,
  ): Promise<readonly PutRecordsResult[]> {
    const command = new PutRecordsCommand({ ...streamInput(this.#stream), Records: [] });
    const bytes = entries.reduce((sum, { payload }) => sum + payload.length, 0);
    // In turns of their own, so that no turn of the event loop is a long one.
    const isLarge = bytes >= LARGE_BYTES;
    if (isLarge) await nextTurn();
    signal.throwIfAborted();
    const memory = this.#spareBodies.take(format.largestBytes(entries));
    const body = memory.subarray(0, format.write(memory, entries));
    replaceBody(
      command,
      'shardlinePutRecordsBody',
      body,
      format.contentType,
      isLarge ? nextTurn : undefined,
    );
    const leanAnswer = interceptAnswer(
      command,
      'shardlinePutRecordsAnswer',
      async (chunks, isCbor) =>
        (isCbor ? parseCborResults : parseJsonResults)(await gather(chunks)),
    );
    const { Records = [] } = await this.#client.send(command, { abortSignal: signal });
    // After a failure a socket may still read it.
    this.#spareBodies.reuse(memory);
    return leanAnswer() ?? Records;
  }

  close(): void {
    if (this.#isOwnClient) this.#client.destroy();
  }

  async #traits(signal: AbortSignal): Promise<StreamTraits> {
    try {
      const answer = await this.#retried('DescribeStreamSummary', signal, () =>
        this.#client.send(new DescribeStreamSummaryCommand(streamInput(this.#stream)), {
          abortSignal: signal,
        }),
      );
      const { MaxRecordSizeInKiB: kib, RecordDistributionStrategy } =
        answer.StreamDescriptionSummary ?? {};
      return {
        maxRecordBytes: kib === undefined ? DEFAULT_MAX_RECORD_BYTES : kib * 1024,
        isSelfDistributing: RecordDistributionStrategy === 'AUTO',
      };
    } catch (error) {
      // The right to describe is not needed to write: without it the usual stream is assumed.
      if (error instanceof ShardlineError && classifyAwsError(error.cause) === 'denied') {
        this.#warnOnce();
        return { maxRecordBytes: DEFAULT_MAX_RECORD_BYTES, isSelfDistributing: false };
      }
      throw error;
    }
  }

  #warnOnce(): void {
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    process.emitWarning(
      `no right to kinesis:DescribeStreamSummary on stream '${this.#stream.name}': records of at most 1 MiB and distribution by partition key are assumed`,
      'ShardlineWarning',
    );
  }

  async #openShards(signal: AbortSignal): Promise<readonly OpenShard[]> {
    for (let attempt = 1; ; attempt += 1) {
      const shards = await this.#listOpenShards(signal);
      const holes = findHoles(shards.map(({ range }) => range));
      if (holes.length === 0) return shards;
      if (attempt === INCOMPLETE_LISTING_TRIES) {
        throw new ShardlineError(
          'SERVICE_UNAVAILABLE',
          `the listed shards of stream '${this.#stream.name}' leave ${holes.length} ranges of hash keys open`,
          { retryable: true, value: holes.length, limit: 0, unit: 'ranges' },
        );
      }
    }
  }

  async #listOpenShards(signal: AbortSignal): Promise<readonly OpenShard[]> {
    const shards: OpenShard[] = [];
    // A page after the first is asked for by its token alone.
    let input: ListShardsCommandInput = {
      ...streamInput(this.#stream),
      MaxResults: 1_000,
      ShardFilter: { Type: 'AT_LATEST' },
    };
    for (;;) {
      const page = input;
      const answer = await this.#retried('ListShards', signal, () =>
        this.#client.send(new ListShardsCommand(page), { abortSignal: signal }),
      );
      for (const shard of answer.Shards ?? []) {
        // Some emulators ignore the filter.
        if (shard.SequenceNumberRange?.EndingSequenceNumber !== undefined) continue;
        if (shard.ShardId === undefined || shard.HashKeyRange === undefined) continue;
        shards.push({
          shardId: shard.ShardId,
          range: parseHashRange(shard.HashKeyRange as Required<typeof shard.HashKeyRange>),
        });
      }
      if (answer.NextToken === undefined) return shards;
      input = { NextToken: answer.NextToken, MaxResults: 1_000 };
    }
  }

  async #retried<Answer>(
    what: string,
    signal: AbortSignal,
    call: () => Promise<Answer>,
  ): Promise<Answer> {
    try {
      return await retryControlPlane(call, {
        clock: this.#clock,
        random: this.#random,
        signal,
      });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw fromAwsError(error, `${what} of stream '${this.#stream.name}'`, `kinesis:${what}`);
    }
  }
}

function createClient(config: KinesisClientConfig = {}, requestTimeoutMs: number): KinesisClient {
  const client = new KinesisClient({
    // The SDK's own handler opens a connection for every call.
    requestHandler: new NodeHttpHandler({
      connectionTimeout: 3_000,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true,
    }),
    ...config,
    // Retries are the producer's: on its clock, under its deadline, record by record.
    maxAttempts: 1,
  });
  // Walks every record of every call even with no logger set.
  client.middlewareStack.remove('loggerMiddleware');
  return client;
}
