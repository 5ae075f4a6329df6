import { Readable } from 'node:stream';

import {
  DeregisterStreamConsumerCommand,
  DescribeStreamConsumerCommand,
  DescribeStreamSummaryCommand,
  GetRecordsCommand,
  GetShardIteratorCommand,
  KinesisClient,
  type KinesisClientConfig,
  ListShardsCommand,
  type ListShardsCommandInput,
  RegisterStreamConsumerCommand,
  type ShardFilter,
  type StartingPosition,
  type StreamDescriptionSummary,
  SubscribeToShardCommand,
  type SubscribeToShardEvent,
  type ChildShard as WireChildShard,
} from '@aws-sdk/client-kinesis';
import {
  awsErrorName,
  CBOR_CONTENT_TYPE,
  type Clock,
  encodeCbor,
  fromAwsError,
  interceptAnswer,
  isSentinel,
  parseHashRange,
  type Random,
  replaceBody,
  retryControlPlane,
  ShardlineError,
  sleep,
  streamInput,
  type StreamRef,
} from '@shardline/shared';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import type { Wire } from '../options.js';
import type { InitialPosition, Shard } from '../shard/shard-sync.js';
import { CborRecordsParser } from './cbor-records-answer.js';
import type { ChildShard, StartingPoint } from './fetcher.js';
import type {
  KinesisReadPort,
  OpenedIterator,
  ReadPage,
  StreamIdentity,
  SubscriptionBatch,
} from './kinesis-read-port.js';
import { JsonRecordsParser, parseRecords, type RecordsAnswer } from './records-answer.js';
import { readEvents } from './subscription-events.js';
import { SubscriptionHandler } from './subscription-handler.js';

export interface KinesisReadClientOptions {
  readonly wire: Wire;
  readonly stream: StreamRef;
  readonly client?: KinesisClient | undefined;
  readonly clientConfig?: KinesisClientConfig | undefined;
  readonly clock: Clock;
  readonly random: Random;
}

/** How long one call but a subscription may take. */
const REQUEST_TIMEOUT_MS = 30_000;
/** The service's time in an answer is cut to whole seconds. */
const DATE_HEADER_STEP_MS = 1_000;
const CONSUMER_POLL_MS = 200;
const CONSUMER_POLLS = 300;

/** The adapter to `@aws-sdk/client-kinesis`: everything a consumer asks of Kinesis. */
export class KinesisReadClient implements KinesisReadPort {
  readonly #options: KinesisReadClientOptions;
  readonly #calls: KinesisClient;
  /** Subscriptions are HTTP/2; the SDK's own handler opens a connection for each. */
  readonly #subscriptions: KinesisClient;
  constructor(options: KinesisReadClientOptions) {
    this.#options = options;
    this.#calls =
      options.client ??
      createClient({
        // The SDK's own handler opens a connection for every call.
        requestHandler: new NodeHttpHandler({
          connectionTimeout: 3_000,
          requestTimeout: REQUEST_TIMEOUT_MS,
          throwOnRequestTimeout: true,
        }),
        ...options.clientConfig,
      });
    this.#subscriptions =
      options.client ??
      createClient({ requestHandler: new SubscriptionHandler(), ...options.clientConfig });
  }

  async listShards(signal: AbortSignal, startingAt?: InitialPosition): Promise<Shard[]> {
    const shards: Shard[] = [];
    let input: ListShardsCommandInput = {
      ...streamInput(this.#options.stream),
      MaxResults: 1_000,
      ...(startingAt !== undefined && { ShardFilter: filterFor(startingAt) }),
    };
    for (;;) {
      const page = input;
      const answer = await this.#retried('ListShards', signal, () =>
        this.#calls.send(new ListShardsCommand(page), { abortSignal: signal }),
      );
      for (const shard of answer.Shards ?? []) {
        const { ShardId, HashKeyRange, SequenceNumberRange } = shard;
        if (ShardId === undefined || HashKeyRange === undefined) continue;
        shards.push({
          shardId: ShardId,
          range: parseHashRange(HashKeyRange as Required<typeof HashKeyRange>),
          parentShardIds: [shard.ParentShardId, shard.AdjacentParentShardId].filter(
            (id) => id !== undefined,
          ),
          isOpen: SequenceNumberRange?.EndingSequenceNumber === undefined,
          startingSequenceNumber: SequenceNumberRange?.StartingSequenceNumber ?? '',
        });
      }
      if (answer.NextToken === undefined) return shards;
      // A page after the first is asked for by its token alone.
      input = { NextToken: answer.NextToken, MaxResults: 1_000 };
    }
  }

  async getIterator(
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
  ): Promise<OpenedIterator> {
    const { Type, SequenceNumber, Timestamp } = startingPosition(from);
    const { clock } = this.#options;
    const command = new GetShardIteratorCommand({
      ...streamInput(this.#options.stream),
      ShardId: shardId,
      ShardIteratorType: Type,
      StartingSequenceNumber: SequenceNumber,
      Timestamp,
    });
    let answeredAtMs = clock.now();
    command.middlewareStack.add(
      (next) => async (args) => {
        const result = await next(args);
        const { headers } = result.response as { readonly headers?: Record<string, string> };
        const serviceTimeMs = Date.parse(headers?.['date'] ?? '');
        if (!Number.isNaN(serviceTimeMs)) answeredAtMs = serviceTimeMs;
        return result;
      },
      { step: 'deserialize', name: 'shardlineServiceTime', priority: 'low' },
    );
    const sentMs = clock.monotonicMs();
    const answer = await this.#calls.send(command, { abortSignal: signal });
    // What the service's clock says in the answer, less all the time since the question.
    return {
      iterator: answer.ShardIterator ?? '',
      notBeforeMs: Math.floor(answeredAtMs - (clock.monotonicMs() - sentMs) - DATE_HEADER_STEP_MS),
    };
  }

  async getRecords(iterator: string, maxRecords: number, signal: AbortSignal): Promise<ReadPage> {
    const { arn } = this.#options.stream;
    const command = new GetRecordsCommand({
      ShardIterator: iterator,
      Limit: maxRecords,
      ...(arn && { StreamARN: arn }),
    });
    const { wire } = this.#options;
    if (wire === 'cbor') {
      const body = encodeCbor(command.input);
      replaceBody(command, 'shardlineGetRecordsBody', body, CBOR_CONTENT_TYPE);
    }
    const leanAnswer =
      wire === 'sdk'
        ? undefined
        : interceptAnswer(command, 'shardlineGetRecordsAnswer', (body, isCbor) =>
            parseRecords(isCbor ? new CborRecordsParser() : new JsonRecordsParser(), body),
          );
    const sdkAnswer = await this.#calls.send(command, { abortSignal: signal });
    const answer = leanAnswer?.() ?? sdkAnswer;
    return {
      records: answer.Records ?? [],
      millisBehindLatest: answer.MillisBehindLatest ?? 0,
      nextIterator: answer.NextShardIterator,
      childShards:
        answer.NextShardIterator === undefined ? childShards(answer.ChildShards) : undefined,
    };
  }

  async subscribe(
    consumerArn: string,
    shardId: string,
    from: StartingPoint,
    signal: AbortSignal,
  ): Promise<AsyncIterable<SubscriptionBatch>> {
    const command = new SubscribeToShardCommand({
      ConsumerARN: consumerArn,
      ShardId: shardId,
      StartingPosition: startingPosition(from),
    });
    const leanEvents =
      this.#options.wire === 'sdk'
        ? undefined
        : interceptAnswer(command, 'shardlineSubscriptionEvents', readEvents, () =>
            Readable.from([]),
          );
    const answer = await this.#subscriptions.send(command, { abortSignal: signal });
    const events = leanEvents?.();
    const stream = answer.EventStream ?? [];
    return (async function* (): AsyncGenerator<SubscriptionBatch> {
      if (events) {
        for await (const event of events) yield batchOf(event);
        return;
      }
      for await (const event of stream) {
        if (event.SubscribeToShardEvent) yield batchOf(event.SubscribeToShardEvent);
      }
    })();
  }

  async consumerArn(consumerName: string, signal: AbortSignal): Promise<string> {
    const StreamARN = await this.#streamArn(signal);
    const { clock } = this.#options;
    for (let poll = 0; poll < CONSUMER_POLLS; poll += 1) {
      const consumer = await this.#describeConsumer(StreamARN, consumerName, signal);
      if (consumer?.ConsumerStatus === 'ACTIVE' && consumer.ConsumerARN !== undefined) {
        return consumer.ConsumerARN;
      }
      if (!consumer) await this.#registerConsumer(StreamARN, consumerName, signal);
      if (poll > 0) await sleep(clock, CONSUMER_POLL_MS, signal);
    }
    throw new ShardlineError(
      'SERVICE_UNAVAILABLE',
      `fan-out consumer '${consumerName}' was not active within ${CONSUMER_POLLS * CONSUMER_POLL_MS} ms`,
      { retryable: true, limit: CONSUMER_POLLS * CONSUMER_POLL_MS, unit: 'ms' },
    );
  }

  async removeConsumer(consumerName: string, signal: AbortSignal): Promise<void> {
    const StreamARN = await this.#streamArn(signal);
    if (!(await this.#describeConsumer(StreamARN, consumerName, signal))) return;
    await this.#retried('DeregisterStreamConsumer', signal, () =>
      this.#calls.send(
        new DeregisterStreamConsumerCommand({ StreamARN, ConsumerName: consumerName }),
        { abortSignal: signal },
      ),
    );
  }

  close(): void {
    if (this.#options.client) return;
    this.#calls.destroy();
    this.#subscriptions.destroy();
  }

  async describe(signal: AbortSignal): Promise<StreamIdentity> {
    const { StreamARN, StreamCreationTimestamp } = await this.#summary(signal);
    return {
      accountId: StreamARN?.split(':')[4] ?? '',
      createdAtSeconds: Math.floor((StreamCreationTimestamp?.getTime() ?? 0) / 1_000),
    };
  }

  async #streamArn(signal: AbortSignal): Promise<string> {
    const { arn } = this.#options.stream;
    return arn ?? (await this.#summary(signal)).StreamARN ?? '';
  }

  async #summary(signal: AbortSignal): Promise<Partial<StreamDescriptionSummary>> {
    const answer = await this.#retried('DescribeStreamSummary', signal, () =>
      this.#calls.send(new DescribeStreamSummaryCommand(streamInput(this.#options.stream)), {
        abortSignal: signal,
      }),
    );
    return answer.StreamDescriptionSummary ?? {};
  }

  async #describeConsumer(
    StreamARN: string,
    ConsumerName: string,
    signal: AbortSignal,
  ): Promise<
    { ConsumerStatus?: string | undefined; ConsumerARN?: string | undefined } | undefined
  > {
    try {
      const answer = await this.#retried('DescribeStreamConsumer', signal, () =>
        this.#calls.send(new DescribeStreamConsumerCommand({ StreamARN, ConsumerName }), {
          abortSignal: signal,
        }),
      );
      return answer.ConsumerDescription;
    } catch (error) {
      if (error instanceof ShardlineError && error.code === 'STREAM_NOT_FOUND') return undefined;
      throw error;
    }
  }

  async #registerConsumer(
    StreamARN: string,
    ConsumerName: string,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#retried('RegisterStreamConsumer', signal, async () => {
      try {
        await this.#calls.send(new RegisterStreamConsumerCommand({ StreamARN, ConsumerName }), {
          abortSignal: signal,
        });
      } catch (error) {
        // Another worker was quicker.
        if (awsErrorName(error) !== 'ResourceInUseException') throw error;
      }
    });
  }

  async #retried<Answer>(
    what: string,
    signal: AbortSignal,
    call: () => Promise<Answer>,
  ): Promise<Answer> {
    const { clock, random, stream } = this.#options;
    try {
      return await retryControlPlane(call, { clock, random, signal });
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      throw fromAwsError(error, `${what} of stream '${stream.name}'`, `kinesis:${what}`);
    }
  }
}

function createClient(config: KinesisClientConfig): KinesisClient {
  // Retries are ours: on our clock, and seen by the status of the shard.
  const client = new KinesisClient({ ...config, maxAttempts: 1 });
  // Walks every record of every answer even with no logger set.
  client.middlewareStack.remove('loggerMiddleware');
  return client;
}

function filterFor(position: InitialPosition): ShardFilter {
  if (typeof position !== 'string') {
    return { Type: 'AT_TIMESTAMP', Timestamp: position.timestamp };
  }
  return { Type: position === 'LATEST' ? 'AT_LATEST' : 'AT_TRIM_HORIZON' };
}

function startingPosition({ position, timestampMs, isAfter }: StartingPoint): StartingPosition {
  const { sequenceNumber } = position;
  if (sequenceNumber === 'AT_TIMESTAMP') {
    return { Type: 'AT_TIMESTAMP', Timestamp: new Date(timestampMs ?? 0) };
  }
  if (isSentinel(sequenceNumber)) {
    return { Type: sequenceNumber === 'LATEST' ? 'LATEST' : 'TRIM_HORIZON' };
  }
  const Type = isAfter ? 'AFTER_SEQUENCE_NUMBER' : 'AT_SEQUENCE_NUMBER';
  return { Type, SequenceNumber: sequenceNumber };
}

function batchOf(event: RecordsAnswer | SubscribeToShardEvent): SubscriptionBatch {
  const continuation = event.ContinuationSequenceNumber;
  return {
    records: event.Records ?? [],
    millisBehindLatest: event.MillisBehindLatest ?? 0,
    continuation,
    childShards: continuation === undefined ? childShards(event.ChildShards) : undefined,
  };
}

/**
 * The children of an ended shard. Undefined unless the answer is whole: an end without children, or a
 * child without parents, is no end to believe in.
 */
function childShards(children: readonly WireChildShard[] | undefined): ChildShard[] | undefined {
  const result = (children ?? []).flatMap(({ ShardId, ParentShards, HashKeyRange }) =>
    ShardId === undefined || !ParentShards?.length || HashKeyRange === undefined
      ? []
      : {
          shardId: ShardId,
          parentShardIds: ParentShards,
          range: parseHashRange(HashKeyRange as Required<typeof HashKeyRange>),
        },
  );
  return result.length > 0 && result.length === children?.length ? result : undefined;
}
