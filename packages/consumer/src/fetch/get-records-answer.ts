import type { GetRecordsCommandOutput } from '@aws-sdk/client-kinesis';
import type { KinesisRecord } from '@shardline/shared';

/** An answer of GetRecords, as much as is read of it. */
export interface GetRecordsAnswer extends Pick<
  GetRecordsCommandOutput,
  'MillisBehindLatest' | 'NextShardIterator' | 'ChildShards'
> {
  readonly Records: readonly KinesisRecord[];
}

/** As JSON brings it. */
type WireAnswer = Omit<GetRecordsAnswer, 'Records'> & {
  readonly Records?: readonly {
    readonly Data?: string;
    readonly PartitionKey?: string;
    readonly SequenceNumber?: string;
    readonly ApproximateArrivalTimestamp?: number;
  }[];
};

const DATA = Buffer.from('"Data":"');
const QUOTE = 0x22;

/**
 * Takes an answer apart. The data are cut out and decoded by what Node has built in, and only what is left
 * goes through the JSON parser; inside of a JSON text no quote stands by itself, so the cuts cannot be
 * wrong. What is written in another way than the service does is parsed as a whole.
 */
export function parseGetRecords(body: Buffer): GetRecordsAnswer {
  const data: Buffer[] = [];
  const parts: string[] = [];
  let at = 0;
  for (;;) {
    const found = body.indexOf(DATA, at);
    if (found < 0) break;
    const start = found + DATA.length;
    const end = body.indexOf(QUOTE, start);
    const bytes = decodeExactly(body.toString('latin1', start, end));
    if (end < 0 || !bytes) return parseWhole(body);
    data.push(bytes);
    parts.push(body.toString('utf8', at, start));
    at = end;
  }
  parts.push(body.toString('utf8', at));
  const answer = JSON.parse(parts.join('')) as WireAnswer;
  const { Records = [] } = answer;
  const isMatching = Records.length === data.length && Records.every(({ Data }) => Data === '');
  return isMatching ? withRecords(answer, (index) => data[index]) : parseWhole(body);
}

function parseWhole(body: Buffer): GetRecordsAnswer {
  const answer = JSON.parse(body.toString()) as WireAnswer;
  return withRecords(answer, (_, text) => Buffer.from(text ?? '', 'base64'));
}

function withRecords(
  answer: WireAnswer,
  dataOf: (index: number, text: string | undefined) => Buffer | undefined,
): GetRecordsAnswer {
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
