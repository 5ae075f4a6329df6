import { type ChildProcess, fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { KinesisClient } from '@aws-sdk/client-kinesis';
import type { LocalClientConfig } from '@shardline/local';
import type { Random } from '@shardline/shared';
import { seededRandom } from '@shardline/shared/testing';

import { Ledger } from '../../examples/demo/ledger.js';
import { type ChildConfig, type ChildMessage, STREAM } from './messages.js';
import { freePort, Proxy } from './proxy.js';
import { reshardOnce } from './reshard.js';

export interface ChaosOptions {
  readonly minutes: number;
  readonly files: readonly string[];
  readonly seed: number;
  readonly onNote: (what: string) => void;
}

export interface ChaosReport {
  /** How often each thing was done. */
  readonly faults: ReadonlyMap<string, number>;
  readonly acknowledged: number;
  readonly received: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly orderViolations: number;
  readonly refused: readonly string[];
  /** From the SIGKILL of a worker to the first record of each of its shards handled by another. */
  readonly takeOversMs: readonly number[];
}

interface Member {
  readonly name: string;
  readonly child: ChildProcess;
  /** Shards of which it has told records lately. */
  readonly shards: Map<string, number>;
  isStopped: boolean;
}

const WORKERS = 3;
const LEAST_PAUSE_MS = 1_500;
const MORE_PAUSE_MS = 2_500;
/** With nothing new for so long, what is missing is lost. */
const GIVE_UP_MS = 40_000;
/** A shard counts as a worker's if it told a record of it so lately. */
const RECENT_MS = 1_500;

/** Real processes over real sockets, and everything that can happen to them, for some minutes. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const chaos = new Chaos(options);
  await chaos.prepare();
  try {
    return await chaos.play();
  } finally {
    await chaos.clearAway();
  }
}

class Chaos {
  readonly #options: ChaosOptions;
  readonly #random: Random;
  readonly #ledger = new Ledger();
  readonly #faults = new Map<string, number>();
  readonly #refused: string[] = [];
  readonly #workers = new Set<Member>();
  readonly #startedMs = performance.now();
  #dataFolder = '';
  #ports = { kinesis: 0, dynamodb: 0 };
  #proxies: { readonly kinesis: Proxy; readonly dynamodb: Proxy } | undefined;
  #configs:
    | { readonly kinesis: LocalClientConfig; readonly dynamodb: LocalClientConfig }
    | undefined;
  #client: KinesisClient | undefined;
  #server: ChildProcess | undefined;
  #producer: ChildProcess | undefined;
  #nextNumber = 0;
  #names = 0;
  #lastNewsMs = 0;

  constructor(options: ChaosOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
  }

  async prepare(): Promise<void> {
    this.#dataFolder = await mkdtemp(join(tmpdir(), 'shardline-chaos-'));
    this.#ports = { kinesis: await freePort(), dynamodb: await freePort() };
    const kinesis = new Proxy(this.#ports.kinesis);
    const dynamodb = new Proxy(this.#ports.dynamodb);
    this.#proxies = { kinesis, dynamodb };
    const config = (port: number): LocalClientConfig => ({
      endpoint: `http://127.0.0.1:${port}`,
      region: 'us-east-1',
      credentials: { accessKeyId: 'local', secretAccessKey: 'local' },
    });
    this.#configs = {
      kinesis: config(await kinesis.listen()),
      dynamodb: config(await dynamodb.listen()),
    };
    await this.#startServer();
    // Not through the proxy: what it changes must not depend on the network.
    this.#client = new KinesisClient(config(this.#ports.kinesis));
  }

  async play(): Promise<ChaosReport> {
    for (let count = 0; count < WORKERS; count += 1) this.#startWorker();
    this.#startProducer();
    const endMs = this.#options.minutes * 60_000;
    await pause(3_000);
    while (performance.now() - this.#startedMs < endMs) {
      await this.#doSomething();
      await pause(LEAST_PAUSE_MS + this.#random() * MORE_PAUSE_MS);
    }
    this.#note('no more trouble');
    for (const worker of this.#workers) this.#continue(worker);
    await this.#stopProducer();
    this.#lastNewsMs = performance.now();
    while (this.#ledger.lost > 0 && performance.now() - this.#lastNewsMs < GIVE_UP_MS) {
      await pause(100);
    }
    await Promise.all([...this.#workers].map((worker) => this.#stop(worker)));
    const { sent, received, lost, duplicates, orderViolations, takeOversMs } = this.#ledger;
    return {
      faults: this.#faults,
      acknowledged: sent,
      received,
      lost,
      duplicates,
      orderViolations,
      refused: this.#refused,
      takeOversMs,
    };
  }

  async clearAway(): Promise<void> {
    this.#client?.destroy();
    for (const { child } of this.#workers) child.kill('SIGKILL');
    this.#producer?.kill('SIGKILL');
    this.#server?.kill('SIGKILL');
    await Promise.all([this.#proxies?.kinesis.close(), this.#proxies?.dynamodb.close()]);
    await rm(this.#dataFolder, { recursive: true, force: true });
  }

  async #doSomething(): Promise<void> {
    const worker = [...this.#workers].find(({ isStopped }) => !isStopped);
    const dice = this.#random();
    if (worker && dice < 0.22) this.#kill(worker);
    else if (worker && dice < 0.38) this.#pause(worker);
    else if (dice < 0.48) await this.#deploy();
    else if (dice < 0.62) this.#cut();
    else if (dice < 0.7) await this.#restartServer();
    else if (dice < 0.8) this.#killProducer();
    else await this.#reshard();
  }

  #kill(worker: Member): void {
    this.#did('SIGKILL of a worker', worker.name);
    const nowMs = this.#elapsedMs();
    const shards = [...worker.shards]
      .filter(([, atMs]) => nowMs - atMs < RECENT_MS)
      .map(([shardId]) => shardId);
    this.#ledger.addKill(worker.name, shards, nowMs);
    worker.child.kill('SIGKILL');
    this.#workers.delete(worker);
    setTimeout(() => this.#startWorker(), 500 + this.#random() * 2_000);
  }

  /** The process stands still and goes on as if nothing had happened. */
  #pause(worker: Member): void {
    const forMs = 500 + this.#random() * 8_000;
    this.#did('SIGSTOP, SIGCONT of a worker', `${worker.name} for ${Math.round(forMs)} ms`);
    worker.isStopped = true;
    worker.child.kill('SIGSTOP');
    setTimeout(() => this.#continue(worker), forMs);
  }

  #continue(worker: Member): void {
    if (!worker.isStopped) return;
    worker.isStopped = false;
    worker.child.kill('SIGCONT');
  }

  async #deploy(): Promise<void> {
    this.#did('rolling restart of all workers', '');
    for (const worker of [...this.#workers].filter(({ isStopped }) => !isStopped)) {
      this.#startWorker();
      await this.#stop(worker);
    }
  }

  #cut(): void {
    const forMs = 200 + this.#random() * 2_500;
    const which = this.#random() < 0.6 ? 'kinesis' : 'dynamodb';
    this.#did(`network to ${which} cut`, `for ${Math.round(forMs)} ms`);
    this.#proxies?.[which].cut(forMs);
  }

  async #restartServer(): Promise<void> {
    this.#did('restart of the server', '');
    const server = this.#server;
    const gone = new Promise((resolve) => server?.once('exit', resolve));
    server?.kill('SIGTERM');
    await gone;
    await this.#startServer();
  }

  #killProducer(): void {
    this.#did('SIGKILL of the producer', '');
    this.#producer?.kill('SIGKILL');
    // Numbers it may have put and not told are nobody's any more.
    this.#nextNumber += 1_000_000;
    this.#startProducer();
  }

  async #reshard(): Promise<void> {
    if (!this.#client) return;
    const done = await reshardOnce(this.#client, STREAM, this.#random);
    if (done) this.#did(done.kind, `of ${done.shardIds.join(' and ')}`);
  }

  async #startServer(): Promise<void> {
    const child = this.#fork('server', { name: 'server' });
    this.#server = child;
    await new Promise<void>((resolve) => child.once('message', () => resolve()));
  }

  #startWorker(): void {
    this.#names += 1;
    const name = `w${this.#names}`;
    const retrieval = this.#names % 2 === 0 ? 'fanOut' : 'polling';
    const child = this.#fork('worker', { name, retrieval });
    const member: Member = { name, child, shards: new Map(), isStopped: false };
    this.#workers.add(member);
    child.on('message', (message: ChildMessage) => {
      if (message.kind !== 'arrivals') return;
      this.#lastNewsMs = performance.now();
      const nowMs = this.#elapsedMs();
      for (const { shardId } of message.arrivals) member.shards.set(shardId, nowMs);
      this.#ledger.addArrivals(
        name,
        message.arrivals.map((arrival) => ({ ...arrival, latencyMs: 0 })),
        nowMs,
      );
    });
  }

  #startProducer(): void {
    this.#names += 1;
    const child = this.#fork('producer', {
      name: `p${this.#names}`,
      firstNumber: this.#nextNumber,
    });
    this.#producer = child;
    child.on('message', (message: ChildMessage) => {
      if (message.kind === 'acknowledged') this.#ledger.addSent(message.numbers, 0);
      if (message.kind === 'refused') this.#refused.push(message.reason);
    });
  }

  async #stopProducer(): Promise<void> {
    const child = this.#producer;
    const gone = new Promise((resolve) => child?.once('exit', resolve));
    child?.kill('SIGTERM');
    await gone;
  }

  async #stop(worker: Member): Promise<void> {
    this.#workers.delete(worker);
    if (worker.child.exitCode !== null || worker.child.signalCode !== null) return;
    const gone = new Promise((resolve) => worker.child.once('exit', resolve));
    worker.child.kill('SIGTERM');
    await gone;
  }

  #fork(script: string, config: Partial<ChildConfig>): ChildProcess {
    const env: Partial<ChildConfig> = {
      ...this.#configs,
      files: this.#options.files,
      ports: this.#ports,
      dataFolder: this.#dataFolder,
      ...config,
    };
    return fork(fileURLToPath(new URL(`./${script}.ts`, import.meta.url)), {
      execArgv: ['--no-warnings', '--conditions=@shardline/source', '--import', 'tsx'],
      env: { ...process.env, CHAOS_CHILD: JSON.stringify(env) },
    });
  }

  #did(what: string, more: string): void {
    this.#faults.set(what, (this.#faults.get(what) ?? 0) + 1);
    this.#note(`${what} ${more}`);
  }

  #note(what: string): void {
    const { sent, received } = this.#ledger;
    this.#options.onNote(
      `${(this.#elapsedMs() / 1000).toFixed(1).padStart(6)} s  ${what.trim()}  (acknowledged ${sent}, received ${received})`,
    );
  }

  #elapsedMs(): number {
    return performance.now() - this.#startedMs;
  }
}
