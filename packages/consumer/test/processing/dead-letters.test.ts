import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  type DeadLetter,
  type DeadLetterLine,
  deadLetterToFile,
  deadLetterToS3,
  deadLetterToSqs,
  deadLetterToStream,
  type HandlerContext,
} from '@shardline/consumer';
import { type UserRecord } from '@shardline/shared';
import { describe, expect, it } from 'vitest';

const CONTEXT: HandlerContext = {
  streamName: 'orders',
  shardId: 'shardId-000000000001',
  position: { sequenceNumber: '77', subSequenceNumber: 1 },
  records: [],
  signal: new AbortController().signal,
  fencingToken: 3,
  attempt: 5,
  millisBehindLatest: 0,
  checkpoint: () => Promise.resolve(undefined),
  prepareCheckpoint: () => Promise.resolve(undefined),
};

function record(subSequenceNumber: number, data: Buffer = Buffer.from([0, 255])): UserRecord {
  return {
    partitionKey: 'k',
    explicitHashKey: undefined,
    data,
    sequenceNumber: '77',
    subSequenceNumber,
    isAggregated: true,
    arrivedAt: 1_000,
    origin: undefined,
    damage: undefined,
  };
}

const lineOf = (subSequenceNumber: number): DeadLetterLine => ({
  shardId: 'shardId-000000000001',
  sequenceNumber: '77',
  subSequenceNumber,
  partitionKey: 'k',
  explicitHashKey: null,
  arrivedAt: 1_000,
  data: 'AP8=',
  error: { name: 'TypeError', message: 'broken' },
  attempts: 5,
});

const give = async (deadLetter: DeadLetter, records: readonly UserRecord[]): Promise<void> =>
  deadLetter(records, new TypeError('broken'), CONTEXT);

describe('dead letters', () => {
  it('go to a file, a line each, behind what is there', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'shardline-'));
    const path = join(folder, 'dead.jsonl');
    const deadLetter = deadLetterToFile(path);
    await give(deadLetter, [record(0), record(1)]);
    await give(deadLetter, [record(2)]);
    const lines = (await readFile(path, 'utf8')).trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([0, 1, 2].map(lineOf));
    await rm(folder, { recursive: true });
  });

  it('go to another stream under their keys', async () => {
    const put: { partitionKey: string; data: Uint8Array }[] = [];
    const producer = { put: (given: (typeof put)[number]) => Promise.resolve(put.push(given)) };
    await give(deadLetterToStream(producer), [record(0)]);
    expect(put.map(({ partitionKey }) => partitionKey)).toEqual(['k']);
    expect(JSON.parse(Buffer.from(put[0]?.data ?? []).toString())).toEqual(lineOf(0));
  });

  it('go to a queue, a message each; one that is too large is refused by a typed error', async () => {
    const sent: { QueueUrl: string; MessageBody: string }[] = [];
    const deadLetter = deadLetterToSqs(
      { sendMessage: (input) => Promise.resolve(sent.push(input)) },
      'https://queue',
    );
    await give(deadLetter, [record(0), record(1)]);
    expect(sent.map(({ QueueUrl }) => QueueUrl)).toEqual(['https://queue', 'https://queue']);
    expect(sent.map(({ MessageBody }) => JSON.parse(MessageBody) as unknown)).toEqual(
      [0, 1].map(lineOf),
    );
    await expect(give(deadLetter, [record(2, Buffer.alloc(2 ** 20))])).rejects.toMatchObject({
      code: 'RECORD_TOO_LARGE',
      limit: 2 ** 20,
      unit: 'bytes',
    });
  });

  it('go to a bucket, an object a batch, and to the same place when they come again', async () => {
    const written = new Map<string, string>();
    const deadLetter = deadLetterToS3(
      {
        putObject: ({ Bucket, Key, Body }) =>
          Promise.resolve(written.set(`${Bucket}/${Key}`, Body)),
      },
      'bucket',
      'dead/',
    );
    await give(deadLetter, [record(4), record(5)]);
    await give(deadLetter, [record(4), record(5)]);
    expect([...written.keys()]).toEqual(['bucket/dead/shardId-000000000001/77-4.jsonl']);
    const [body = ''] = written.values();
    expect(
      body
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([4, 5].map(lineOf));
  });

  it('stay with the handler when their destination fails', async () => {
    const down = (): Promise<never> => Promise.reject(new Error('down'));
    for (const deadLetter of [
      deadLetterToFile('/nowhere/at/all'),
      deadLetterToStream({ put: down }),
      deadLetterToSqs({ sendMessage: down }, 'q'),
      deadLetterToS3({ putObject: down }, 'b'),
    ]) {
      await expect(give(deadLetter, [record(0)])).rejects.toThrow(/ENOENT|down/);
    }
  });
});
