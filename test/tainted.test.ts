import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { inspect } from 'node:util';

import { KinesisClient, PutRecordsCommand } from '@aws-sdk/client-kinesis';
import { Consumer } from '@shardline/consumer';
import { startLocal } from '@shardline/local';
import { Producer } from '@shardline/producer';
import { AggregateEncoder } from '@shardline/shared';
import { afterEach, expect, it, vi } from 'vitest';

const DATA = 'tainted-data-4f1c';
const KEY = 'tainted-key-9a7e';
const ACCESS_KEY = 'TAINTEDACCESSKEY';
const SECRET = 'tainted-secret-77b0';

const CHANNELS = [
  'shardline:producer:request',
  'shardline:producer:settled',
  'shardline:producer:shard-map',
  'shardline:consumer:lease',
  'shardline:consumer:shard-state',
  'shardline:consumer:fetch',
  'shardline:consumer:handler-failure',
  'shardline:consumer:checkpoint',
];

/** Everything the libraries said, in any way. */
const said: string[] = [];
const note = (what: unknown): void => {
  said.push(inspect(what, { depth: 10, showHidden: false, maxStringLength: null }));
};

afterEach(() => vi.restoreAllMocks());

it('says nothing of data, partition keys or credentials, whatever goes wrong', async () => {
  for (const method of ['log', 'info', 'warn', 'error', 'debug'] as const) {
    vi.spyOn(console, method).mockImplementation((...args: unknown[]) => note(args));
  }
  for (const name of CHANNELS) subscribe(name, note);
  process.on('warning', note);
  const local = await startLocal({ streams: [{ name: 'orders', shards: 2 }] });
  const clientConfig = {
    ...local.kinesis,
    credentials: { accessKeyId: ACCESS_KEY, secretAccessKey: SECRET },
  };
  const producer = new Producer({
    streamName: 'orders',
    clientConfig,
    recordTtlMs: 1_000,
    requestTimeoutMs: 500,
    onUndeliverable: (records) => note(records.map(({ error }) => error)),
  });
  const put = (
    data: string | Buffer,
    partitionKey = KEY,
    explicitHashKey?: string,
  ): Promise<void> =>
    producer
      .put({ partitionKey, data, ...(explicitHashKey !== undefined && { explicitHashKey }) })
      .then(note, note);

  // What a user does wrong, and what the service does.
  await put(Buffer.alloc(3 * 2 ** 20, DATA));
  await put(DATA, KEY.repeat(40));
  await put(DATA, KEY, `not-a-number-${KEY}`);
  for (const name of ['ValidationException', 'AccessDeniedException', 'KMSDisabledException']) {
    local.faults.inject({ operation: 'PutRecords', fault: { kind: 'error', name, message: name } });
    await put(`${DATA} ${name}`);
  }
  local.faults.inject({ operation: 'PutRecords', times: 3, fault: { kind: 'drop' } });
  await put(`${DATA} dropped`);
  local.faults.inject({
    operation: 'PutRecords',
    times: 20,
    fault: { kind: 'rejectRecords', errorCode: 'ProvisionedThroughputExceededException', ratio: 1 },
  });
  await put(`${DATA} throttled`);
  local.faults.clear();
  const client = new KinesisClient(clientConfig);
  const encoder = new AggregateEncoder();
  encoder.add(KEY, undefined, Buffer.from(DATA));
  const damaged = encoder.finish();
  damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
  await client.send(
    new PutRecordsCommand({
      StreamName: 'orders',
      Records: [{ PartitionKey: KEY, Data: damaged }],
    }),
  );
  await put(DATA);

  let handled = 0;
  for (const onDamage of ['error', 'raw'] as const) {
    const consumer = new Consumer({
      streamName: 'orders',
      applicationName: 'tainted',
      clientConfig,
      dynamodbConfig: local.dynamodb,
      initialPosition: 'TRIM_HORIZON',
      assignmentIntervalMs: 150,
      onDamage,
      drainTimeoutMs: 50,
      handler: {
        processRecord: () => {
          handled += 1;
          // An application's own error is its own.
          if (handled % 2 === 0) throw new Error('broken');
        },
      },
    });
    local.faults.inject({ operation: 'GetRecords', times: 2, fault: { kind: 'drop' } });
    local.faults.inject({
      operation: 'GetRecords',
      fault: { kind: 'error', name: 'AccessDeniedException' },
    });
    await consumer.start();
    await new Promise((resolve) => setTimeout(resolve, 1_200));
    note(consumer.status());
    note(consumer);
    await consumer.close();
  }
  note(producer.stats());
  note(producer);
  await producer.close();
  client.destroy();
  await local.close();
  for (const name of CHANNELS) unsubscribe(name, note);
  process.off('warning', note);

  expect(handled).toBeGreaterThan(0);
  expect(said.length).toBeGreaterThan(20);
  const all = said.join('\n');
  expect(all).toContain('RECORD_TOO_LARGE');
  expect(all).toContain('DAMAGED_RECORD');
  for (const taint of [
    DATA,
    KEY,
    SECRET,
    ACCESS_KEY,
    Buffer.from(DATA).toString('base64').slice(0, 16),
  ]) {
    expect(
      all.includes(taint),
      `${taint} was said:\n${said
        .filter((text) => text.includes(taint))
        .join('\n')
        .slice(0, 2_000)}`,
    ).toBe(false);
  }
}, 60_000);
