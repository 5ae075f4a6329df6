import { comparePositions, type Position, ShardlineError } from '@shardline/shared';

/** A DynamoDB row holds 400 KB: the state of a window must fit beside everything else. */
const MAX_WINDOW_STATE_BYTES = 300 * 1024;

/** What a window handler knows of its window. Times are the service's, epoch milliseconds. */
export interface WindowCall {
  readonly startAt: number;
  /** The first moment after the window. */
  readonly endAt: number;
  /** What the call before returned; undefined for the first call of a window. */
  readonly state: unknown;
  /** True for the last call of a window: its end has passed. It may come without items. */
  readonly isFinal: boolean;
}

/** A window that has begun and not ended. */
export interface OpenWindow {
  readonly startAt: number;
  readonly state: unknown;
}

/** Records that go to one window, by their indexes in a batch. */
export interface WindowSlice {
  readonly startAt: number;
  readonly from: number;
  readonly to: number;
}

/**
 * Cuts a batch into the windows of its records' arrival times. Windows only go forward: a record that
 * arrived before the open one began is counted in the open one, and never dropped.
 *
 * @param arrivals - Epoch milliseconds, in the shard's order.
 * @param openStartAt - Start of the window that is open.
 */
export function sliceByWindow(
  arrivals: readonly number[],
  windowMs: number,
  openStartAt: number | undefined,
): WindowSlice[] {
  const slices: WindowSlice[] = [];
  let current = openStartAt ?? -Infinity;
  arrivals.forEach((arrivedAt, index) => {
    const startAt = Math.max(Math.floor(arrivedAt / windowMs) * windowMs, current);
    const last = slices.at(-1);
    if (last && startAt === current) slices[slices.length - 1] = { ...last, to: index + 1 };
    else slices.push({ startAt, from: index, to: index + 1 });
    current = startAt;
  });
  return slices;
}

/**
 * Writes an open window for the lease's row.
 *
 * @param position - Up to where the state holds the window's records.
 * @throws ShardlineError `WINDOW_STATE_TOO_LARGE`.
 */
export function encodeWindow(
  window: OpenWindow,
  { sequenceNumber, subSequenceNumber }: Position,
): string {
  const text = JSON.stringify({
    startAt: window.startAt,
    state: window.state,
    at: [sequenceNumber, subSequenceNumber],
  });
  const bytes = Buffer.byteLength(text);
  if (bytes > MAX_WINDOW_STATE_BYTES) {
    throw new ShardlineError(
      'WINDOW_STATE_TOO_LARGE',
      `the state of a window must fit ${MAX_WINDOW_STATE_BYTES} bytes as JSON, got ${bytes}`,
      { value: bytes, limit: MAX_WINDOW_STATE_BYTES, unit: 'bytes' },
    );
  }
  return text;
}

/**
 * Reads an open window from the lease's row. Undefined if there is none, or if it does not belong to the
 * checkpoint, as after a worker that knows nothing of windows has moved it.
 */
export function decodeWindow(
  text: string | undefined,
  checkpoint: Position,
): OpenWindow | undefined {
  if (text === undefined) return undefined;
  try {
    const { startAt, state, at } = JSON.parse(text) as {
      startAt?: unknown;
      state?: unknown;
      at?: unknown;
    };
    if (typeof startAt !== 'number' || !Array.isArray(at)) return undefined;
    const [sequenceNumber, subSequenceNumber] = at as [unknown, unknown];
    const position = {
      sequenceNumber: String(sequenceNumber),
      subSequenceNumber: Number(subSequenceNumber),
    };
    return comparePositions(position, checkpoint) === 0 ? { startAt, state } : undefined;
  } catch {
    return undefined;
  }
}
