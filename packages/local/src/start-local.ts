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
import { KinesisServer } from './server.js';

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
  /** Chance of the faults. @defaultValue the machine's */
  readonly random?: Random;
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
} as const;

/**
 * Starts Kinesis and DynamoDB on the loopback interface.
 *
 * @throws ShardlineError `INVALID_OPTION`.
 */
export async function startLocal(options: LocalOptions = {}): Promise<Local> {
  rejectUnknownOptions(options, ['streams', 'limits', 'clock', 'random', ...Object.keys(RULES)]);
  const { transitionMs, port, dynamodbPort } = integerOptions(options, RULES);
  const { clock = systemClock, random = systemRandom, limits = true } = options;
  const engine = new KinesisEngine({ clock, limits, transitionMs });
  for (const { name, shards } of options.streams ?? []) {
    engine.execute('CreateStream', { StreamName: name, ShardCount: shards });
  }
  const faults = new Faults(random);
  const server = new KinesisServer({ engine, faults, clock, port });
  const kinesisPort = await server.listen();
  let dynamodb: LocalDynamoDb;
  try {
    dynamodb = await startDynamoDb(dynamodbPort);
  } catch (error) {
    await server.close();
    throw error;
  }
  const config = (endpointPort: number): LocalClientConfig => ({
    endpoint: `http://127.0.0.1:${endpointPort}`,
    region: engine.region,
    credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
  });
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= Promise.all([server.close(), dynamodb.close()]).then(() => undefined);
    return closing;
  };
  return {
    kinesis: config(kinesisPort),
    dynamodb: config(dynamodb.port),
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
