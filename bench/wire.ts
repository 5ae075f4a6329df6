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
import { compareApart, type LoneContender, type Run } from './harness.js';

const RECORD_BYTES = 1_024;
/** Of a request of 500 records. */
const BODY_BYTES = 710_000;
/** Calls a run: what the SDK does once a call takes many until V8 has compiled it. */
const PUTS = 150;
const stream = { name: 'bench', arn: undefined };

interface Setting {
  readonly port: number;
  readonly certificate: string;
}

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
  await withServer(JSON.stringify(answer), encodeCbor(answer), (setting) =>
    compareApart(
      'wire, PutRecords of 500 records of 1 KB; TLS',
      'call',
      import.meta.url,
      putters,
      setting,
    ),
  );
}

export function putters(setting: Setting): readonly LoneContender[] {
  const payload = Buffer.alloc(RECORD_BYTES, 'a line of a log ');
  const entries = Array.from({ length: 500 }, (_, index) => ({
    partitionKey: `customer-${index}`,
    explicitHashKey: undefined,
    payload,
  }));
  const ours = (wire: Wire) => (): Run => {
    const clientConfig = configOf(setting);
    const rules = { clock: systemClock, random: systemRandom, requestTimeoutMs: 10_000, wire };
    const port = new SdkKinesisWritePort(stream, { clientConfig }, rules);
    const { signal } = new AbortController();
    return () => times(PUTS, () => port.putRecords(entries, signal));
  };
  return [
    ...byWire(ours),
    {
      name: 'plain SDK, HTTP/1.1 keep-alive',
      start: () => {
        const client = new KinesisClient(configOf(setting));
        const Records = entries.map(({ partitionKey }) => ({
          PartitionKey: partitionKey,
          Data: payload,
        }));
        return () =>
          times(PUTS, () => client.send(new PutRecordsCommand({ StreamName: 'bench', Records })));
      },
    },
    {
      name: 'limit: base64, SHA-256 and the connection for as many bytes',
      start: () => {
        const idle = idleCall(setting);
        const payloads = entries.map((entry) => entry.payload);
        return () =>
          times(PUTS, () => {
            createHash('sha256').update(Buffer.concat(payloads).toString('base64')).digest();
            return idle(BODY_BYTES);
          });
      },
    },
  ];
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
  await withServer(JSON.stringify(json), encodeCbor(answer), (setting) =>
    compareApart(
      'wire, GetRecords of 10,000 records of 1 KB; TLS',
      'call',
      import.meta.url,
      getters,
      setting,
    ),
  );
}

export function getters(setting: Setting): readonly LoneContender[] {
  const ours = (wire: Wire) => (): Run => {
    const clientConfig = configOf(setting);
    const rules = { clock: systemClock, random: systemRandom };
    const port = new KinesisReadClient({ stream, clientConfig, wire, ...rules });
    const { signal } = new AbortController();
    return () => times(4, () => port.getRecords('iterator', 10_000, signal));
  };
  return [
    ...byWire(ours),
    {
      name: 'plain SDK, HTTP/1.1 keep-alive',
      start: () => {
        const client = new KinesisClient(configOf(setting));
        return () => times(4, () => client.send(new GetRecordsCommand({ ShardIterator: 'i' })));
      },
    },
    {
      name: 'limit: the connection for as many bytes',
      start: () => {
        const idle = idleCall(setting);
        return () => times(4, () => idle(0));
      },
    },
  ];
}

function byWire(start: (wire: Wire) => () => Run): readonly LoneContender[] {
  return (['lean', 'cbor', 'sdk'] as const).map((wire) => ({
    name: `shardline, wire: '${wire}'`,
    isOurs: wire === 'lean',
    start: start(wire),
  }));
}

async function times(count: number, call: () => Promise<unknown>): Promise<number> {
  for (let done = 0; done < count; done += 1) await call();
  return count;
}

function configOf({ port, certificate }: Setting) {
  const httpsAgent = new Agent({ keepAlive: true, ca: certificate });
  return {
    endpoint: `https://localhost:${port}`,
    region: 'us-east-1',
    credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
    requestHandler: new NodeHttpHandler({ httpsAgent }),
  };
}

/** A call that sends so many bytes and takes the answer without looking at it. */
function idleCall({ port, certificate }: Setting): (bytes: number) => Promise<void> {
  const agent = new Agent({ keepAlive: true, ca: certificate });
  return (bytes) => post(port, agent, Buffer.alloc(bytes));
}

/** A server that gives the one or the other answer, as it is asked. */
async function withServer(
  json: string,
  cbor: Buffer,
  work: (setting: Setting) => Promise<unknown>,
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
  await work(JSON.parse(line.toString()) as Setting);
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
