import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { GetRecordsCommand, KinesisClient, PutRecordsCommand } from '@aws-sdk/client-kinesis';
import { systemClock, systemRandom } from '@shardline/shared';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import { KinesisReadClient } from '../packages/consumer/src/fetch/kinesis-read-client.js';
import { SdkKinesisWritePort } from '../packages/producer/src/put-records-client.js';
import { compare, type Contender } from './harness.js';

const RECORD_BYTES = 1_024;
const stream = { name: 'bench', arn: undefined };

/** What one call costs its client, over HTTP/1.1 to a server in this process that answers with ready bytes. */
export async function wireBench(): Promise<void> {
  await comparePuts();
  await compareGets();
}

async function comparePuts(): Promise<void> {
  const result = {
    SequenceNumber: '49590338271490256608559692538361571095921575989136588898',
    ShardId: 'shardId-000000000000',
  };
  const answer = JSON.stringify({
    FailedRecordCount: 0,
    Records: Array.from({ length: 500 }, () => result),
  });
  const payload = Buffer.alloc(RECORD_BYTES, 'a line of a log ');
  const entries = Array.from({ length: 500 }, (_, index) => ({
    partitionKey: `customer-${index}`,
    explicitHashKey: undefined,
    payload,
  }));
  await withServer(answer, async (clientConfig, idle) => {
    const rules = { clock: systemClock, random: systemRandom, requestTimeoutMs: 10_000 };
    const { signal } = new AbortController();
    const ours = (wire: 'lean' | 'sdk'): Contender['run'] => {
      const port = new SdkKinesisWritePort(stream, { clientConfig }, { ...rules, wire });
      return () => times(40, () => port.putRecords(entries, signal));
    };
    const client = new KinesisClient({ ...clientConfig, requestHandler: new NodeHttpHandler() });
    const Records = entries.map(({ partitionKey }) => ({
      PartitionKey: partitionKey,
      Data: payload,
    }));
    await compare('wire, PutRecords of 500 records of 1 KB; server included', 'call', [
      { name: "shardline, wire: 'lean'", isOurs: true, run: ours('lean') },
      { name: "shardline, wire: 'sdk'", run: ours('sdk') },
      {
        name: 'plain SDK, HTTP/1.1 keep-alive',
        run: () =>
          times(40, () => client.send(new PutRecordsCommand({ StreamName: 'bench', Records }))),
      },
      { name: 'the server alone, with as many bytes', run: () => times(40, () => idle(710_000)) },
    ]);
  });
}

async function compareGets(): Promise<void> {
  const Data = Buffer.alloc(RECORD_BYTES, 'a line of a log ').toString('base64');
  const Records = Array.from({ length: 10_000 }, (_, index) => ({
    ApproximateArrivalTimestamp: 1_795_000_000.123,
    Data,
    PartitionKey: `customer-${index}`,
    SequenceNumber: `4959033827149025660855969253836157109592157598913658${String(index).padStart(4, '0')}`,
  }));
  const answer = JSON.stringify({ MillisBehindLatest: 0, NextShardIterator: 'next', Records });
  await withServer(answer, async (clientConfig, idle) => {
    const { signal } = new AbortController();
    const ours = (wire: 'lean' | 'sdk'): Contender['run'] => {
      const port = new KinesisReadClient({
        stream,
        clientConfig,
        wire,
        clock: systemClock,
        random: systemRandom,
      });
      return () => times(4, () => port.getRecords('iterator', signal));
    };
    const client = new KinesisClient({ ...clientConfig, requestHandler: new NodeHttpHandler() });
    await compare('wire, GetRecords of 10,000 records of 1 KB; server included', 'call', [
      { name: "shardline, wire: 'lean'", isOurs: true, run: ours('lean') },
      { name: "shardline, wire: 'sdk'", run: ours('sdk') },
      {
        name: 'plain SDK, HTTP/1.1 keep-alive',
        run: () => times(4, () => client.send(new GetRecordsCommand({ ShardIterator: 'i' }))),
      },
      { name: 'the server alone, with as many bytes', run: () => times(4, () => idle(0)) },
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
}

/** @param work - Gets a function, too, that sends so many bytes and takes the answer without looking at it. */
async function withServer(
  answer: string,
  work: (config: BenchClientConfig, idle: (bytes: number) => Promise<unknown>) => Promise<void>,
): Promise<void> {
  const body = Buffer.from(answer);
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      response.writeHead(200, {
        'content-type': 'application/x-amz-json-1.1',
        'content-length': body.length,
      });
      response.end(body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const credentials = { accessKeyId: 'a', secretAccessKey: 'b' };
  await work({ endpoint, region: 'us-east-1', credentials }, async (bytes) => {
    const answered = await fetch(endpoint, { method: 'POST', body: Buffer.alloc(bytes) });
    return answered.arrayBuffer();
  });
  server.closeAllConnections();
  server.close();
}
