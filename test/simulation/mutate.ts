import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A load-bearing line, broken. */
interface Mutant {
  readonly what: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** What has to change with it. */
  readonly also?: { readonly find: RegExp; readonly replace: string };
}

const SHARD_WORKER = 'shard/shard-worker.ts';
const PROCESSOR = 'processing/shard-processor.ts';
const HELD_LEASE = 'lease/held-lease.ts';
const STORE = 'lease/lease-store.ts';
const MEMBER = 'fleet/native-member.ts';
const SUPERVISOR = 'shard/supervisor.ts';
const SEEDS = '60';
/** Kinds of histories, the likeliest to notice first. */
const KINDS = [[], ['--calm'], ['--rough'], ['--leases', 'kcl2'], ['--leases', 'changing']];

const MUTANTS: readonly Mutant[] = [
  {
    what: 'the owner stops after others may take its lease',
    file: HELD_LEASE,
    find: 'const SAFETY_RATIO = 0.1;',
    replace: 'const SAFETY_RATIO = -0.5;',
  },
  {
    what: 'validity counts from the answer, not from the request',
    file: HELD_LEASE,
    find: 'this.#validUntilMs = sentMs + failoverMs',
    replace: 'this.#validUntilMs = clock.monotonicMs() + 6 * failoverMs',
  },
  {
    what: 'validity is known by the timer alone',
    file: HELD_LEASE,
    find: 'if (this.#options.clock.monotonicMs() < this.#validUntilMs) return true;',
    replace: 'return true;',
  },
  {
    what: 'a checkpoint may go back',
    file: HELD_LEASE,
    find: 'if (comparePositions(progress.checkpoint, this.#lease.checkpoint) < 0) return;',
    replace:
      'if (progress.checkpoint.sequenceNumber.endsWith("13")) progress = { ...progress, checkpoint: { sequenceNumber: "1", subSequenceNumber: 0 } };',
  },
  {
    what: 'a row is written without looking at its counter',
    file: STORE,
    find: '{ ...conditions, [counter]: { N: String(lease.leaseCounter) } },',
    replace: '{ ...conditions },',
  },
  {
    what: 'a record counts as done before its handler has finished',
    file: PROCESSOR,
    find: 'const ticket = this.#watermark.begin(position);',
    replace: 'const ticket = this.#watermark.begin(position); this.#watermark.finish(ticket);',
  },
  {
    what: 'a failing handler is not called again',
    file: 'processing/delivery.ts',
    find: "if (verdict.kind === 'retry' || !deadLetter || this.#shard.signal.aborted) return undefined;",
    replace: 'if (this.#shard.signal.aborted) return undefined;',
    also: { find: /await deadLetter\(\n\s+part\.map/, replace: 'await deadLetter?.(part.map' },
  },
  {
    what: 'children start before their parents are finished',
    file: SHARD_WORKER,
    find: 'for (const parentId of this.#held.lease.parentShardIds) {',
    replace: 'for (const parentId of [] as string[]) {',
  },
  {
    what: 'the other parent of a merge is not waited for',
    file: SHARD_WORKER,
    find: 'for (const parentId of parentIds) await this.#waitUntilLeased(parentId);',
    replace: 'parentIds.clear();',
  },
  {
    what: 'the shard is given away while handlers run',
    file: SHARD_WORKER,
    find: 'await Promise.race([this.handlersDone(), aborted(this.#held.signal)]);',
    replace: '',
  },
  {
    what: 'no position is stored when the shard is given away',
    file: SHARD_WORKER,
    find: 'await this.#persistently(() => this.#held.checkpoint(this.#processor.progress));\n    }',
    replace: '}',
  },
  {
    what: 'the shard ends before its last records are handled',
    file: SHARD_WORKER,
    find: 'await Promise.race([this.#processor.idle(), aborted(turn)]);\n      if (this.#seekTarget',
    replace: 'if (this.#seekTarget',
    also: { find: /this\.#processor\.openCount > 0 \|\| /, replace: '' },
  },
  {
    what: 'leases of the dead are never given to others',
    file: MEMBER,
    find: "if (lease.layout === 'native' && dead.has(owner)) return true;",
    replace: "if (lease.layout === 'native' && dead.has(owner)) return false;",
  },
  {
    what: 'the dead are judged before they are dead',
    file: 'fleet/lease-observer.ts',
    find: 'sighting?.mark === markOf(worker) && age(sighting, nowMs) > this.#failoverMs',
    replace: 'sighting?.mark === markOf(worker) && age(sighting, nowMs) > this.#failoverMs / 2',
  },
  {
    what: 'a lease is adopted twice at a time',
    file: SUPERVISOR,
    find: 'this.#adopting.has(leaseKey) || ',
    replace: '',
  },
  {
    what: 'a lease that is asked of us before we hold it is not passed on',
    file: 'fleet/lease-view.ts',
    find: 'if (leaseOwner !== this.#workerId) tasks.push(holdings.passOn(lease));',
    replace: 'if (leaseOwner !== this.#workerId) continue;',
  },
  {
    what: 'a subscription goes on at the last record, not behind it',
    file: 'fetch/fan-out-fetcher.ts',
    find: 'if (continuation !== undefined) resume = afterRecord(continuation);',
    replace:
      'if (continuation !== undefined) resume = { ...afterRecord(continuation), isAfter: false };',
  },
  {
    what: 'polling goes on at the last record after a pause',
    file: 'fetch/polling-fetcher.ts',
    find: 'if (last !== undefined) resume = afterRecord(last);',
    replace: 'if (last !== undefined) resume = { ...afterRecord(last), isAfter: false };',
  },
  {
    what: 'leases of forgotten shards are kept, and their children wait for ever',
    file: 'shard/stream-audit.ts',
    find: '...forgotten.filter(({ leaseKey }) => before.has(leaseKey)),',
    replace: '',
  },
  {
    what: 'nobody leads',
    file: MEMBER,
    find: 'this.#isLeader = await this.#options.fleet.lead(workerId, leader);',
    replace: 'this.#isLeader = false;',
  },
  {
    what: 'keys lose their lane',
    file: 'processing/lanes.ts',
    find: 'laneOf(key, this.#lanes.length)',
    replace: 'Math.floor(key.length * this.#running) % this.#lanes.length',
  },
];

let unnoticed = 0;
for (const { what, file, find, replace, also } of MUTANTS) {
  const path = fileURLToPath(new URL(`../../packages/consumer/src/${file}`, import.meta.url));
  const original = readFileSync(path, 'utf8');
  if (!original.includes(find)) {
    console.log(`GONE      ${what}: the line is not in ${file} any more`);
    unnoticed += 1;
    continue;
  }
  let noticed = false;
  const broken = original.replace(find, replace);
  writeFileSync(path, also ? broken.replace(also.find, also.replace) : broken);
  try {
    noticed = KINDS.some((kind) => {
      const script = fileURLToPath(new URL('./simulate.ts', import.meta.url));
      const args = [...process.execArgv, script, '--seeds', SEEDS, ...kind];
      const { status } = spawnSync(process.execPath, args, { timeout: 120_000 });
      return status !== 0;
    });
  } finally {
    writeFileSync(path, original);
  }
  if (!noticed) unnoticed += 1;
  console.log(`${noticed ? 'noticed  ' : 'UNNOTICED'} ${what}`);
}
console.log(`${MUTANTS.length - unnoticed} of ${MUTANTS.length} broken lines noticed`);
process.exit(unnoticed > 0 ? 1 : 0);
