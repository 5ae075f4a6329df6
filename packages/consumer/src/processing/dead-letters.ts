import { appendFile } from 'node:fs/promises';

import { awsErrorName, isShardlineError, ShardlineError, type UserRecord } from '@shardline/shared';

import type { DeadLetter, HandlerContext } from './handler.js';

/** A record that was given up, as destinations of bytes get it: JSON, one line a record. */
export interface DeadLetterLine {
  readonly shardId: string;
  readonly sequenceNumber: string;
  readonly subSequenceNumber: number;
  readonly partitionKey: string | null;
  readonly explicitHashKey: string | null;
  /** Epoch milliseconds by the service's clock. */
  readonly arrivedAt: number | null;
  /** base64 */
  readonly data: string;
  readonly error: { readonly name: string; readonly message: string };
  readonly attempts: number;
}

/** Appends given-up records to a file, a line of JSON each, and waits until they are on the disk. */
export function deadLetterToFile(path: string): DeadLetter {
  return async (records, error, context) => {
    const lines = records.map((record) => `${JSON.stringify(lineOf(record, error, context))}\n`);
    await appendFile(path, lines.join(''), { flush: true });
  };
}

/** What a stream's dead letter needs: a `Producer` is one. */
export interface DeadLetterProducer {
  put(record: { readonly partitionKey: string; readonly data: Uint8Array }): Promise<unknown>;
}

/** Puts given-up records to another stream, each as a line of JSON under its partition key. */
export function deadLetterToStream(producer: DeadLetterProducer): DeadLetter {
  return async (records, error, context) => {
    await Promise.all(
      records.map((record) =>
        producer.put({
          partitionKey: record.partitionKey ?? context.shardId,
          data: Buffer.from(JSON.stringify(lineOf(record, error, context))),
        }),
      ),
    );
  };
}

/** The one call of the `SQS` class of `@aws-sdk/client-sqs` that is needed. */
export interface SqsSender {
  sendMessage(input: { readonly QueueUrl: string; readonly MessageBody: string }): Promise<unknown>;
}

/** Largest message. @see https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html */
const MAX_SQS_BYTES = 2 ** 20;

/**
 * Sends given-up records to a queue, a message each. A record too large for a message stays with its
 * handler, with a `RECORD_TOO_LARGE` in the diagnostics: combine with another destination if that can be.
 */
export function deadLetterToSqs(client: SqsSender, queueUrl: string): DeadLetter {
  return async (records, error, context) => {
    for (const record of records) {
      const body = JSON.stringify(lineOf(record, error, context));
      const bytes = Buffer.byteLength(body);
      if (bytes > MAX_SQS_BYTES) {
        throw new ShardlineError(
          'RECORD_TOO_LARGE',
          `a record of ${bytes} bytes as JSON does not fit a message of ${MAX_SQS_BYTES} bytes`,
          { value: bytes, limit: MAX_SQS_BYTES, unit: 'bytes' },
        );
      }
      await client.sendMessage({ QueueUrl: queueUrl, MessageBody: body });
    }
  };
}

/** The one call of the `S3` class of `@aws-sdk/client-s3` that is needed. */
export interface S3Writer {
  putObject(input: {
    readonly Bucket: string;
    readonly Key: string;
    readonly Body: string;
    readonly ContentType: string;
  }): Promise<unknown>;
}

/**
 * Writes given-up records to a bucket, an object a batch: `<prefix><shard>/<sequence>-<sub-sequence>.jsonl`
 * of its first record, so that what is written again takes the same place.
 */
export function deadLetterToS3(client: S3Writer, bucket: string, prefix = ''): DeadLetter {
  return async (records, error, context) => {
    const [first] = records;
    if (!first) return;
    await client.putObject({
      Bucket: bucket,
      Key: `${prefix}${context.shardId}/${first.sequenceNumber}-${first.subSequenceNumber}.jsonl`,
      Body: records.map((record) => `${JSON.stringify(lineOf(record, error, context))}\n`).join(''),
      ContentType: 'application/x-ndjson',
    });
  };
}

function lineOf(
  record: UserRecord,
  error: unknown,
  { shardId, attempt }: HandlerContext,
): DeadLetterLine {
  return {
    shardId,
    sequenceNumber: record.sequenceNumber,
    subSequenceNumber: record.subSequenceNumber,
    partitionKey: record.partitionKey ?? null,
    explicitHashKey: record.explicitHashKey ?? null,
    arrivedAt: record.arrivedAt ?? null,
    data: record.data.toString('base64'),
    error: {
      name: isShardlineError(error) ? error.code : awsErrorName(error),
      message: error instanceof Error ? error.message : String(error),
    },
    attempts: attempt,
  };
}
