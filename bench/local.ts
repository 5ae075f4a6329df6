import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as http from 'node:http';
import { fileURLToPath } from 'node:url';

import type { LocalClientConfig } from '@shardline/local';

import { compare } from './harness.js';

const RECORD_BYTES = 50_000;
const RECORDS = 100;
const CALLS = 20;
const MB = 1e6;

/** How fast a local Kinesis in a process of its own takes and gives records, with a bare HTTP client. */
export async function localBench(): Promise<void> {
  const { child, clientConfig } = await startLocalServer(1);
  const { endpoint } = clientConfig;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
  const call = caller(endpoint, agent);
  const data = Buffer.alloc(RECORD_BYTES, 7).toString('base64');
  const put = JSON.stringify({
    StreamName: 'bench',
    Records: Array.from({ length: RECORDS }, (_, index) => ({
      Data: data,
      PartitionKey: `key-${index}`,
    })),
  });
  const callMb = (RECORD_BYTES * RECORDS) / MB;
  const putAll = async (): Promise<number> => {
    for (let done = 0; done < CALLS; done += 4) {
      await Promise.all([1, 2, 3, 4].map(() => call('PutRecords', put)));
    }
    return CALLS * callMb;
  };
  await putAll();
  const { ShardIterator } = JSON.parse(
    await call(
      'GetShardIterator',
      JSON.stringify({
        StreamName: 'bench',
        ShardId: 'shardId-000000000000',
        ShardIteratorType: 'TRIM_HORIZON',
      }),
    ),
  ) as { ShardIterator: string };
  const consumer = JSON.parse(
    await call(
      'RegisterStreamConsumer',
      JSON.stringify({
        StreamARN: 'arn:aws:kinesis:us-east-1:000000000000:stream/bench',
        ConsumerName: 'bench',
      }),
    ),
  ) as { Consumer: { ConsumerARN: string } };
  await compare('local, records of 50 KB, limits off; wall is what counts', 'MB of data', [
    { name: 'PutRecords, 100 records a call, 4 in flight', isOurs: true, run: putAll },
    {
      name: 'GetRecords, 10 MiB a call',
      run: async () => {
        let mb = 0;
        for (let done = 0; done < CALLS / 2; done += 1) {
          const answer = await call('GetRecords', JSON.stringify({ ShardIterator }));
          mb += (answer.length * 0.75) / MB;
        }
        return mb;
      },
    },
    {
      name: 'SubscribeToShard, from the horizon',
      run: () => subscribe(endpoint, consumer.Consumer.ConsumerARN, 50),
    },
  ]);
  agent.destroy();
  child.kill();
  await once(child, 'exit');
}

/**
 * Starts a local Kinesis without rate limits in a process of its own, with a stream `bench`.
 *
 * @param wire - `tls`: as the service has it.
 */
export async function startLocalServer(
  shards: number,
  wire: 'tls' | 'cleartext' = 'cleartext',
): Promise<{
  readonly child: ChildProcess;
  readonly clientConfig: LocalClientConfig;
  readonly dynamodbConfig: LocalClientConfig;
}> {
  const child = spawn(
    process.execPath,
    [
      ...process.execArgv,
      fileURLToPath(new URL('./local-server.ts', import.meta.url)),
      String(shards),
      wire,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  // Its certificate is its own, and some handlers take none to trust.
  if (wire === 'tls') process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const { kinesis, dynamodb } = JSON.parse(line.toString()) as {
    readonly kinesis: LocalClientConfig;
    readonly dynamodb: LocalClientConfig;
  };
  return { child, clientConfig: kinesis, dynamodbConfig: dynamodb };
}

function headers(operation: string): http.OutgoingHttpHeaders {
  return {
    'content-type': 'application/x-amz-json-1.1',
    'x-amz-target': `Kinesis_20131202.${operation}`,
    authorization: 'AWS4-HMAC-SHA256 bench',
  };
}

function caller(endpoint: string, agent: http.Agent) {
  return (operation: string, body: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const request = http.request(endpoint, {
        agent,
        method: 'POST',
        headers: headers(operation),
      });
      request.on('error', reject).on('response', (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve(Buffer.concat(chunks).toString('latin1')));
      });
      request.end(body);
    });
}

/** Reads a subscription until it gave so much. @returns MB of data. */
function subscribe(endpoint: string, ConsumerARN: string, enoughMb: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = http.request(endpoint, {
      method: 'POST',
      headers: headers('SubscribeToShard'),
    });
    request.on('error', reject).on('response', (response) => {
      let bytes = 0;
      response.on('error', () => {});
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if ((bytes * 0.75) / MB < enoughMb) return;
        resolve((bytes * 0.75) / MB);
        response.destroy();
      });
      response.on('end', () => resolve((bytes * 0.75) / MB));
    });
    request.end(
      JSON.stringify({
        ConsumerARN,
        ShardId: 'shardId-000000000000',
        StartingPosition: { Type: 'TRIM_HORIZON' },
      }),
    );
  });
}
