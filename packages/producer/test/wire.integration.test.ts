import { createHash, createHmac } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { KinesisClient } from '@aws-sdk/client-kinesis';
import { CBOR_CONTENT_TYPE, decodeCbor, encodeCbor, systemClock } from '@shardline/shared';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { Wire } from '../src/options.js';
import { type PutRecordsEntry, SdkKinesisWritePort } from '../src/put-records-client.js';

interface Seen {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
}

let server: Server;
let seen: Seen[] = [];
/** In the encoding of the request, unless it says another. */
let answer: { status: number; body: unknown; contentType?: string };
let client: KinesisClient;

beforeAll(async () => {
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      seen.push({ headers: request.headers, body: Buffer.concat(chunks) });
      const contentType = answer.contentType ?? String(request.headers['content-type']);
      const isCbor = contentType === CBOR_CONTENT_TYPE;
      response.writeHead(answer.status, { 'content-type': contentType });
      response.end(isCbor ? encodeCbor(answer.body) : JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  client = new KinesisClient({
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b', sessionToken: 'c' },
    requestHandler: new (await import('@smithy/node-http-handler')).NodeHttpHandler(),
    maxAttempts: 1,
  });
});

afterAll(async () => {
  client.destroy();
  await new Promise((resolve) => server.close(resolve));
});

const signatureIn = (request: Seen | undefined): string | undefined =>
  /Signature=(\w+)/.exec(String(request?.headers['authorization']))?.[1];

/** The signature a request should have (Signature Version 4, with the key of the client above). */
function signatureOf(request: Seen | undefined): string {
  const { headers = {}, body = '' } = request ?? {};
  const authorization = String(headers['authorization']);
  const scope = /Credential=a\/([^,]+)/.exec(authorization)?.[1] ?? '';
  const names = /SignedHeaders=([^,]+)/.exec(authorization)?.[1] ?? '';
  const hash = (text: string | Buffer): string => createHash('sha256').update(text).digest('hex');
  const hmac = (key: string | Buffer, text: string): Buffer =>
    createHmac('sha256', key).update(text).digest();
  const canonicalHeaders = names
    .split(';')
    .map((name) => `${name}:${String(headers[name]).trim()}\n`);
  const canonical = ['POST', '/', '', canonicalHeaders.join(''), names, hash(body)].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, hash(canonical)].join('\n');
  const key = scope
    .split('/')
    .reduce<string | Buffer>((secret, part) => hmac(secret, part), 'AWS4b');
  return hmac(key, toSign).toString('hex');
}

const port = (wire: Wire, stream = { name: 'orders', arn: undefined as string | undefined }) =>
  new SdkKinesisWritePort(
    stream,
    { client },
    { clock: systemClock, random: Math.random, requestTimeoutMs: 5_000, wire },
  );

const { signal } = new AbortController();

const anyEntry = fc.record({
  partitionKey: fc.oneof(
    fc.string({ minLength: 1, maxLength: 40 }),
    fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
    fc.constantFrom('"', '\\', '","Data":"', '\n\u0000', 'ключ', '🔑'),
  ),
  explicitHashKey: fc.option(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map(String), {
    nil: undefined,
  }),
  payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
});

describe('the lean wire', () => {
  it('sends what the SDK would send, byte for byte of its meaning, in requests signed as well', async () => {
    const stored = { SequenceNumber: '1', ShardId: 's' };
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyEntry, { minLength: 1, maxLength: 20 }),
        fc.constantFrom(undefined, 'arn:aws:kinesis:us-east-1:123456789012:stream/orders'),
        async (entries: PutRecordsEntry[], arn) => {
          seen = [];
          answer = { status: 200, body: { Records: entries.map(() => stored) } };
          const results = [];
          for (const wire of ['sdk', 'lean', 'cbor'] as const) {
            results.push(await port(wire, { name: 'orders', arn }).putRecords(entries, signal));
          }
          const [sdk, lean, cbor] = seen as [Seen, Seen, Seen];
          const jsonOf = ({ body }: Seen): unknown => JSON.parse(String(body));
          expect(jsonOf(lean)).toEqual(jsonOf(sdk));
          const { Records, ...rest } = decodeCbor(cbor.body) as { Records: { Data: Buffer }[] };
          const inBase64 = Records.map((record) => ({
            ...record,
            Data: record.Data.toString('base64'),
          }));
          expect({ ...rest, Records: inBase64 }).toEqual(jsonOf(sdk));
          expect(lean.headers['content-type']).toBe(sdk.headers['content-type']);
          expect(cbor.headers['content-type']).toBe('application/x-amz-cbor-1.1');
          for (const each of [lean, cbor]) {
            expect(each.headers['content-length']).toBe(String(each.body.length));
            expect(each.headers['x-amz-target']).toBe('Kinesis_20131202.PutRecords');
            expect(signatureIn(each)).toBe(signatureOf(each));
            expect(each.headers['x-amz-security-token']).toBe('c');
          }
          expect(results[1]).toEqual(results[0]);
          expect(results[2]).toEqual(results[0]);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('reports what the service refuses as the SDK does, entry by entry and as a whole', async () => {
    const entries = [1, 2].map((number) => ({
      partitionKey: `k${number}`,
      explicitHashKey: undefined,
      payload: Buffer.from('x'),
    }));
    answer = {
      status: 200,
      body: {
        Records: [
          { SequenceNumber: '1', ShardId: 's' },
          { ErrorCode: 'ProvisionedThroughputExceededException', ErrorMessage: 'slow down' },
        ],
      },
    };
    const expected = await port('sdk').putRecords(entries, signal);
    expect(await port('lean').putRecords(entries, signal)).toEqual(expected);
    expect(await port('cbor').putRecords(entries, signal)).toEqual(expected);
    answer = { status: 400, body: { __type: 'ResourceNotFoundException', message: 'gone' } };
    for (const wire of ['sdk', 'lean', 'cbor'] as const) {
      await expect(port(wire).putRecords(entries, signal)).rejects.toMatchObject({
        name: 'ResourceNotFoundException',
        message: 'gone',
        $metadata: { httpStatusCode: 400 },
      });
    }
  });

  it('does not take null for a sequence number', async () => {
    const entry = { partitionKey: 'k', explicitHashKey: undefined, payload: Buffer.from('x') };
    const refused = { SequenceNumber: null, ShardId: null, ErrorCode: 'InternalFailure' };
    answer = { status: 200, body: { Records: [refused] } };
    for (const wire of ['lean', 'cbor', 'sdk'] as const) {
      const outcomes = await port(wire).putRecords([entry], signal);
      expect(outcomes).toEqual([{ errorCode: 'InternalFailure' }]);
    }
  });

  it('takes what comes in an encoding that was not asked for, and an error without any', async () => {
    const entry = { partitionKey: 'k', explicitHashKey: undefined, payload: Buffer.from('x') };
    const body = { Records: [{ SequenceNumber: '1', ShardId: 's' }] };
    const contentType = 'application/x-amz-json-1.1';
    answer = { status: 200, body, contentType };
    expect(await port('cbor').putRecords([entry], signal)).toEqual([
      { shardId: 's', sequenceNumber: '1' },
    ]);
    answer = { status: 415, body: { __type: 'UnsupportedMedia', message: 'what?' }, contentType };
    await expect(port('cbor').putRecords([entry], signal)).rejects.toMatchObject({
      name: 'UnsupportedMedia',
    });
    answer = { status: 503, body: undefined };
    await expect(port('cbor').putRecords([entry], signal)).rejects.toMatchObject({
      $metadata: { httpStatusCode: 503 },
    });
  });

  it('goes through middleware of the client', async () => {
    answer = { status: 200, body: { Records: [{ SequenceNumber: '1', ShardId: 's' }] } };
    client.middlewareStack.add(
      (next) => (args) => {
        (args.request as { headers: Record<string, string> }).headers['x-mine'] = 'yes';
        return next(args);
      },
      { step: 'build', name: 'mine' },
    );
    seen = [];
    const entry = { partitionKey: 'k', explicitHashKey: undefined, payload: Buffer.from('x') };
    await port('lean').putRecords([entry], signal);
    client.middlewareStack.remove('mine');
    expect(seen[0]?.headers['x-mine']).toBe('yes');
  });

  it('gives middleware copies of payloads where the SDK writes them: their memory is used again', async () => {
    answer = { status: 200, body: { Records: [{ SequenceNumber: '1', ShardId: 's' }] } };
    const kept: Uint8Array[] = [];
    client.middlewareStack.add(
      (next) => (args) => {
        const { Records } = args.input as { Records: readonly { Data: Uint8Array }[] };
        kept.push(...Records.map(({ Data }) => Data));
        return next(args);
      },
      { step: 'initialize', name: 'keeper' },
    );
    const payload = Buffer.from('as it was');
    const entry = { partitionKey: 'k', explicitHashKey: undefined, payload };
    await port('sdk').putRecords([entry], signal);
    client.middlewareStack.remove('keeper');
    payload.fill(0);
    expect(kept.map((data) => Buffer.from(data).toString())).toEqual(['as it was']);
  });

  it('writes a large request in a later turn of the event loop, and not at all if it is aborted before', async () => {
    seen = [];
    answer = { status: 200, body: { Records: [{ SequenceNumber: '1', ShardId: 's' }] } };
    let written = 0;
    const payload = Buffer.alloc(2 ** 18);
    payload.toString = (...args) => {
      written += 1;
      return Buffer.prototype.toString.apply(payload, args);
    };
    const entry = { partitionKey: 'k', explicitHashKey: undefined, payload };
    const put = port('lean').putRecords([entry], signal);
    for (let microtask = 0; microtask < 50; microtask += 1) await Promise.resolve();
    expect(written).toBe(0);
    await put;
    expect(written).toBe(1);
    const aborted = new AbortController();
    const other = port('lean').putRecords([entry], aborted.signal);
    aborted.abort(new Error('changed my mind'));
    await expect(other).rejects.toThrow('changed my mind');
    expect({ written, requests: seen.length }).toEqual({ written: 1, requests: 1 });
  });

  it.each(['lean', 'cbor'] as const)(
    'keeps the bodies of many requests at a time apart, wire %s',
    async (wire) => {
      seen = [];
      answer = { status: 200, body: { Records: [{ SequenceNumber: '1', ShardId: 's' }] } };
      const lean = port(wire);
      for (let round = 0; round < 3; round += 1) {
        await Promise.all(
          Array.from({ length: 12 }, (_, index) => {
            const payload = Buffer.alloc(20_000 + index * 1_000, index);
            return lean.putRecords(
              [{ partitionKey: `k${index}`, explicitHashKey: undefined, payload }],
              signal,
            );
          }),
        );
      }
      expect(seen).toHaveLength(36);
      for (const { body } of seen) {
        const { Records } = (wire === 'cbor' ? decodeCbor(body) : JSON.parse(body.toString())) as {
          readonly Records: readonly {
            readonly Data: Buffer | string;
            readonly PartitionKey: string;
          }[];
        };
        const { Data = '', PartitionKey } = Records[0] ?? {};
        const index = Number(PartitionKey?.slice(1));
        const expected = Buffer.alloc(20_000 + index * 1_000, index);
        // A Buffer is copied as it is.
        expect(Buffer.from(Data as string, 'base64').equals(expected)).toBe(true);
      }
    },
  );
});
