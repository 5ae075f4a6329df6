import { comparePositions, type Position } from '@shardline/shared';

/** A DynamoDB row holds 400 KB, and every byte of it is paid for with every checkpoint. */
export const MAX_FINISHED_BYTES = 4_096;

/** User records of one Kinesis record are fewer; a row may hold anything. */
const MAX_RUN = 2 ** 20;

/**
 * Writes positions that are handled although one before them is not, so that a next owner need not
 * repeat them: sequence numbers as differences in base 36, user records of one Kinesis record as runs.
 * What does not fit into the bound is left out, the farthest first: it is repeated then.
 *
 * @param positions - In the shard's order.
 */
export function encodeFinished(positions: readonly Position[]): string | undefined {
  let text = '';
  let previous: bigint | undefined;
  for (let at = 0; at < positions.length;) {
    const { sequenceNumber } = positions[at] as Position;
    let runs = '';
    while (positions[at]?.sequenceNumber === sequenceNumber) {
      const first = (positions[at] as Position).subSequenceNumber;
      let last = first;
      at += 1;
      while (
        positions[at]?.sequenceNumber === sequenceNumber &&
        positions[at]?.subSequenceNumber === last + 1
      ) {
        last += 1;
        at += 1;
      }
      runs += `${runs && ','}${first}${last > first ? `-${last}` : ''}`;
    }
    const number = BigInt(sequenceNumber);
    const entry = `${text && ';'}${(number - (previous ?? 0n)).toString(36)}:${runs}`;
    if (text.length + entry.length > MAX_FINISHED_BYTES) break;
    text += entry;
    previous = number;
  }
  return text || undefined;
}

/** Positions that were written by {@link encodeFinished}. Text that cannot be read holds none. */
export class FinishedAbove {
  readonly #runs: ReadonlyMap<string, readonly Run[]>;

  constructor(text: string | undefined) {
    this.#runs = (text !== undefined && decodeRuns(text)) || new Map();
  }

  has({ sequenceNumber, subSequenceNumber }: Position): boolean {
    const runs = this.#runs.get(sequenceNumber) ?? [];
    return runs.some(({ first, last }) => subSequenceNumber >= first && subSequenceNumber <= last);
  }

  /** Those behind a position, in order; all of them if there is none. */
  after(position: Position | undefined): Position[] {
    const result: Position[] = [];
    for (const [sequenceNumber, runs] of this.#runs) {
      for (const { first, last } of runs) {
        for (let sub = first; sub <= last; sub += 1) {
          const each = { sequenceNumber, subSequenceNumber: sub };
          if (!position || comparePositions(each, position) > 0) result.push(each);
        }
      }
    }
    return result;
  }
}

interface Run {
  readonly first: number;
  readonly last: number;
}

function decodeRuns(text: string): Map<string, readonly Run[]> | undefined {
  const runs = new Map<string, readonly Run[]>();
  let number = 0n;
  for (const entry of text.split(';')) {
    const match = /^([0-9a-z]+):([0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*)$/.exec(entry);
    if (!match) return undefined;
    const [, difference = '', ranges = ''] = match;
    number += fromBase36(difference);
    runs.set(
      number.toString(),
      ranges.split(',').map((range) => {
        const [first = 0, last = first] = range.split('-').map(Number);
        return { first, last: Math.min(last, first + MAX_RUN) };
      }),
    );
  }
  return runs;
}

function fromBase36(text: string): bigint {
  let value = 0n;
  for (const digit of text) value = value * 36n + BigInt(Number.parseInt(digit, 36));
  return value;
}
