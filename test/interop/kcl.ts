import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { CreateTableCommand, DynamoDBClient } from '@aws-sdk/client-dynamodb';
import { Consumer, type ConsumerOptions } from '@shardline/consumer';
import { type Local, startLocal } from '@shardline/local';
import { Producer } from '@shardline/producer';

/**
 * Real workers of the KCL beside ours, on one lease table. Needs a JDK and Maven, which fetches the KCL:
 * not part of the tests.
 */
const here = fileURLToPath(new URL('.', import.meta.url));
const SHARDS = 4;
const PATIENCE_MS = 90_000;

/** A worker of the KCL in a process of its own. */
class KclProcess {
  readonly name: string;
  readonly records: string[] = [];
  readonly begun: string[] = [];
  /** Errors it logged, by their first lines. */
  readonly errors = new Map<string, number>();
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;

  constructor(local: Local, version: string, applicationName: string, name: string) {
    this.name = name;
    const target = `${here}target/${version}`;
    const endpoints = [local.kinesis.endpoint, local.dynamodb.endpoint];
    this.#child = spawn(
      'java',
      [
        '-Daws.cborEnabled=false',
        '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
        '-cp',
        `${target}/classes:${target}/lib/*`,
        'KclWorker',
        ...endpoints,
        'orders',
        applicationName,
        name,
      ],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    this.#ended = new Promise((resolve) => this.#child.once('exit', () => resolve()));
    this.#read(this.#child.stdout, (line) => {
      const [what, shard = '', text = ''] = line.split(' ');
      if (what === 'RECORD') this.records.push(text);
      else if (what === 'INIT') this.begun.push(shard);
    });
    this.#read(this.#child.stderr, (line) => {
      const error = /^(?:Caused by: )?([\w.]*(?:Exception|Error)\b.{0,100})/.exec(line)?.[1];
      if (error !== undefined) this.errors.set(error, (this.errors.get(error) ?? 0) + 1);
    });
  }

  async stop(): Promise<void> {
    this.#child.stdin?.write('q');
    await Promise.race([this.#ended, pause(30_000)]);
    this.kill();
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }

  #read(stream: NodeJS.ReadableStream | null, onLine: (line: string) => void): void {
    if (stream) createInterface(stream).on('line', onLine);
  }
}

/** Fetches a KCL and compiles its worker. */
function build(version: string): void {
  const target = `${here}target/${version}`;
  mkdirSync(`${target}/classes`, { recursive: true });
  execFileSync(
    'mvn',
    [
      '-q',
      `-Dkcl.version=${version}`,
      'dependency:copy-dependencies',
      `-DoutputDirectory=${target}/lib`,
    ],
    { cwd: here, stdio: 'inherit' },
  );
  const options = ['-nowarn', '-cp', `${target}/lib/*`, '-d', `${target}/classes`];
  execFileSync('javac', [...options, 'KclWorker.java'], { cwd: here, stdio: 'ignore' });
}

/** One application on a stream of its own, with what its workers handled. */
class Application {
  readonly handled: string[] = [];
  readonly #local: Local;
  readonly #producer: Producer;
  #put = 0;

  constructor(local: Local) {
    this.#local = local;
    this.#producer = new Producer({ streamName: 'orders', clientConfig: local.kinesis });
  }

  worker(options: Partial<ConsumerOptions> = {}): Consumer {
    return new Consumer({
      streamName: 'orders',
      applicationName: 'billing',
      initialPosition: 'TRIM_HORIZON',
      failoverMs: 3_000,
      assignmentIntervalMs: 500,
      auditIntervalMs: 5_000,
      clientConfig: this.#local.kinesis,
      dynamodbConfig: this.#local.dynamodb,
      handler: {
        processRecord: ({ data }) => {
          this.handled.push(data.toString().split(' ')[0] ?? '');
        },
      },
      ...options,
    });
  }

  async put(count: number, paddingBytes = 0): Promise<void> {
    const padding = 'x'.repeat(paddingBytes);
    const settled: Promise<unknown>[] = [];
    for (let index = 0; index < count; index += 1) {
      const number = (this.#put += 1);
      settled.push(
        this.#producer.put({ partitionKey: `key-${number}`, data: `${number} ${padding}` }),
      );
    }
    await Promise.all(settled);
  }

  /** Puts records until the function it gives back is called. */
  keepPutting(): () => Promise<void> {
    let isStopped = false;
    const putting = (async () => {
      while (!isStopped) {
        await this.put(20, 2_000);
        await pause(200);
      }
    })();
    return () => {
      isStopped = true;
      return putting;
    };
  }

  /** Waits until everything put was handled by ours or by a KCL's. @returns How many were, twice or more. */
  async complete(java: readonly KclProcess[]): Promise<number> {
    const all = (): string[] => [...this.handled, ...java.flatMap(({ records }) => records)];
    await until('everything is handled', () => new Set(all()).size === this.#put);
    return all().length - this.#put;
  }

  close(): Promise<void> {
    return this.#producer.close();
  }
}

async function until(what: string, holds: () => boolean, patienceMs = PATIENCE_MS): Promise<void> {
  const endMs = performance.now() + patienceMs;
  while (!holds()) {
    if (performance.now() > endMs) throw new Error(`not within ${patienceMs} ms: ${what}`);
    await pause(100);
  }
}

const owned = (consumer: Consumer): number => consumer.status().shards.length;

type Scenario = (local: Local, application: Application, version: string) => Promise<string>;

const isLedByKcl = (version: string): boolean => version.startsWith('3.');

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'a table is taken over from a KCL and handed back': async (local, application, version) => {
    const first = new KclProcess(local, version, 'billing', 'java-1');
    await until('the KCL reads', () => first.begun.length === SHARDS);
    await application.put(400);
    await application.complete([first]);
    await first.stop();
    const ours = application.worker();
    if (isLedByKcl(version)) {
      // Its rows count as signs of life for a minute.
      await pause(61_000);
      await ours.changeLeaseMode('native');
    }
    await ours.start();
    await until('we own all', () => owned(ours) === SHARDS);
    const { leaseMode } = ours.status();
    await application.put(400);
    const duplicates = await application.complete([first]);
    if (leaseMode === 'native') await ours.changeLeaseMode('kcl2');
    await ours.close();
    const last = new KclProcess(local, version, 'billing', 'java-2');
    await application.put(400);
    await application.complete([first, last]);
    await last.stop();
    return `mode ${leaseMode}, 1,200 records, ${duplicates} twice up to our turn`;
  },

  'workers of both share the shards': async (local, application, version) => {
    const java = new KclProcess(local, version, 'billing', 'java-1');
    await until('the KCL reads', () => java.begun.length === SHARDS);
    const ours = application.worker();
    await ours.start();
    // The leader of a KCL 3.x balances by throughput: there must be some.
    const stop = application.keepPutting();
    await until('shards are shared', () => owned(ours) === SHARDS / 2);
    await stop();
    const { leaseMode } = ours.status();
    await application.put(1_000);
    const duplicates = await application.complete([java]);
    const [byJava, byUs] = [java.records.length, application.handled.length];
    await (isLedByKcl(version) ? java.stop() : java.kill());
    // The leader of a KCL 3.x is missing for as long as it takes others of it to follow.
    await until('we take over', () => owned(ours) === SHARDS, 260_000);
    await application.put(400);
    await application.complete([java]);
    await ours.close();
    return `mode ${leaseMode}, ${byJava} by the KCL, ${byUs} by us, ${duplicates} twice; taken over when it was gone`;
  },

  'a native table is safe from a KCL, and a KCL reads it once it is changed over': async (
    local,
    application,
    version,
  ) => {
    const ours = application.worker();
    await ours.start();
    await until('we own all', () => owned(ours) === SHARDS);
    const java = new KclProcess(local, version, 'billing', 'java-1');
    await application.put(400);
    await application.complete([]);
    await pause(20_000);
    await application.put(400);
    const duplicates = await application.complete([]);
    if (java.begun.length > 0) throw new Error(`the KCL began ${java.begun.join(', ')}`);
    if (owned(ours) !== SHARDS) throw new Error('a shard was lost');
    const errors = [...java.errors].map(([error, times]) => `${times}x ${error}`);
    java.kill();
    await ours.changeLeaseMode('kcl2');
    const next = new KclProcess(local, version, 'billing', 'java-2');
    const stop = application.keepPutting();
    await until('the KCL takes its share', () => next.begun.length > 0, 260_000);
    await stop();
    await ours.close();
    await application.put(400);
    await application.complete([java, next]);
    await next.stop();
    return `${duplicates} twice; what the KCL said on the native table: ${errors.join('; ') || 'nothing'}`;
  },
};

/** A KCL 3.x adds an index to its table, which dynalite can only create with it. */
async function createTableWithIndex(local: Local): Promise<void> {
  const client = new DynamoDBClient(local.dynamodb);
  await client.send(
    new CreateTableCommand({
      TableName: 'billing',
      KeySchema: [{ AttributeName: 'leaseKey', KeyType: 'HASH' }],
      AttributeDefinitions: [
        { AttributeName: 'leaseKey', AttributeType: 'S' },
        { AttributeName: 'leaseOwner', AttributeType: 'S' },
      ],
      BillingMode: 'PAY_PER_REQUEST',
      GlobalSecondaryIndexes: [
        {
          IndexName: 'LeaseOwnerToLeaseKeyIndex',
          KeySchema: [
            { AttributeName: 'leaseOwner', KeyType: 'HASH' },
            { AttributeName: 'leaseKey', KeyType: 'RANGE' },
          ],
          Projection: { ProjectionType: 'KEYS_ONLY' },
        },
      ],
    }),
  );
  client.destroy();
}

const { values } = parseArgs({
  options: {
    kcl: { type: 'string', multiple: true, default: ['2.7.2', '3.4.2'] },
    scenario: { type: 'string', default: '' },
  },
});
let failed = 0;
for (const version of values.kcl) {
  build(version);
  for (const [title, play] of Object.entries(SCENARIOS)) {
    if (!title.includes(values.scenario)) continue;
    const local = await startLocal({ streams: [{ name: 'orders', shards: SHARDS }] });
    if (isLedByKcl(version)) await createTableWithIndex(local);
    const application = new Application(local);
    try {
      console.log(`ok    KCL ${version}: ${title}: ${await play(local, application, version)}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL  KCL ${version}: ${title}: ${(error as Error).message}`);
    }
    await application.close();
    await local.close();
  }
}
console.log(`${failed} failed`);
process.exit(failed > 0 ? 1 : 0);
