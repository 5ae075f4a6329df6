import { createHash, randomUUID } from 'node:crypto';
import { Agent, request } from 'node:https';

import {
  KinesisClient,
  type KinesisClientConfig,
  PutRecordsCommand,
} from '@aws-sdk/client-kinesis';
import type { LocalClientConfig } from '@shardline/local';
import { Producer, type ProducerOptions } from '@shardline/producer';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import { unpaced } from './fast-clock.js';
import { compareApart, type LoneContender } from './harness.js';
import { startLocalServer } from './local.js';
import { offerAll } from './offer-all.js';

const RECORDS = { 100: 300_000, 1_024: 32_000 } as const;
/** What takes several times as long does a part of it. */
const SLOW_SHARE = 4;
const SHARDS = 16;
const SPEED = 50;
/** A key of 36 bytes and what the format adds. */
const AGGREGATED_BYTES = 46;
const REQUEST_BYTES = 2 ** 20;

interface Setting {
  readonly clientConfig: LocalClientConfig;
  readonly bytes: 100 | 1_024;
}

/** To a local Kinesis in a process of its own over TLS, end to end: the CPU time is the client's alone. */
export async function producerBench(): Promise<void> {
  const { child, clientConfig } = await startLocalServer(SHARDS, 'tls');
  for (const bytes of [100, 1_024] as const) {
    await compareApart(
      `producer, ${bytes} B over TLS, ${SHARDS} shards`,
      'user record',
      import.meta.url,
      senders,
      { clientConfig, bytes },
    );
  }
  child.kill();
}

export function senders({ clientConfig, bytes }: Setting): readonly LoneContender[] {
  const data = Buffer.alloc(bytes, 'a line of a log that repeats itself ');
  const all = RECORDS[bytes];
  const fewer = all / SLOW_SHARE;
  // One producer, or one client, for all runs, as a service has.
  const ours = (
    name: string,
    options: Partial<ProducerOptions> = {},
    records = fewer,
  ): LoneContender => ({
    name,
    start: () => {
      const producer = makeProducer({ clientConfig, ...options });
      const keys = keysOf(records);
      return () => offerAll(producer, keys, data);
    },
  });
  const sdk = (name: string, config: Partial<KinesisClientConfig>): LoneContender => ({
    name,
    start: () => {
      const client = new KinesisClient({ ...clientConfig, ...config });
      const keys = keysOf(fewer);
      return () => plainSdk(client, keys, data);
    },
  });
  return [
    { ...ours('shardline', {}, all), isOurs: true },
    ours("shardline, wire: 'cbor'", { wire: 'cbor' }, all),
    ours("shardline, wire: 'sdk'", { wire: 'sdk' }),
    ours("shardline, ordering: 'strict'", { ordering: 'strict' }, all),
    ours("shardline, compression: 'brotli'", { compression: 'brotli' }),
    ours('shardline, aggregation: false', { aggregation: false }),
    sdk('plain SDK, 500 records a call, its own handler', {}),
    sdk('plain SDK, 500 records a call, HTTP/1.1 keep-alive', {
      requestHandler: new NodeHttpHandler(),
    }),
    {
      name: 'limit: base64, SHA-256 and the connection for as many bytes',
      start: () => {
        const agent = new Agent({ keepAlive: true });
        return () => onlyBytes(clientConfig.endpoint, agent, all, bytes + AGGREGATED_BYTES);
      },
    },
  ];
}

function keysOf(records: number): readonly string[] {
  return Array.from({ length: records }, () => randomUUID());
}

function makeProducer(options: Partial<ProducerOptions>): Producer {
  return new Producer({
    streamName: 'bench',
    onOutcome: () => {},
    ...unpaced(SPEED),
    ...options,
  });
}

/** Sends as many bytes as aggregates of the records have, and does nothing else that a producer does. */
async function onlyBytes(
  endpoint: string,
  agent: Agent,
  records: number,
  recordBytes: number,
): Promise<number> {
  const chunk = Buffer.alloc(REQUEST_BYTES, 'x');
  for (let sent = 0; sent < records * recordBytes; sent += REQUEST_BYTES) {
    const body = chunk.toString('base64');
    createHash('sha256').update(body).digest();
    await new Promise<void>((resolve, reject) => {
      // Refused for what is in it, once it was read.
      request(endpoint, { agent, method: 'POST' }, (response) => {
        response.on('end', resolve).resume();
      })
        .on('error', reject)
        .end(body, 'latin1');
    });
  }
  return records;
}

async function plainSdk(
  client: KinesisClient,
  keys: readonly string[],
  data: Buffer,
): Promise<number> {
  const calls: Promise<unknown>[] = [];
  for (let from = 0; from < keys.length; from += 500) {
    const Records = keys
      .slice(from, from + 500)
      .map((PartitionKey) => ({ PartitionKey, Data: data }));
    calls.push(client.send(new PutRecordsCommand({ StreamName: 'bench', Records })));
    if (calls.length === 8) await Promise.all(calls.splice(0));
  }
  await Promise.all(calls);
  return keys.length;
}
