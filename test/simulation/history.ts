import {
  Consumer,
  type HandlerContext,
  type LeaseTable,
  MemoryLeaseTable,
  type Row,
} from '@shardline/consumer';
import { KinesisEngine } from '@shardline/local';
import { Producer } from '@shardline/producer';
import {
  comparePositions,
  type Position,
  type Random,
  sleep,
  type UserRecord,
} from '@shardline/shared';
import { ManualClock, seededRandom } from '@shardline/shared/testing';

import { FleetStore } from '../../packages/consumer/src/fleet/fleet-store.js';
import { parseLease } from '../../packages/consumer/src/lease/lease-row.js';
import { isFinished, ownerOf } from '../../packages/consumer/src/lease/lease.js';
import {
  type CallFaults,
  describeLeases,
  leasesOf,
  readPortOf,
  tableOf,
  writePortOf,
} from './ports.js';
import { SimProcess } from './process.js';

/** What went on in one history, and what was found wrong with it. */
export interface HistoryResult {
  readonly seed: number;
  readonly problems: readonly string[];
  readonly timeline: readonly string[];
  readonly stored: number;
  readonly duplicates: number;
  readonly kills: number;
  /** Kills of the worker that balanced the fleet. */
  readonly leaderLosses: number;
  readonly modeChanges: number;
  readonly freezes: number;
  readonly stalls: number;
  readonly cuts: number;
  readonly deploys: number;
  readonly nights: number;
  readonly reshards: number;
  /** From the end of the faults until everything stored was handled. */
  readonly healedMs: number;
}

/** Which kinds of trouble a history may have. */
export interface HistoryOptions {
  /**
   * - `wild`: anything.
   * - `rough`: calls and handlers fail, are slow and stale; but nothing dies or freezes, and what was
   *   written is never reported as failed. So nothing may be handled twice.
   * - `calm`: workers come and go in order; nothing fails. Nothing may be handled twice.
   *
   * @defaultValue `'wild'`
   */
  readonly mode?: 'wild' | 'rough' | 'calm';
  /**
   * How the workers share the leases; with `changing` the fleet is changed over while it works. Beside a
   * KCL a shard is stolen without asking, and what runs then is handled twice.
   *
   * @defaultValue `'native'`
   */
  readonly leases?: 'native' | 'kcl2' | 'changing';
}

const STREAM = 'orders';
const FAILOVER_MS = 4_000;
const CHAOS_MS = 45_000;
const HEAL_LIMIT_MS = 60_000;
/** Longer than the stream keeps anything. */
const NIGHT_MS = 25 * 3_600_000;
/** How many listings back a stale one may be. */
const STALE_STEPS = 4;
const STEP_MS = 250;
const KEYS = 12;

interface Worker {
  readonly process: SimProcess;
  readonly consumer: Consumer;
  isLeaving: boolean;
}

/** Plays one history: one seed, one fleet, one stream, everything in virtual time. */
export async function playHistory(
  seed: number,
  options: HistoryOptions = {},
): Promise<HistoryResult> {
  return new History(seed, options).play();
}

class History {
  readonly #seed: number;
  readonly #isCalm: boolean;
  readonly #isWild: boolean;
  readonly #random: Random;
  readonly #world = new ManualClock();
  readonly #engine: KinesisEngine;
  readonly #table = new MemoryLeaseTable();
  readonly #leases: NonNullable<HistoryOptions['leases']>;
  readonly #faults: CallFaults = { before: 0, after: 0, slow: 0, stale: 0 };
  /** The table as it was some steps ago. */
  readonly #listings: (readonly Row[])[] = [];
  /** Puts records in strict order, if this history has one; otherwise they are stored at once. */
  #producer: { readonly process: SimProcess; readonly producer: Producer } | undefined;
  readonly #workers: Worker[] = [];
  readonly #timeline: string[] = [];
  readonly #problems: string[] = [];
  /** By record, how often its handler finished. */
  readonly #handled = new Map<number, number>();
  readonly #lastOfKey = new Map<string, number>();
  readonly #checkpoints = new Map<string, Position>();
  /** Greatest fencing token by shard, of handlers that took a step. */
  readonly #tokens = new Map<string, { readonly token: number; readonly worker: string }>();
  /** Handlers that run, by worker and shard. */
  readonly #running = new Map<string, number>();
  /** Records that the stream has acknowledged: each must be handled. */
  readonly #acknowledged = new Set<number>();
  #put = 0;
  #chaosEndsMs = CHAOS_MS;
  #names = 0;
  #counts = {
    kills: 0,
    leaderLosses: 0,
    modeChanges: 0,
    freezes: 0,
    stalls: 0,
    cuts: 0,
    deploys: 0,
    nights: 0,
    reshards: 0,
  };

  constructor(seed: number, { mode = 'wild', leases = 'native' }: HistoryOptions) {
    this.#seed = seed;
    this.#leases = leases;
    this.#isCalm = mode === 'calm';
    this.#isWild = mode === 'wild';
    this.#random = seededRandom(seed);
    this.#engine = new KinesisEngine({ clock: this.#world, limits: false, random: this.#random });
    this.#engine.execute('CreateStream', { StreamName: STREAM, ShardCount: 3 });
  }

  async play(): Promise<HistoryResult> {
    const random = this.#random;
    if (!this.#isCalm) {
      // Rarely so often in a row that a lease is lost by it: that would be as good as a crash.
      this.#faults.before = random() < 0.7 ? random() * (this.#isWild ? 0.08 : 0.02) : 0;
      this.#faults.after = this.#isWild && random() < 0.5 ? random() * 0.05 : 0;
      this.#faults.slow = this.#isWild && random() < 0.3 ? random() * 0.02 : 0;
      this.#faults.stale = random() < 0.5 ? random() * 0.5 : 0;
    }
    this.#note(`faults ${JSON.stringify(this.#faults)}`);
    if (random() < 0.5) this.#startProducer();
    const nightMs = random() < 0.15 ? 10_000 + random() * 20_000 : Infinity;
    for (let count = 1 + Math.floor(random() * 3); count > 0; count -= 1) this.#startWorker();
    while (this.#world.monotonicMs() < this.#chaosEndsMs) {
      this.#putSome();
      if (random() < 0.08) this.#reshard();
      if (random() < 0.1) this.#trouble();
      if (this.#leases === 'changing' && random() < 0.01) void this.#changeMode();
      if (this.#world.monotonicMs() >= nightMs && this.#counts.nights === 0) await this.#night();
      await this.#step();
    }
    const healedMs = await this.#heal();
    await this.#balance();
    await this.#stopAll();
    const duplicates = [...this.#handled.values()].reduce((sum, times) => sum + times - 1, 0);
    if (!this.#isWild && this.#leases === 'native' && duplicates > 0)
      this.#problem(`${duplicates} duplicates in a history without crash or lost answer`);
    if (this.#world.pending > 0) this.#problem(`${this.#world.pending} timers left behind`);
    return {
      seed: this.#seed,
      problems: this.#problems,
      timeline: this.#timeline,
      stored: this.#acknowledged.size,
      duplicates,
      ...this.#counts,
      healedMs,
    };
  }

  async #step(): Promise<void> {
    await this.#world.advance(STEP_MS);
    this.#listings.push(await this.#table.scan(''));
    if (this.#listings.length > STALE_STEPS) this.#listings.shift();
  }

  #startProducer(): void {
    const process = new SimProcess('p1', this.#world, 1, this.#random);
    const producer = new Producer(
      {
        streamName: STREAM,
        ordering: 'strict',
        whenRefused: 'wait',
        recordTtlMs: 600_000,
        clock: process.clock,
        random: this.#random,
      },
      writePortOf(process, this.#engine, STREAM, this.#faults, this.#random),
    );
    this.#producer = { process, producer };
    this.#note('p1 puts in strict order');
  }

  /** Nobody is there for longer than the stream keeps records; what was not handled is gone. */
  async #night(): Promise<void> {
    this.#counts.nights += 1;
    this.#chaosEndsMs += 30_000 + NIGHT_MS;
    this.#note('the night begins');
    for (const worker of this.#workers) this.#leave(worker);
    await this.#world.advance(30_000);
    for (const worker of this.#workers.slice()) this.#kill(worker);
    // Shards that end now are forgotten before anybody has read them.
    this.#reshard();
    this.#reshard();
    await this.#world.advance(NIGHT_MS);
    const before = this.#acknowledged.size;
    for (const number of this.#acknowledged) {
      if (!this.#handled.has(number)) this.#acknowledged.delete(number);
    }
    this.#note(`the night is over; ${before - this.#acknowledged.size} records are gone`);
    this.#listings.length = 0;
    this.#startWorker();
  }

  #startWorker(): void {
    this.#names += 1;
    const name = `w${this.#names}`;
    const rate = this.#isCalm ? 1 : 0.95 + this.#random() * 0.1;
    const process = new SimProcess(name, this.#world, rate, this.#random);
    const leaseTable = tableOf(
      process,
      this.#watched(name),
      () => this.#listings[0],
      this.#faults,
      this.#random,
    );
    const dice = this.#random();
    const retrieval = dice < 0.5 ? 'polling' : dice < 0.85 ? 'fanOut' : 'auto';
    const consumer = new Consumer(
      {
        streamName: STREAM,
        applicationName: 'simulated',
        workerId: name,
        leaseTable,
        leaseMode: this.#leases === 'kcl2' ? 'kcl2' : 'auto',
        initialPosition: 'TRIM_HORIZON',
        failoverMs: FAILOVER_MS,
        assignmentIntervalMs: 500,
        auditIntervalMs: 5_000,
        checkpointIntervalMs: 200 + Math.floor(this.#random() * 800),
        drainTimeoutMs: 3_000,
        concurrency: 1 + Math.floor(this.#random() * 4),
        retrieval,
        fanOutBytesPerSecond: 1,
        // A misrouted aggregate is sent again as a whole.
        rangeCheck: 'aggregate',
        clock: process.clock,
        random: this.#random,
        handler: { processRecord: (record, context) => this.#handle(process, record, context) },
      },
      readPortOf(process, this.#engine, STREAM, this.#faults, this.#random),
    );
    this.#workers.push({ process, consumer, isLeaving: false });
    this.#note(`${name} starts by ${retrieval}, its clock runs at ${rate.toFixed(3)}`);
    void this.#keepStarting(process, consumer);
  }

  /** As a supervisor of processes would: one that does not come up is started again. */
  async #keepStarting(process: SimProcess, consumer: Consumer): Promise<void> {
    try {
      await consumer.start();
    } catch (error) {
      if (process.isDead || this.#workers.every((worker) => worker.consumer !== consumer)) return;
      this.#note(`${process.name} could not start: ${(error as Error).message}`);
      this.#workers.splice(
        this.#workers.findIndex((worker) => worker.consumer === consumer),
        1,
      );
      await consumer.close();
      this.#startWorker();
    }
  }

  /** The table, with an eye on what a worker writes to it. */
  #watched(workerId: string): LeaseTable {
    return new Proxy<LeaseTable>(this.#table, {
      get: (target, name) => {
        if (name !== 'update') {
          return (target[name as keyof LeaseTable] as (...args: unknown[]) => unknown).bind(target);
        }
        return async (...args: Parameters<LeaseTable['update']>) => {
          const before = await target.get(args[0]);
          const outcome = await target.update(...args);
          if (outcome.isDone && before && outcome.row) {
            this.#onWrite(workerId, before, outcome.row);
          }
          return outcome;
        };
      },
    });
  }

  #onWrite(workerId: string, rowBefore: Row, row: Row): void {
    const [before, lease] = [parseLease(rowBefore), parseLease(row)];
    if (!before || !lease) return;
    const { leaseKey } = lease;
    const [owner, next] = [ownerOf(before), ownerOf(lease)];
    if (owner !== next) this.#note(`${workerId} gives ${leaseKey} from ${owner} to ${next}`);
    const running = this.#running.get(`${workerId} ${leaseKey}`) ?? 0;
    if (owner === workerId && next !== workerId && running > 0) {
      this.#problem(`${workerId} gives ${leaseKey} away while ${running} handlers run`);
    }
    if (lease.checkpoint !== before.checkpoint) {
      this.#onCheckpoint(leaseKey, lease.checkpoint, workerId);
    }
  }

  #onCheckpoint(leaseKey: string, position: Position, workerId: string): void {
    const before = this.#checkpoints.get(leaseKey);
    if (before && comparePositions(position, before) < 0) {
      this.#problem(`${workerId} moved the checkpoint of ${leaseKey} back`);
    }
    this.#checkpoints.set(leaseKey, position);
  }

  async #handle(process: SimProcess, record: UserRecord, context: HandlerContext): Promise<void> {
    const place = `${process.name} ${context.shardId}`;
    this.#running.set(place, (this.#running.get(place) ?? 0) + 1);
    try {
      await this.#work(process, record, context);
    } finally {
      this.#running.set(place, (this.#running.get(place) ?? 0) - 1);
    }
  }

  async #work(process: SimProcess, record: UserRecord, context: HandlerContext): Promise<void> {
    const number = Number(record.data.toString());
    this.#noteStep(process, context);
    if (!this.#isCalm && this.#random() < 0.03) throw new Error('simulated');
    // Some are slow, a few are much too slow.
    const dice = this.#random();
    const slowMs = this.#isCalm ? 30 : dice < 0.01 ? 6_000 : dice < 0.1 ? 500 : 20;
    // Some are deaf to their signal.
    const signal = !this.#isCalm && this.#random() < 0.1 ? undefined : context.signal;
    await sleep(process.clock, this.#random() * slowMs, signal);
    if (context.signal.aborted) throw new Error('aborted');
    this.#noteStep(process, context);
    const times = (this.#handled.get(number) ?? 0) + 1;
    this.#handled.set(number, times);
    if (times > 1)
      this.#note(
        `${process.name} handles ${number} of ${context.shardId} again, token ${context.fencingToken}`,
      );
    const key = record.partitionKey ?? '';
    if (times > 1) return;
    if (number < (this.#lastOfKey.get(key) ?? -1)) {
      this.#problem(
        `${process.name} handled ${number} of ${key} after ${this.#lastOfKey.get(key)}`,
      );
    }
    this.#lastOfKey.set(key, number);
  }

  /** A handler did something, believing that the shard is its worker's. */
  #noteStep(process: SimProcess, { shardId, fencingToken, signal }: HandlerContext): void {
    if (signal.aborted) return;
    const before = this.#tokens.get(shardId);
    // What is stolen is worked on by two until the first has noticed.
    if (before && before.token > fencingToken && this.#leases === 'native') {
      this.#problem(
        `${process.name} works on ${shardId} with token ${fencingToken} after ${before.worker} has begun with ${before.token}`,
      );
    }
    this.#tokens.set(shardId, { token: fencingToken, worker: process.name });
  }

  #putSome(): void {
    for (let count = Math.floor(this.#random() * 8); count > 0; count -= 1) {
      const number = this.#put;
      this.#put += 1;
      const partitionKey = `key-${Math.floor(this.#random() * KEYS)}`;
      const data = Buffer.from(String(number));
      if (this.#producer) {
        this.#producer.producer.put({ partitionKey, data }).then(
          () => this.#acknowledged.add(number),
          (error: unknown) => this.#problem(`record ${number} was refused: ${String(error)}`),
        );
        continue;
      }
      this.#engine.execute('PutRecord', {
        StreamName: STREAM,
        PartitionKey: partitionKey,
        Data: data,
      });
      this.#acknowledged.add(number);
    }
  }

  #reshard(): void {
    const open = [...(this.#engine.streams.get(STREAM)?.openShards ?? [])].sort((a, b) =>
      a.birth.range.start < b.birth.range.start ? -1 : 1,
    );
    const at = Math.floor(this.#random() * open.length);
    const [first, second] = [open[at], open[at + 1]];
    if (!first) return;
    this.#counts.reshards += 1;
    if (second && open.length > 2 && this.#random() < 0.6) {
      this.#note(`merge of ${first.id} and ${second.id}`);
      this.#engine.execute('MergeShards', {
        StreamName: STREAM,
        ShardToMerge: first.id,
        AdjacentShardToMerge: second.id,
      });
    } else {
      const { start, end } = first.birth.range;
      this.#note(`split of ${first.id}`);
      this.#engine.execute('SplitShard', {
        StreamName: STREAM,
        ShardToSplit: first.id,
        NewStartingHashKey: String(start + (end - start) / 2n),
      });
    }
  }

  #trouble(): void {
    const dice = this.#random();
    const worker = this.#workers[Math.floor(this.#random() * this.#workers.length)];
    if (!worker || (dice < 0.3 && this.#workers.length < 5)) this.#startWorker();
    else if (dice < 0.5) this.#leave(worker);
    else if (dice < 0.55) void this.#deploy();
    else if (dice < 0.6) this.#pause(worker);
    else if (this.#isCalm) return;
    else if (!this.#isWild) this.#cut();
    else if (dice < 0.65) this.#kill(worker);
    else if (dice < 0.7) void this.#killLeader();
    else if (dice < 0.82) this.#freeze(worker, 3 * FAILOVER_MS);
    else if (dice < 0.92) this.#stall(worker);
    else this.#cut();
  }

  /** Every worker is replaced, one after the other. */
  async #deploy(): Promise<void> {
    this.#counts.deploys += 1;
    this.#note('a deployment begins');
    for (const worker of this.#workers.slice()) {
      this.#leave(worker);
      this.#startWorker();
      await sleep(this.#world, 1_000);
    }
  }

  #pause({ process, consumer }: Worker): void {
    this.#note(`${process.name} pauses`);
    consumer.pause();
    this.#world.schedule(2_000, () => {
      this.#note(`${process.name} resumes`);
      consumer.resume();
    });
  }

  /** The event loop is blocked for a while, of a worker or of the producer. */
  #stall(worker: Worker): void {
    const target = this.#producer && this.#random() < 0.3 ? this.#producer : worker;
    this.#counts.stalls += 1;
    this.#freezeFor(target.process, this.#random() * 1_500);
  }

  /** Subscriptions end without a word. */
  #cut(): void {
    this.#counts.cuts += 1;
    this.#note('subscriptions are cut');
    for (const { subscription } of this.#engine.subscriptions.active()) {
      if (this.#random() < 0.7) subscription.end();
    }
  }

  #leave(worker: Worker): void {
    if (worker.isLeaving) return;
    worker.isLeaving = true;
    this.#note(`${worker.process.name} closes`);
    void worker.consumer.close().then(() => {
      this.#note(`${worker.process.name} has closed`);
      this.#remove(worker);
    });
  }

  #kill(worker: Worker): void {
    this.#counts.kills += 1;
    this.#note(`${worker.process.name} is killed`);
    worker.process.kill();
    this.#remove(worker);
  }

  /** Whoever deals out the leases is gone. */
  async #killLeader(): Promise<void> {
    const fleet = await new FleetStore(this.#table).fleet();
    const leader = this.#workers.find(({ process }) => process.name === fleet?.leader);
    if (!leader) return;
    this.#counts.leaderLosses += 1;
    this.#note(`${fleet?.leader} leads`);
    this.#kill(leader);
  }

  /** The fleet is to keep its leases in another mode. */
  async #changeMode(): Promise<void> {
    const fleet = await new FleetStore(this.#table).fleet();
    const to = fleet?.layout === 'native' ? 'kcl2' : 'native';
    const operator = new Consumer({
      streamName: STREAM,
      applicationName: 'simulated',
      handler: { processRecord: () => {} },
      leaseTable: this.#table,
      failoverMs: FAILOVER_MS,
      clock: this.#world,
      random: this.#random,
    });
    this.#counts.modeChanges += 1;
    this.#note(`the fleet changes over to ${to}`);
    await operator.changeLeaseMode(to).then(
      () => this.#note(`the fleet has changed over to ${to}`),
      (error: unknown) => this.#note(`not changed over: ${String(error)}`),
    );
    await operator.close();
  }

  #freeze({ process }: Worker, maxMs: number): void {
    this.#counts.freezes += 1;
    this.#freezeFor(process, this.#random() * maxMs);
  }

  #freezeFor(process: SimProcess, forMs: number): void {
    this.#note(`${process.name} freezes for ${Math.round(forMs)} ms`);
    process.freeze();
    this.#world.schedule(forMs, () => {
      this.#note(`${process.name} thaws`);
      process.thaw();
    });
  }

  #remove(worker: Worker): void {
    const index = this.#workers.indexOf(worker);
    if (index >= 0) this.#workers.splice(index, 1);
  }

  /** Without further trouble everything stored must be handled within a bound. */
  async #heal(): Promise<number> {
    this.#note('no more trouble');
    Object.assign(this.#faults, { before: 0, after: 0, slow: 0, stale: 0 });
    this.#startWorker();
    const startedMs = this.#world.monotonicMs();
    const isFlushed = this.#producer?.producer.close().then(() => (this.#producer = undefined));
    const missingCount = (): number =>
      [...this.#acknowledged].filter((number) => !this.#handled.has(number)).length;
    while (this.#producer || missingCount() > 0) {
      if (this.#world.monotonicMs() - startedMs > HEAL_LIMIT_MS) {
        if (this.#producer) this.#problem('the producer could not put everything');
        const missing = missingCount();
        this.#problem(`${missing} records were not handled within ${HEAL_LIMIT_MS} ms`);
        for (const [shardId, records] of this.#engine.stored(STREAM)) {
          const open = records.filter(({ Data }) => !this.#handled.has(Number(Data.toString())));
          if (open.length > 0)
            this.#note(`${shardId}: ${open.length} of ${records.length} not handled`);
        }
        this.#note(describeLeases(await leasesOf(this.#table)));
        for (const { consumer } of this.#workers)
          this.#note(JSON.stringify(consumer.status().shards));
        break;
      }
      await this.#step();
    }
    await isFlushed;
    return this.#world.monotonicMs() - startedMs;
  }

  /** Without further trouble the shards must be shared out evenly within a bound. */
  async #balance(): Promise<void> {
    const endMs = this.#world.monotonicMs() + HEAL_LIMIT_MS;
    const spread = async (): Promise<number> => {
      const leases = (await leasesOf(this.#table)).filter((lease) => !isFinished(lease));
      const counts = this.#workers
        .filter(({ isLeaving }) => !isLeaving)
        .map(({ process }) => leases.filter((lease) => ownerOf(lease) === process.name).length);
      return Math.max(...counts) - Math.min(...counts);
    };
    while ((await spread()) > 1) {
      if (this.#world.monotonicMs() > endMs) {
        this.#problem('the shards are not shared out evenly');
        this.#note(describeLeases(await leasesOf(this.#table)));
        return;
      }
      await this.#step();
    }
  }

  async #stopAll(): Promise<void> {
    // Whoever is frozen comes back first; whoever could not start has given up.
    await this.#world.advance(3 * FAILOVER_MS);
    const closing = Promise.all(this.#workers.map(({ consumer }) => consumer.close()));
    await this.#world.advance(20_000);
    await Promise.race([closing, this.#world.advance(1)]);
    // Timers of the dead remain booked and do nothing.
    await this.#world.advance(700_000);
  }

  #note(what: string): void {
    this.#timeline.push(`${(this.#world.monotonicMs() / 1000).toFixed(2).padStart(7)} s  ${what}`);
  }

  #problem(what: string): void {
    this.#problems.push(what);
    this.#note(`PROBLEM: ${what}`);
  }
}
