import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';

import {
  GetRecordsCommand,
  GetShardIteratorCommand,
  KinesisClient,
  type KinesisClientConfig,
  ListShardsCommand,
} from '@aws-sdk/client-kinesis';
import type { LocalClientConfig } from '@shardline/local';
import { Producer } from '@shardline/producer';
import { NodeHttpHandler } from '@smithy/node-http-handler';
import { deaggregateSync } from 'aws-kinesis-agg';
import type Kinesis from 'lifion-kinesis';

import { unpaced } from './fast-clock.js';
import { compareApart, type LoneContender } from './harness.js';
import { startLocalServer } from './local.js';
import { offerAll } from './offer-all.js';
import { readAll, type Reading } from './read-all.js';

const SHARDS = 4;
const RECORDS = { 100: 300_000, 1_024: 80_000 } as const;
/** lifion-kinesis takes so long that a stream with a part of it has to do. */
const LIFION_SHARE = 10;
const SPEED = 50;

/** From a local Kinesis in a process of its own over TLS to a handler, from the horizon to the last record. */
export async function consumerBench(): Promise<void> {
  for (const bytes of [100, 1_024] as const) await compareReaders(bytes, RECORDS[bytes]);
}

interface Setting {
  readonly clientConfig: LocalClientConfig;
  readonly records: number;
  /** A stream with fewer. */
  readonly small: {
    readonly clientConfig: LocalClientConfig;
    readonly dynamodbConfig: LocalClientConfig;
    readonly records: number;
  };
}

async function compareReaders(bytes: 100 | 1_024, records: number): Promise<void> {
  const { child, clientConfig } = await startLocalServer(SHARDS, 'tls');
  const { child: smallChild, ...small } = await startLocalServer(SHARDS, 'tls');
  await fill(clientConfig, bytes, records);
  await fill(small.clientConfig, bytes, records / LIFION_SHARE);
  await compareApart(
    `consumer, ${bytes} B aggregated, ${SHARDS} shards, over TLS`,
    'user record',
    import.meta.url,
    readers,
    { clientConfig, records, small: { ...small, records: records / LIFION_SHARE } },
  );
  for (const server of [child, smallChild]) {
    server.kill();
    await once(server, 'exit');
  }
}

export function readers({ clientConfig, records, small }: Setting): readonly LoneContender[] {
  const ours = (name: string, reading: Reading): LoneContender => ({
    name,
    start: () => () => readWithShardline(clientConfig, reading, records),
  });
  return [
    { ...ours('shardline, polling', { retrieval: 'polling' }), isOurs: true },
    ours("shardline, polling, wire: 'cbor'", { retrieval: 'polling', wire: 'cbor' }),
    ours('shardline, fan-out', { retrieval: 'fanOut' }),
    {
      name: 'SDK GetRecords loop and aws-kinesis-agg, HTTP/1.1 keep-alive',
      start: () => () => readWithSdk(clientConfig, records),
    },
    {
      name: 'lifion-kinesis, polling without pauses',
      start: async () => {
        const { default: Kinesis } = await import('lifion-kinesis');
        return () =>
          readWithLifion(Kinesis, small.clientConfig, small.dynamodbConfig, small.records);
      },
    },
  ];
}

async function fill(
  clientConfig: KinesisClientConfig,
  bytes: number,
  records: number,
): Promise<void> {
  const keys = Array.from({ length: records }, () => randomUUID());
  await using producer = new Producer({
    streamName: 'bench',
    onOutcome: () => {},
    ...unpaced(SPEED),
    clientConfig,
  });
  await offerAll(producer, keys, Buffer.alloc(bytes, 'a line of a log that repeats itself '));
}

async function readWithShardline(
  clientConfig: KinesisClientConfig,
  reading: Reading,
  records: number,
): Promise<number> {
  let seen = 0;
  await readAll(clientConfig, reading, records, (batch) => {
    for (const { data } of batch) if (data.length > 0) seen += 1;
  });
  return seen;
}

/** What a caller without a consumer writes: a loop a shard, and nothing kept of where it stands. */
async function readWithSdk(clientConfig: KinesisClientConfig, records: number): Promise<number> {
  const client = new KinesisClient({ ...clientConfig, requestHandler: new NodeHttpHandler() });
  const { Shards = [] } = await client.send(new ListShardsCommand({ StreamName: 'bench' }));
  let seen = 0;
  const readShard = async (ShardId: string | undefined): Promise<void> => {
    let { ShardIterator } = await client.send(
      new GetShardIteratorCommand({
        StreamName: 'bench',
        ShardId,
        ShardIteratorType: 'TRIM_HORIZON',
      }),
    );
    for (let isAtTip = false; !isAtTip;) {
      const { Records = [], ...answer } = await client.send(
        new GetRecordsCommand({ ShardIterator }),
      );
      for (const { Data = new Uint8Array() } of Records) {
        const { buffer, byteOffset, byteLength } = Data;
        const data = Buffer.from(buffer, byteOffset, byteLength).toString('base64');
        deaggregateSync({ data }, true, (_error, found = []) => {
          for (const each of found) if (Buffer.from(each.data, 'base64').length > 0) seen += 1;
        });
      }
      ShardIterator = answer.NextShardIterator;
      isAtTip = answer.MillisBehindLatest === 0;
    }
  };
  await Promise.all(Shards.map(({ ShardId }) => readShard(ShardId)));
  client.destroy();
  if (seen < records) throw new Error(`${seen} of ${records} records were read`);
  return seen;
}

async function readWithLifion(
  Lifion: typeof Kinesis,
  clientConfig: { readonly endpoint: string; readonly region: string },
  dynamodbConfig: { readonly endpoint: string },
  records: number,
): Promise<number> {
  let seen = 0;
  const credentials = { accessKeyId: 'local', secretAccessKey: 'local' };
  const kinesis = new Lifion({
    ...credentials,
    region: clientConfig.region,
    endpoint: clientConfig.endpoint,
    streamName: 'bench',
    consumerGroup: randomUUID(),
    dynamoDb: { ...credentials, region: clientConfig.region, endpoint: dynamodbConfig.endpoint },
    createStreamIfNeeded: false,
    initialPositionInStream: 'TRIM_HORIZON',
    shouldDeaggregate: true,
    shouldParseJson: false,
    useAutoCheckpoints: false,
    useAutoShardAssignment: false,
    pollDelay: 0,
  });
  kinesis.on('error', (error) => console.error('lifion-kinesis:', error.message));
  kinesis.on('data', ({ records }) => {
    for (const { data } of records) if (data !== undefined) seen += 1;
  });
  await kinesis.startConsumer();
  while (seen < records) await pause(1);
  await kinesis.stopConsumer();
  return seen;
}
