import { join } from 'node:path';

import {
  type Clock,
  integerOptions,
  type Random,
  rejectUnknownOptions,
  systemClock,
  systemRandom,
} from '@shardline/shared';

import { type LocalDynamoDb, startDynamoDb } from './dynamodb.js';
import { KinesisEngine } from './engine/engine.js';
import type { Limits } from './engine/limits.js';
import type { ServiceFault } from './engine/service-fault.js';
import { Faults } from './faults.js';
import { loadSnapshot, saveSnapshot } from './persistence.js';
import { KinesisServer, type RequestLogEntry } from './server.js';
import { makeCertificate, type TlsPair } from './tls.js';

export interface LocalOptions {
  /** Streams to create at once. */
  readonly streams?: readonly { readonly name: string; readonly shards: number }[];
  /** The service's limits, none of its rates, or some of them changed. @defaultValue true */
  readonly limits?: boolean | Partial<Limits>;
  /** How long streams and consumers stay CREATING, UPDATING and DELETING. Unit: milliseconds. Range: 0 to 600 000. @defaultValue 0 */
  readonly transitionMs?: number;
  /** Port of Kinesis; 0 takes any free one. Range: 0 to 65 535. @defaultValue 0 */
  readonly port?: number;
  /** Port of DynamoDB; 0 takes any free one. Range: 0 to 65 535. @defaultValue 0 */
  readonly dynamodbPort?: number;
  /** @defaultValue the machine's */
  readonly clock?: Clock;
  /** Chance of the faults and of what the service decides itself. @defaultValue the machine's */
  readonly random?: Random;
  /** Serves TLS beside cleartext; `true` makes a certificate for localhost. @defaultValue false */
  readonly tls?: boolean | TlsPair;
  /** Keeps streams, records and tables: loaded at the start, written at `close`. */
  readonly dataFolder?: string;
  /** Records kept in one shard; the oldest are forgotten beyond it. Unit: bytes. Range: 1 048 576 and up. @defaultValue no cap but retention */
  readonly maxShardBytes?: number;
  /** Splits a shard of an on-demand stream that throttles. @defaultValue false */
  readonly splitOnDemand?: boolean;
  /** Told about every request that was answered. */
  readonly onRequest?: (entry: RequestLogEntry) => void;
}

/** What an AWS SDK client needs to talk to a local service. */
export interface LocalClientConfig {
  readonly endpoint: string;
  readonly region: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

/** A Kinesis and a DynamoDB in this process, over real sockets. */
export interface Local {
  /** For `new KinesisClient(...)`. */
  readonly kinesis: LocalClientConfig;
  /** For `new DynamoDBClient(...)`. */
  readonly dynamodb: LocalClientConfig;
  /** With TLS, what a client must trust (PEM), such as by `new https.Agent({ ca })`. */
  readonly tlsCertificate: string | undefined;
  /** Kinesis behind the socket: read and change it directly. */
  readonly engine: KinesisEngine;
  /** Makes things go wrong. */
  readonly faults: Faults;
  /** Ends open subscriptions, with an error if one is given; those of one shard only if it is named. */
  cutSubscriptions(which?: { readonly shardId?: string; readonly error?: ServiceFault }): void;
  /** Cuts every connection to Kinesis, as a network that breaks would. */
  cutConnections(): void;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const RULES = {
  transitionMs: { min: 0, max: 600_000, fallback: 0, unit: 'ms' },
  port: { min: 0, max: 65_535, fallback: 0, unit: '(a port)' },
  dynamodbPort: { min: 0, max: 65_535, fallback: 0, unit: '(a port)' },
  maxShardBytes: { min: 2 ** 20, max: Infinity, fallback: Infinity, unit: 'bytes' },
} as const;

const OTHER_NAMES = [
  'streams',
  'limits',
  'clock',
  'random',
  'tls',
  'dataFolder',
  'splitOnDemand',
  'onRequest',
];

/**
 * Starts Kinesis and DynamoDB on the loopback interface.
 *
 * @throws ShardlineError `INVALID_OPTION`.
 */
export async function startLocal(options: LocalOptions = {}): Promise<Local> {
  rejectUnknownOptions(options, [...OTHER_NAMES, ...Object.keys(RULES)]);
  const { transitionMs, port, dynamodbPort, maxShardBytes } = integerOptions(options, RULES);
  const { clock = systemClock, random = systemRandom, limits = true, dataFolder } = options;
  const { splitOnDemand = false, onRequest } = options;
  const engine = new KinesisEngine({
    clock,
    random,
    limits,
    transitionMs,
    maxShardBytes,
    splitOnDemand,
  });
  if (dataFolder !== undefined) await loadSnapshot(engine, dataFolder);
  for (const { name, shards } of options.streams ?? []) {
    if (engine.streams.has(name)) continue;
    engine.execute('CreateStream', { StreamName: name, ShardCount: shards });
  }
  const tls = options.tls === true ? await makeCertificate() : options.tls || undefined;
  const faults = new Faults(random);
  const server = new KinesisServer({ engine, faults, clock, port, tls, onRequest });
  const kinesisPort = await server.listen();
  let dynamodb: LocalDynamoDb;
  try {
    dynamodb = await startDynamoDb(
      dynamodbPort,
      dataFolder === undefined ? undefined : join(dataFolder, 'dynamodb'),
    );
  } catch (error) {
    await server.close();
    throw error;
  }
  const config = (endpoint: string): LocalClientConfig => ({
    endpoint,
    region: engine.region,
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  });
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= (async () => {
      await Promise.all([server.close(), dynamodb.close()]);
      if (dataFolder !== undefined) await saveSnapshot(engine, dataFolder);
    })();
    return closing;
  };
  return {
    kinesis: config(`${tls ? 'https' : 'http'}://127.0.0.1:${kinesisPort}`),
    dynamodb: config(`http://127.0.0.1:${dynamodb.port}`),
    tlsCertificate: tls?.cert,
    engine,
    faults,
    cutSubscriptions: ({ shardId, error } = {}) => {
      for (const { key, subscription } of engine.subscriptions.active()) {
        if (shardId === undefined || key.endsWith(` ${shardId}`)) subscription.end(error);
      }
    },
    cutConnections: () => server.cutConnections(),
    close,
    [Symbol.asyncDispose]: close,
  };
}
