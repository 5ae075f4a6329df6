import { parseArgs } from 'node:util';

import { isShardlineError } from '@shardline/shared';

import type { RequestLogEntry } from './server.js';
import { type LocalOptions, startLocal } from './start-local.js';

const USAGE = `shardline-local [--port P] [--dynamodb-port Q] [--tls] [--stream NAME:SHARDS]…
                [--no-limits] [--transition-ms MS] [--data FOLDER] [--log]

Runs Kinesis and DynamoDB on the loopback interface until it is interrupted. Prints one line of JSON
with the endpoints when ready.

  --port P             port of Kinesis (4567)
  --dynamodb-port Q    port of DynamoDB (8000)
  --tls                serves TLS beside cleartext, with a certificate made at the start
  --stream NAME:N      creates a stream of N shards, if there is none of that name; may be repeated
  --no-limits          limits no rates
  --transition-ms MS   how long streams stay CREATING, UPDATING and DELETING (0)
  --data FOLDER        keeps everything in a folder: loaded at the start, written at the end
  --log                a line on standard error for each request
`;

/** @throws Error with a message for the user. */
function readOptions(args: readonly string[]): LocalOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      port: { type: 'string', default: '4567' },
      'dynamodb-port': { type: 'string', default: '8000' },
      tls: { type: 'boolean', default: false },
      stream: { type: 'string', multiple: true, default: [] },
      'no-limits': { type: 'boolean', default: false },
      'transition-ms': { type: 'string', default: '0' },
      data: { type: 'string' },
      log: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    process.exit(0);
  }
  return {
    port: Number(values.port),
    dynamodbPort: Number(values['dynamodb-port']),
    tls: values.tls,
    limits: !values['no-limits'],
    transitionMs: Number(values['transition-ms']),
    streams: values.stream.map(readStream),
    ...(values.data !== undefined && { dataFolder: values.data }),
    ...(values.log && { onRequest: logRequest }),
  };
}

function readStream(text: string): { name: string; shards: number } {
  const match = /^([a-zA-Z0-9_.-]{1,128}):([1-9]\d{0,4})$/.exec(text);
  if (!match) throw new Error(`--stream must be NAME:SHARDS, got '${text}'`);
  return { name: match[1] ?? '', shards: Number(match[2]) };
}

function logRequest({ operation, status, error, durationMs }: RequestLogEntry): void {
  const what = error === undefined ? '' : ` ${error}`;
  process.stderr.write(`${operation} ${status}${what} ${durationMs.toFixed(1)} ms\n`);
}

try {
  const local = await startLocal(readOptions(process.argv.slice(2)));
  const { kinesis, dynamodb, tlsCertificate } = local;
  process.stdout.write(
    `${JSON.stringify({
      kinesis: kinesis.endpoint,
      dynamodb: dynamodb.endpoint,
      region: kinesis.region,
      ...(tlsCertificate !== undefined && { certificate: tlsCertificate }),
    })}\n`,
  );
  const stop = (): void => void local.close().then(() => process.exit(0));
  process.once('SIGINT', stop);
  process.once('SIGTERM', stop);
} catch (error) {
  const isOurs = isShardlineError(error) || error instanceof Error;
  process.stderr.write(`shardline-local: ${isOurs ? error.message : String(error)}\n`);
  process.exit(2);
}
