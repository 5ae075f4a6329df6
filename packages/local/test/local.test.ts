import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import * as http from 'node:http';
import * as https from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { DynamoDBClient, ListTablesCommand } from '@aws-sdk/client-dynamodb';
import * as sdk from '@aws-sdk/client-kinesis';
import {
  KinesisEngine,
  type Local,
  type LocalOptions,
  ServiceFault,
  startLocal,
} from '@shardline/local';
import { decodeCbor, encodeCbor } from '@shardline/shared';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { afterEach, describe, expect, it } from 'vitest';

const {
  GetRecordsCommand,
  GetShardIteratorCommand,
  KinesisClient,
  PutRecordCommand,
  PutRecordsCommand,
} = sdk;

let local: Local | undefined;
let client: sdk.KinesisClient | undefined;

afterEach(async () => {
  client?.destroy();
  await local?.close();
});

async function setup(options: LocalOptions = {}) {
  local = await startLocal({ streams: [{ name: 'orders', shards: 1 }], ...options });
  const agent = new https.Agent({ ca: local.tlsCertificate });
  client = new KinesisClient({
    ...local.kinesis,
    maxAttempts: 1,
    requestHandler: new NodeHttpHandler({ httpsAgent: agent }),
  });
  return { local, client };
}

const put = (data: string) =>
  (client as sdk.KinesisClient).send(
    new PutRecordCommand({ StreamName: 'orders', PartitionKey: 'k', Data: Buffer.from(data) }),
  );

const stored = (): string[] =>
  [...(local as Local).engine.stored('orders').values()].flat().map(({ Data }) => Data.toString());

describe('the API', () => {
  it('has every operation of the SDK and no other', () => {
    const commands = Object.keys(sdk).flatMap(
      (name) => /^([A-Z]\w+)Command$/.exec(name)?.[1] ?? [],
    );
    expect(KinesisEngine.operations).toEqual(commands.filter((name) => name !== '$').sort());
  });

  it('keeps warm throughput, distribution, account settings and channels of on-demand streams', async () => {
    const { client: kinesis, local: service } = await setup();
    await kinesis.send(
      new sdk.CreateStreamCommand({
        StreamName: 'auto',
        StreamModeDetails: { StreamMode: 'ON_DEMAND' },
      }),
    );
    const StreamARN = service.engine.streamArn('auto');
    await kinesis.send(
      new sdk.UpdateStreamWarmThroughputCommand({ StreamARN, WarmThroughputMiBps: 100 }),
    );
    await kinesis.send(
      new sdk.UpdateStreamRecordDistributionStrategyCommand({
        StreamARN,
        RecordDistributionStrategy: 'AUTO',
      }),
    );
    const created = await kinesis.send(
      new sdk.CreateChannelCommand({
        ChannelName: 'archive',
        ServiceExecutionRoleARN: 'arn:aws:iam::000000000000:role/r',
        StreamConfigurationList: [
          { StreamARN, RecordConfiguration: { RecordFormat: 'JSON' } as never },
        ],
        S3DestinationConfiguration: {
          StorageConfiguration: {
            BucketARN: 'arn:aws:s3:::b',
            ExpectedBucketOwner: '000000000000',
            CompressionType: 'GZIP',
          },
        },
      }),
    );
    const ChannelARN = created.ChannelDescription?.ChannelARN;
    const updated = await kinesis.send(
      new sdk.UpdateChannelCommand({
        ChannelARN,
        S3DestinationConfiguration: { DataFreshnessInSeconds: 300 },
      }),
    );
    expect(updated.ChannelDescription?.S3DestinationConfiguration).toMatchObject({
      DataFreshnessInSeconds: 300,
      StorageConfiguration: { CompressionType: 'GZIP' },
    });
    const { StreamDescriptionSummary } = await kinesis.send(
      new sdk.DescribeStreamSummaryCommand({ StreamARN }),
    );
    expect(StreamDescriptionSummary).toMatchObject({
      RecordDistributionStrategy: 'AUTO',
      WarmThroughput: { TargetMiBps: 100 },
      ChannelCount: 1,
    });
    const { ChannelSummaries } = await kinesis.send(new sdk.ListChannelsCommand({}));
    expect(ChannelSummaries).toMatchObject([
      { ChannelName: 'archive', ChannelDestinationType: 'S3', Streams: [{ StreamARN }] },
    ]);
    await kinesis.send(new sdk.DeleteChannelCommand({ ChannelARN }));
    await expect(
      kinesis.send(new sdk.DescribeChannelCommand({ ChannelARN })),
    ).rejects.toMatchObject({ name: 'ResourceNotFoundException' });
    const settings = await kinesis.send(
      new sdk.UpdateAccountSettingsCommand({
        MinimumThroughputBillingCommitment: { Status: 'ENABLED' },
      }),
    );
    expect(settings.MinimumThroughputBillingCommitment).toMatchObject({
      Status: 'ENABLED',
      StartedAt: expect.any(Date) as Date,
    });
  });
});

/** One request as bytes, without an SDK. */
function post(
  operation: string,
  body: Buffer | string,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: http.IncomingHttpHeaders; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      (local as Local).kinesis.endpoint,
      {
        method: 'POST',
        headers: {
          'content-type': 'application/x-amz-json-1.1',
          'x-amz-target': `Kinesis_20131202.${operation}`,
          authorization: 'AWS4-HMAC-SHA256 Credential=x',
          ...headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks),
          }),
        );
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

const errorOf = ({ body }: { body: Buffer }): unknown =>
  (JSON.parse(body.toString()) as { __type: unknown }).__type;

describe('the wire', () => {
  it.each([
    ['an unknown operation', 'Nonsense', '{}', {}, 400, 'UnknownOperationException'],
    ['a body that is no JSON', 'ListStreams', '{', {}, 400, 'SerializationException'],
    ['a body that is no structure', 'ListStreams', '[]', {}, 400, 'SerializationException'],
    [
      'a member of the wrong type',
      'ListStreams',
      '{"Limit":"x"}',
      {},
      400,
      'SerializationException',
    ],
    [
      'base64 that is none',
      'PutRecord',
      '{"StreamName":"orders","PartitionKey":"k","Data":"a"}',
      {},
      400,
      'SerializationException',
    ],
    [
      'no signature',
      'ListStreams',
      '{}',
      { authorization: '' },
      400,
      'MissingAuthenticationTokenException',
    ],
  ] as const)(
    "refuses %s by the service's own name",
    async (_, operation, body, headers, status, name) => {
      await setup();
      const answer = await post(operation, body, headers);
      expect([answer.status, errorOf(answer)]).toEqual([status, name]);
      expect(answer.headers['x-amzn-requestid']).toMatch(/^[0-9a-f-]{36}$/);
    },
  );

  it('answers another content type with 404 and a body too large with 413', async () => {
    await setup();
    expect((await post('ListStreams', '{}', { 'content-type': 'text/xml' })).status).toBe(404);
    expect((await post('PutRecords', Buffer.alloc(25 * 2 ** 20))).status).toBe(413);
  });

  it('takes a request of 10 MiB', async () => {
    const { client: kinesis, local: service } = await setup({ limits: false });
    await kinesis.send(
      new sdk.UpdateMaxRecordSizeCommand({
        StreamARN: service.engine.streamArn('orders'),
        MaxRecordSizeInKiB: 10_240,
      }),
    );
    await kinesis.send(
      new PutRecordsCommand({
        StreamName: 'orders',
        Records: [{ PartitionKey: 'k', Data: Buffer.alloc(10 * 2 ** 20 - 1) }],
      }),
    );
    await expect(
      kinesis.send(
        new PutRecordsCommand({
          StreamName: 'orders',
          Records: [1, 2].map(() => ({ PartitionKey: 'k', Data: Buffer.alloc(6 * 2 ** 20) })),
        }),
      ),
    ).rejects.toMatchObject({ name: 'InvalidArgumentException' });
    expect((local as Local).engine.stored('orders').get('shardId-000000000000')).toHaveLength(1);
  });

  it('speaks CBOR: byte strings, tagged milliseconds, errors too', async () => {
    await setup();
    const cbor = { 'content-type': 'application/x-amz-cbor-1.1' };
    // {Records:[{Data:h'6869',PartitionKey:"a"}],StreamName:"orders"}
    const smallest = Buffer.from(
      'a2675265636f72647381a2644461746142686' +
        '96c506172746974696f6e4b657961616a53747265616d4e616d65666f7264657273',
      'hex',
    );
    const answer = await post('PutRecords', smallest, cbor);
    expect(answer.headers['content-type']).toBe('application/x-amz-cbor-1.1');
    expect(decodeCbor(answer.body)).toMatchObject({
      FailedRecordCount: 0,
      Records: [{ ShardId: 'shardId-000000000000' }],
    });
    const iterate = encodeCbor({
      StreamName: 'orders',
      ShardId: 'shardId-000000000000',
      ShardIteratorType: 'AT_TIMESTAMP',
      Timestamp: new Date(0),
    });
    const { ShardIterator } = decodeCbor((await post('GetShardIterator', iterate, cbor)).body) as {
      ShardIterator: string;
    };
    const page = decodeCbor(
      (await post('GetRecords', encodeCbor({ ShardIterator }), cbor)).body,
    ) as { Records: { Data: Buffer; ApproximateArrivalTimestamp: Date }[] };
    expect(page.Records[0]?.Data.toString()).toBe('hi');
    expect(
      Math.abs((page.Records[0]?.ApproximateArrivalTimestamp.getTime() ?? 0) - Date.now()),
    ).toBeLessThan(10_000);
    const refused = await post('DescribeStream', encodeCbor({ StreamName: 'none' }), cbor);
    expect([refused.status, decodeCbor(refused.body)]).toMatchObject([
      400,
      { __type: 'ResourceNotFoundException' },
    ]);
    expect((await post('ListStreams', Buffer.from('ff', 'hex'), cbor)).status).toBe(400);
  });

  it('serves TLS by HTTP/1.1 and HTTP/2 and cleartext on one port', async () => {
    const { local: service } = await setup({ tls: true });
    expect(service.kinesis.endpoint).toMatch(/^https:/);
    await put('over TLS');
    const overHttp2 = new KinesisClient({
      ...service.kinesis,
      maxAttempts: 1,
      requestHandler: { nodeHttp2ConnectOptions: { ca: service.tlsCertificate } } as never,
    });
    await overHttp2.send(
      new PutRecordCommand({
        StreamName: 'orders',
        PartitionKey: 'k',
        Data: Buffer.from('over HTTP/2 and TLS'),
      }),
    );
    overHttp2.destroy();
    const cleartext = new KinesisClient({
      ...service.kinesis,
      endpoint: service.kinesis.endpoint.replace('https', 'http'),
    });
    await cleartext.send(
      new PutRecordCommand({
        StreamName: 'orders',
        PartitionKey: 'k',
        Data: Buffer.from('in the clear'),
      }),
    );
    cleartext.destroy();
    expect(stored()).toEqual(['over TLS', 'over HTTP/2 and TLS', 'in the clear']);
  });

  it('frames a subscription as the service does, to the byte', async () => {
    const { client: kinesis, local: service } = await setup();
    const StreamARN = service.engine.streamArn('orders');
    const { Consumer } = await kinesis.send(
      new sdk.RegisterStreamConsumerCommand({ StreamARN, ConsumerName: 'app' }),
    );
    setTimeout(
      () => service.cutSubscriptions({ error: new ServiceFault('KMSDisabledException', 'off') }),
      50,
    );
    const { body, headers } = await post(
      'SubscribeToShard',
      JSON.stringify({
        ConsumerARN: Consumer?.ConsumerARN,
        ShardId: 'shardId-000000000000',
        StartingPosition: { Type: 'LATEST' },
      }),
    );
    expect(headers['content-type']).toBe('application/vnd.amazon.eventstream');
    expect(body.subarray(0, 104).toString('hex')).toBe(
      '00000068000000564e681724' +
        '0d3a6d6573736167652d747970650700056576656e74' +
        '0b3a6576656e742d74797065070010696e697469616c2d726573706f6e7365' +
        '0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e' +
        '7b7dfe942c1d',
    );
    expect(body.subarray(104).toString('latin1')).toContain(
      ':exception-type\x07\x00\x14KMSDisabledException',
    );
  });
});

describe('faults', () => {
  it.each([
    ['before the write', { kind: 'error', name: 'InternalFailure', status: 500 }, []],
    ['after the write', { kind: 'errorAfter', name: 'InternalFailure', status: 500 }, ['x']],
    ['by cutting the connection before it', { kind: 'drop' }, []],
    ['by cutting the connection after it', { kind: 'dropAfter' }, ['x']],
    ['by half an answer', { kind: 'truncate' }, ['x']],
  ] as const)('fail a write %s', async (_, fault, expected) => {
    const { local: service } = await setup();
    service.faults.inject({ operation: 'PutRecord', fault });
    await expect(put('x')).rejects.toBeInstanceOf(Error);
    expect(stored()).toEqual(expected);
    await put('again');
  });

  it('refuse some of the records of a call, by seed', async () => {
    const { client: kinesis, local: service } = await setup({ random: () => 0.4 });
    service.faults.inject({
      fault: { kind: 'rejectRecords', errorCode: 'InternalFailure', ratio: 0.5 },
      probability: 0.5,
    });
    const Records = [1, 2].map((n) => ({ PartitionKey: 'k', Data: Buffer.from(String(n)) }));
    const answer = await kinesis.send(new PutRecordsCommand({ StreamName: 'orders', Records }));
    expect(answer).toMatchObject({
      FailedRecordCount: 2,
      Records: [{ ErrorCode: 'InternalFailure' }, {}],
    });
  });

  it('delay an answer, and go on until taken back', async () => {
    const { local: service } = await setup();
    const takeBack = service.faults.inject({
      times: Infinity,
      fault: { kind: 'delay', delayMs: 40 },
    });
    const startedMs = performance.now();
    await put('a');
    await put('b');
    expect(performance.now() - startedMs).toBeGreaterThanOrEqual(75);
    takeBack();
    expect(service.faults.next('PutRecord', {})).toBeUndefined();
  });

  it.each([
    'ResourceInUseException',
    'ResourceNotFoundException',
    'InternalFailureException',
    'KMSThrottlingException',
  ])('cut a subscription with %s', async (name) => {
    const { local: service } = await setup();
    const overHttp2 = new KinesisClient({ ...service.kinesis, maxAttempts: 1 });
    const StreamARN = service.engine.streamArn('orders');
    const { Consumer } = await overHttp2.send(
      new sdk.RegisterStreamConsumerCommand({ StreamARN, ConsumerName: 'app' }),
    );
    const { EventStream } = await overHttp2.send(
      new sdk.SubscribeToShardCommand({
        ConsumerARN: Consumer?.ConsumerARN,
        ShardId: 'shardId-000000000000',
        StartingPosition: { Type: 'LATEST' },
      }),
    );
    service.cutSubscriptions({
      shardId: 'shardId-000000000000',
      error: new ServiceFault(name, 'on command'),
    });
    const events = (EventStream as AsyncIterable<unknown>)[Symbol.asyncIterator]();
    await expect(events.next()).rejects.toMatchObject({ name });
    overHttp2.destroy();
  });

  it('deliver records again after a subscription is resumed, to one consumer only', async () => {
    const { local: service } = await setup();
    await put('one');
    const { SequenceNumber } = await put('two');
    const overHttp2 = new KinesisClient({ ...service.kinesis, maxAttempts: 1 });
    service.faults.inject({ consumerName: 'app', fault: { kind: 'repeat', records: 2 } });
    const resume = async (ConsumerName: string): Promise<number | undefined> => {
      const { Consumer } = await overHttp2.send(
        new sdk.RegisterStreamConsumerCommand({
          StreamARN: service.engine.streamArn('orders'),
          ConsumerName,
        }),
      );
      const { EventStream } = await overHttp2.send(
        new sdk.SubscribeToShardCommand({
          ConsumerARN: Consumer?.ConsumerARN,
          ShardId: 'shardId-000000000000',
          StartingPosition: { Type: 'AT_SEQUENCE_NUMBER', SequenceNumber },
        }),
      );
      for await (const { SubscribeToShardEvent: event } of EventStream ?? [])
        return event?.Records?.length;
      return undefined;
    };
    expect(await resume('other')).toBe(1);
    expect(await resume('app')).toBe(2);
    service.cutSubscriptions();
    overHttp2.destroy();
  });
});

describe('startLocal', () => {
  it('gives a DynamoDB beside it', async () => {
    const service = await startLocal();
    const dynamodb = new DynamoDBClient(service.dynamodb);
    expect(await dynamodb.send(new ListTablesCommand({}))).toMatchObject({ TableNames: [] });
    dynamodb.destroy();
    await service.close();
    await service.close();
  });

  it('tells about every request', async () => {
    const seen: unknown[] = [];
    await setup({
      onRequest: ({ operation, status, error }) => seen.push([operation, status, error]),
    });
    await put('x');
    await (client as sdk.KinesisClient)
      .send(new sdk.DescribeStreamCommand({ StreamName: 'none' }))
      .catch(() => {});
    expect(seen).toEqual([
      ['PutRecord', 200, undefined],
      ['DescribeStream', 400, 'ResourceNotFoundException'],
    ]);
  });

  it('keeps everything in a folder', async () => {
    const dataFolder = await mkdtemp(join(tmpdir(), 'shardline-'));
    const { client: kinesis, local: service } = await setup({ dataFolder });
    await put('kept');
    await kinesis.send(new sdk.AddTagsToStreamCommand({ StreamName: 'orders', Tags: { a: 'b' } }));
    await kinesis.send(
      new sdk.SplitShardCommand({
        StreamName: 'orders',
        ShardToSplit: 'shardId-000000000000',
        NewStartingHashKey: '9',
      }),
    );
    const { Consumer } = await kinesis.send(
      new sdk.RegisterStreamConsumerCommand({
        StreamARN: service.engine.streamArn('orders'),
        ConsumerName: 'app',
      }),
    );
    await service.close();
    const again = await setup({ dataFolder });
    expect(stored()).toEqual(['kept']);
    const end = await again.client.send(
      new GetRecordsCommand({
        ShardIterator: (
          await again.client.send(
            new GetShardIteratorCommand({
              StreamName: 'orders',
              ShardId: 'shardId-000000000000',
              ShardIteratorType: 'TRIM_HORIZON',
            }),
          )
        ).ShardIterator,
      }),
    );
    expect(end.ChildShards).toHaveLength(2);
    const { ConsumerDescription } = await again.client.send(
      new sdk.DescribeStreamConsumerCommand({ ConsumerARN: Consumer?.ConsumerARN }),
    );
    expect(ConsumerDescription?.ConsumerStatus).toBe('ACTIVE');
    const { SequenceNumber } = await put('more');
    expect(SequenceNumber).toBeDefined();
    await again.local.close();
    await writeFile(join(dataFolder, 'kinesis.snapshot'), 'nonsense');
    await expect(startLocal({ dataFolder })).rejects.toMatchObject({ code: 'INVALID_OPTION' });
    await rm(dataFolder, { recursive: true });
  });

  it('refuses options it does not know and values out of range', async () => {
    await expect(startLocal({ prot: 1 } as object)).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      value: 'prot',
    });
    await expect(startLocal({ port: 70_000 })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      limit: '0 to 65535',
    });
  });
});

describe('the command', () => {
  const command = fileURLToPath(new URL('../bin/shardline-local.js', import.meta.url));

  it('says where it listens in one line of JSON, logs requests, and ends when told to', async () => {
    const child = spawn(process.execPath, [
      command,
      '--port',
      '0',
      '--dynamodb-port',
      '0',
      '--stream',
      'orders:3',
      '--no-limits',
      '--log',
    ]);
    const line = await new Promise<string>((resolve) =>
      child.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString())),
    );
    const ready = JSON.parse(line) as { kinesis: string; region: string };
    const kinesis = new KinesisClient({
      endpoint: ready.kinesis,
      region: ready.region,
      credentials: { accessKeyId: 'x', secretAccessKey: 'y' },
    });
    const logged = new Promise<string>((resolve) =>
      child.stderr.once('data', (chunk: Buffer) => resolve(chunk.toString())),
    );
    const { Shards } = await kinesis.send(new sdk.ListShardsCommand({ StreamName: 'orders' }));
    expect(Shards).toHaveLength(3);
    expect(await logged).toMatch(/^ListShards 200 \d/);
    kinesis.destroy();
    const exited = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    expect(await exited).toBe(0);
  });

  it.each([['--stream', 'orders'], ['--port', 'x'], ['--nonsense']])(
    'refuses %s %s with a message',
    async (...args) => {
      await expect(promisify(execFile)(process.execPath, [command, ...args])).rejects.toMatchObject(
        {
          code: 2,
          stderr: expect.stringMatching(/^shardline-local: /) as string,
        },
      );
    },
  );
});
