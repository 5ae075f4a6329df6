import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { GetRecordsCommand, KinesisClient, PutRecordsCommand } from '@aws-sdk/client-kinesis';
import type { Wire } from '@shardline/producer';
import { encodeCbor, systemClock, systemRandom } from '@shardline/shared';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import { KinesisReadClient } from '../packages/consumer/src/fetch/kinesis-read-client.js';
import { SdkKinesisWritePort } from '../packages/producer/src/put-records-client.js';
import { compare, type Contender } from './harness.js';

const RECORD_BYTES = 1_024;
/** Of a request of 500 records. */
const BODY_BYTES = 710_000;
const stream = { name: 'bench', arn: undefined };

/** What one call costs its client, over TLS to a server in another process that answers with ready bytes. */
export async function wireBench(): Promise<void> {
  await comparePuts();
  await compareGets();
}

async function comparePuts(): Promise<void> {
  const result = {
    SequenceNumber: '49590338271490256608559692538361571095921575989136588898',
    ShardId: 'shardId-000000000000',
  };
  const answer = { FailedRecordCount: 0, Records: Array.from({ length: 500 }, () => result) };
  const payload = Buffer.alloc(RECORD_BYTES, 'a line of a log ');
  const entries = Array.from({ length: 500 }, (_, index) => ({
    partitionKey: `customer-${index}`,
    explicitHashKey: undefined,
    payload,
  }));
  const payloads = entries.map((entry) => entry.payload);
  await withServer(JSON.stringify(answer), encodeCbor(answer), async (config, idle) => {
    const rules = { clock: systemClock, random: systemRandom, requestTimeoutMs: 10_000 };
    const { signal } = new AbortController();
    const ours = (wire: Wire): Contender['run'] => {
      const port = new SdkKinesisWritePort(stream, { clientConfig: config() }, { ...rules, wire });
      return () => times(100, () => port.putRecords(entries, signal));
    };
    const client = new KinesisClient(config());
    const Records = entries.map(({ partitionKey }) => ({
      PartitionKey: partitionKey,
      Data: payload,
    }));
    await compare('wire, PutRecords of 500 records of 1 KB; TLS', 'call', [
      { name: "shardline, wire: 'lean'", isOurs: true, run: ours('lean') },
      { name: "shardline, wire: 'cbor'", run: ours('cbor') },
      { name: "shardline, wire: 'sdk'", run: ours('sdk') },
      {
        name: 'plain SDK, HTTP/1.1 keep-alive',
        run: () =>
          times(100, () => client.send(new PutRecordsCommand({ StreamName: 'bench', Records }))),
      },
      {
        name: 'limit: base64, SHA-256 and the connection for as many bytes',
        run: () =>
          times(100, () => {
            createHash('sha256').update(Buffer.concat(payloads).toString('base64')).digest();
            return idle(BODY_BYTES);
          }),
      },
    ]);
  });
}

async function compareGets(): Promise<void> {
  const Data = Buffer.alloc(RECORD_BYTES, 'a line of a log ');
  const Records = Array.from({ length: 10_000 }, (_, index) => ({
    ApproximateArrivalTimestamp: new Date(1_795_000_000_123),
    Data,
    PartitionKey: `customer-${index}`,
    SequenceNumber: `4959033827149025660855969253836157109592157598913658${String(index).padStart(4, '0')}`,
  }));
  const answer = { MillisBehindLatest: 0, NextShardIterator: 'next', Records };
  const json = {
    ...answer,
    Records: Records.map((record) => ({
      ...record,
      Data: Data.toString('base64'),
      ApproximateArrivalTimestamp: record.ApproximateArrivalTimestamp.getTime() / 1_000,
    })),
  };
  await withServer(JSON.stringify(json), encodeCbor(answer), async (config, idle) => {
    const { signal } = new AbortController();
    const ours = (wire: Wire): Contender['run'] => {
      const port = new KinesisReadClient({
        stream,
        clientConfig: config(),
        wire,
        clock: systemClock,
        random: systemRandom,
      });
      return () => times(4, () => port.getRecords('iterator', signal));
    };
    const client = new KinesisClient(config());
    await compare('wire, GetRecords of 10,000 records of 1 KB; TLS', 'call', [
      { name: "shardline, wire: 'lean'", isOurs: true, run: ours('lean') },
      { name: "shardline, wire: 'cbor'", run: ours('cbor') },
      { name: "shardline, wire: 'sdk'", run: ours('sdk') },
      {
        name: 'plain SDK, HTTP/1.1 keep-alive',
        run: () => times(4, () => client.send(new GetRecordsCommand({ ShardIterator: 'i' }))),
      },
      { name: 'limit: the connection for as many bytes', run: () => times(4, () => idle(0)) },
    ]);
  });
}

async function times(count: number, call: () => Promise<unknown>): Promise<number> {
  for (let done = 0; done < count; done += 1) await call();
  return count;
}

interface BenchClientConfig {
  readonly endpoint: string;
  readonly region: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly requestHandler: NodeHttpHandler;
}

/** @param work - Gets a function, too, that sends so many bytes and takes the answer without looking at it. */
async function withServer(
  json: string,
  cbor: Buffer,
  work: (
    config: () => BenchClientConfig,
    idle: (bytes: number) => Promise<unknown>,
  ) => Promise<void>,
): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  const files = [join(folder, 'answer.json'), join(folder, 'answer.cbor')] as const;
  writeFileSync(files[0], json);
  writeFileSync(files[1], cbor);
  const child = spawn(
    process.execPath,
    [...process.execArgv, fileURLToPath(new URL('./canned-server.ts', import.meta.url)), ...files],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const { port, certificate } = JSON.parse(line.toString()) as {
    readonly port: number;
    readonly certificate: string;
  };
  const agent = new Agent({ keepAlive: true, ca: certificate });
  const config = (): BenchClientConfig => ({
    endpoint: `https://localhost:${port}`,
    region: 'us-east-1',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    requestHandler: new NodeHttpHandler({ httpsAgent: agent }),
  });
  await work(config, (bytes) => post(port, agent, Buffer.alloc(bytes)));
  agent.destroy();
  child.kill();
  await once(child, 'exit');
  rmSync(folder, { recursive: true });
}

function post(port: number, agent: Agent, body: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: 'localhost', port, agent, method: 'POST' }, (response) => {
      response.on('end', resolve).resume();
    });
    sent.on('error', reject).end(body);
  });
}
