import type { Arrival } from './messages.js';

interface Kill {
  readonly worker: string;
  readonly atMs: number;
  /** Shards the worker owned of which nobody else has handled a record since. */
  readonly orphans: Set<string>;
  readonly takeOverMs: number[];
}

/** What was sent and what arrived, line by line. */
export class Ledger {
  duplicates = 0;
  /** Lines that arrived after a later line of their key, when both arrived for the first time. */
  orderViolations = 0;
  requestBytes = 0;
  readonly latenciesMs: number[] = [];
  /** How many of the latencies were measured before the first kill. */
  latenciesBeforeKill: number | undefined;
  readonly #sent = new Set<number>();
  readonly #received = new Set<number>();
  readonly #lastOfKey = new Map<string, number>();
  readonly #kills: Kill[] = [];

  get sent(): number {
    return this.#sent.size;
  }

  get received(): number {
    return this.#received.size;
  }

  get lost(): number {
    return [...this.#sent].filter((n) => !this.#received.has(n)).length;
  }

  /** Lines that arrived and were never sent. */
  get unknown(): number {
    return [...this.#received].filter((n) => !this.#sent.has(n)).length;
  }

  /** From the kill of a worker to the first record of each of its shards handled by another. */
  get takeOversMs(): readonly number[] {
    return this.#kills.flatMap(({ takeOverMs }) => takeOverMs);
  }

  addSent(numbers: readonly number[], requestBytes: number): void {
    for (const n of numbers) this.#sent.add(n);
    this.requestBytes += requestBytes;
  }

  addKill(worker: string, shardIds: readonly string[], nowMs: number): void {
    this.latenciesBeforeKill ??= this.latenciesMs.length;
    this.#kills.push({ worker, atMs: nowMs, orphans: new Set(shardIds), takeOverMs: [] });
  }

  addArrivals(worker: string, arrivals: readonly Arrival[], nowMs: number): void {
    for (const { n, key, shardId, latencyMs } of arrivals) {
      for (const kill of this.#kills) {
        if (kill.worker !== worker && kill.orphans.delete(shardId)) {
          kill.takeOverMs.push(nowMs - kill.atMs);
        }
      }
      if (this.#received.has(n)) {
        this.duplicates += 1;
        continue;
      }
      this.#received.add(n);
      this.latenciesMs.push(latencyMs);
      if (n < (this.#lastOfKey.get(key) ?? -1)) this.orderViolations += 1;
      this.#lastOfKey.set(key, Math.max(n, this.#lastOfKey.get(key) ?? -1));
    }
  }
}

/** The value below which a share of all values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? 0;
}
