// The global of that name is a getter: a call each time it is used.
import { Buffer } from 'node:buffer';

import type { GetRecordsCommandOutput, SubscribeToShardEvent } from '@aws-sdk/client-kinesis';
import { type KinesisRecord, nextTurn } from '@shardline/shared';

import { ByteQueue } from './byte-queue.js';

/** An answer of GetRecords or an event of a subscription, as much as is read of them. */
export interface RecordsAnswer
  extends
    Pick<GetRecordsCommandOutput, 'MillisBehindLatest' | 'NextShardIterator' | 'ChildShards'>,
    Partial<Pick<SubscribeToShardEvent, 'ContinuationSequenceNumber'>> {
  readonly Records: readonly KinesisRecord[];
}

/** Takes an answer apart as it comes in, so that none holds up the event loop, however large it is. */
export interface RecordsAnswerParser {
  /** There is enough for {@link cut}. */
  readonly isDue: boolean;
  push(chunk: Buffer): void;
  /** Takes apart what has come in. */
  cut(): void;
  /** @throws SyntaxError for what is no such answer. */
  finish(): RecordsAnswer;
}

/** As JSON brings it. */
interface WireAnswer {
  readonly MillisBehindLatest?: number;
  readonly NextShardIterator?: string | null;
  readonly ContinuationSequenceNumber?: string | null;
  readonly ChildShards?: RecordsAnswer['ChildShards'];
  readonly Records?: readonly {
    readonly Data?: string | null;
    readonly PartitionKey?: string | null;
    readonly SequenceNumber?: string | null;
    readonly ApproximateArrivalTimestamp?: number | null;
  }[];
}

const DATA = Buffer.from('"Data":"');
const QUOTE = 0x22;
/** What is taken apart in one go: a millisecond or so. */
const CUT_BYTES = 2 ** 19;

/**
 * An answer, or an event of a subscription, in JSON. The data are cut out and decoded by what Node has built in, and only what is left goes through the JSON parser;
 * inside of a JSON text no quote stands by itself, so the cuts cannot be wrong. What is written in another
 * way than the service does is put together again and parsed as a whole.
 */
export class JsonRecordsParser implements RecordsAnswerParser {
  readonly #data: Buffer[] = [];
  /** The text up to each of the data. */
  readonly #parts: string[] = [];
  /** What came in and was not taken apart yet. */
  readonly #pending = new ByteQueue();
  /** With so much there is enough for the next cut. */
  #dueBytes = CUT_BYTES;
  #isAsUsual = true;

  get isDue(): boolean {
    return this.#pending.bytes >= this.#dueBytes;
  }

  push(chunk: Buffer): void {
    this.#pending.push(chunk);
  }

  finish(): RecordsAnswer {
    this.cut();
    const rest = this.#pending.peek(this.#pending.bytes).toString();
    const data = this.#data;
    if (this.#isAsUsual) {
      const answer = JSON.parse(this.#parts.join('') + rest) as WireAnswer;
      const { Records = [] } = answer;
      const isMatching = Records.length === data.length && Records.every(({ Data }) => Data === '');
      if (isMatching) return withRecords(answer, (index) => data[index]);
    }
    const parts = this.#parts.map((part, index) => part + data[index]?.toString('base64'));
    const whole = JSON.parse(parts.join('') + rest) as WireAnswer;
    return withRecords(whole, (_, text) => Buffer.from(text ?? '', 'base64'));
  }

  cut(): void {
    const body = this.#pending.peek(this.#pending.bytes);
    let at = 0;
    while (this.#isAsUsual) {
      const found = body.indexOf(DATA, at);
      const start = found + DATA.length;
      const end = found < 0 ? -1 : body.indexOf(QUOTE, start);
      if (end < 0) break;
      const bytes = decodeExactly(body.toString('latin1', start, end));
      if (!bytes) this.#isAsUsual = false;
      else {
        this.#data.push(bytes);
        this.#parts.push(body.toString('utf8', at, start));
        at = end;
      }
    }
    this.#pending.drop(at);
    const { bytes } = this.#pending;
    // In proportion to a record that is larger, so that it is not looked through over and over.
    this.#dueBytes = bytes + Math.max(CUT_BYTES, bytes);
  }
}

/** What a parser makes of an answer that comes in. */
export async function parseRecords(
  parser: RecordsAnswerParser,
  body: AsyncIterable<Buffer>,
): Promise<RecordsAnswer> {
  for await (const chunk of body) {
    parser.push(chunk);
    if (!parser.isDue) continue;
    await nextTurn();
    parser.cut();
  }
  return parser.finish();
}

/** With what is null, as some write what is not there, left out. */
function withRecords(
  answer: WireAnswer,
  dataOf: (index: number, text: string | null | undefined) => Buffer | undefined,
): RecordsAnswer {
  const { NextShardIterator, ContinuationSequenceNumber } = answer;
  return {
    ...answer,
    NextShardIterator: NextShardIterator ?? undefined,
    ContinuationSequenceNumber: ContinuationSequenceNumber ?? undefined,
    Records: (answer.Records ?? []).map((record, index) => ({
      Data: dataOf(index, record.Data),
      PartitionKey: record.PartitionKey ?? undefined,
      SequenceNumber: record.SequenceNumber ?? undefined,
      ApproximateArrivalTimestamp:
        typeof record.ApproximateArrivalTimestamp === 'number'
          ? new Date(Math.round(record.ApproximateArrivalTimestamp * 1_000))
          : undefined,
    })),
  };
}

/** Undefined if anything in it is not base64: Node passes that over. */
function decodeExactly(text: string): Buffer | undefined {
  const { length } = text;
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const bytes = Buffer.from(text, 'base64');
  return length % 4 === 0 && bytes.length === (length / 4) * 3 - padding ? bytes : undefined;
}
