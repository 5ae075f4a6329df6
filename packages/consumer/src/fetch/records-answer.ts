import type { GetRecordsCommandOutput, SubscribeToShardEvent } from '@aws-sdk/client-kinesis';
import { type KinesisRecord, nextTurn } from '@shardline/shared';

/** An answer of GetRecords or an event of a subscription, as much as is read of them. */
export interface RecordsAnswer
  extends
    Pick<GetRecordsCommandOutput, 'MillisBehindLatest' | 'NextShardIterator' | 'ChildShards'>,
    Partial<Pick<SubscribeToShardEvent, 'ContinuationSequenceNumber'>> {
  readonly Records: readonly KinesisRecord[];
}

/** As JSON brings it. */
type WireAnswer = Omit<RecordsAnswer, 'Records'> & {
  readonly Records?: readonly {
    readonly Data?: string;
    readonly PartitionKey?: string;
    readonly SequenceNumber?: string;
    readonly ApproximateArrivalTimestamp?: number;
  }[];
};

const DATA = Buffer.from('"Data":"');
const QUOTE = 0x22;
/** What is taken apart in one go: a millisecond or so. */
const CUT_BYTES = 2 ** 19;

/**
 * Takes an answer apart as it comes in, so that none holds up the event loop, however large it is. The data
 * are cut out and decoded by what Node has built in, and only what is left goes through the JSON parser;
 * inside of a JSON text no quote stands by itself, so the cuts cannot be wrong. What is written in another
 * way than the service does is parsed as a whole.
 */
export class RecordsParser {
  readonly #chunks: Buffer[] = [];
  readonly #data: Buffer[] = [];
  readonly #parts: string[] = [];
  /** What came in and was not taken apart yet: from behind some data on. */
  #pending: Buffer[] = [];
  /** Came in since the last cut. */
  #uncutBytes = 0;
  #isAsUsual = true;

  /** There is enough for {@link cut}. */
  get isDue(): boolean {
    return this.#uncutBytes >= CUT_BYTES;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#pending.push(chunk);
    this.#uncutBytes += chunk.length;
  }

  /** @throws SyntaxError for what is no JSON. */
  finish(): RecordsAnswer {
    this.cut();
    const rest = Buffer.concat(this.#pending).toString();
    if (!this.#isAsUsual) return parseWhole(Buffer.concat(this.#chunks));
    const answer = JSON.parse(this.#parts.join('') + rest) as WireAnswer;
    const { Records = [] } = answer;
    const data = this.#data;
    const isMatching = Records.length === data.length && Records.every(({ Data }) => Data === '');
    return isMatching
      ? withRecords(answer, (index) => data[index])
      : parseWhole(Buffer.concat(this.#chunks));
  }

  /** Takes apart what has come in. */
  cut(): void {
    const body =
      this.#pending.length === 1 ? (this.#pending[0] as Buffer) : Buffer.concat(this.#pending);
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
    this.#pending = [body.subarray(at)];
    this.#uncutBytes = 0;
  }
}

/** What {@link RecordsParser} makes of an answer. */
export async function parseGetRecords(body: AsyncIterable<Buffer>): Promise<RecordsAnswer> {
  const parser = new RecordsParser();
  for await (const chunk of body) {
    parser.push(chunk);
    if (!parser.isDue) continue;
    await nextTurn();
    parser.cut();
  }
  return parser.finish();
}

function parseWhole(body: Buffer): RecordsAnswer {
  const answer = JSON.parse(body.toString()) as WireAnswer;
  return withRecords(answer, (_, text) => Buffer.from(text ?? '', 'base64'));
}

function withRecords(
  answer: WireAnswer,
  dataOf: (index: number, text: string | undefined) => Buffer | undefined,
): RecordsAnswer {
  return {
    ...answer,
    Records: (answer.Records ?? []).map((record, index) => ({
      Data: dataOf(index, record.Data),
      PartitionKey: record.PartitionKey,
      SequenceNumber: record.SequenceNumber,
      ApproximateArrivalTimestamp:
        record.ApproximateArrivalTimestamp === undefined
          ? undefined
          : new Date(Math.round(record.ApproximateArrivalTimestamp * 1_000)),
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
