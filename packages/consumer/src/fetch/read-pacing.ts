/** Calls one shard takes, shared by all who poll it. @see https://docs.aws.amazon.com/kinesis/latest/APIReference/API_GetRecords.html */
const CALLS_PER_SECOND = 5;
/** A tenth more than the service asks, for the jitter of the way there. */
const SHORTEST_PAUSE_MS = (1000 / CALLS_PER_SECOND) * 1.1;
/** The service's rate for polling, which it enforces by refusing the calls that follow. */
const READ_BYTES_PER_SECOND = 2 * 2 ** 20;

export interface ReadOutcome {
  readonly bytes: number;
  readonly millisBehindLatest: number;
}

/**
 * How long to wait after a read before the next one: as short as the shard allows while there is
 * something to catch up on, `idlePauseMs` otherwise.
 */
export function pauseAfterRead(
  { bytes, millisBehindLatest }: ReadOutcome,
  idlePauseMs: number,
): number {
  const owedMs = (bytes / READ_BYTES_PER_SECOND) * 1000;
  const isBehind = millisBehindLatest > 0;
  return Math.max(isBehind ? SHORTEST_PAUSE_MS : idlePauseMs, SHORTEST_PAUSE_MS, owedMs);
}
