import { comparePositions, type Position } from '@shardline/shared';

/** A user record that was begun: where it stands, and whether it is done. */
export interface Ticket extends Position {
  isDone: boolean;
}

/** A position and nothing else of what has one. */
export function positionOf({ sequenceNumber, subSequenceNumber }: Position): Position {
  return { sequenceNumber, subSequenceNumber };
}

/**
 * How far a shard is done: records finish in any order, the position up to which all have finished
 * only grows.
 */
export class Watermark {
  readonly #open: Ticket[] = [];
  #head = 0;
  #position: Position | undefined;

  /** The position up to which everything is done; undefined while that is nothing. */
  get position(): Position | undefined {
    return this.#position && positionOf(this.#position);
  }

  /** Records begun and not yet behind the position. */
  get openCount(): number {
    return this.#open.length - this.#head;
  }

  /** Takes note of the next record of the shard. */
  begin({ sequenceNumber, subSequenceNumber }: Position): Ticket {
    const ticket = { sequenceNumber, subSequenceNumber, isDone: false };
    this.#open.push(ticket);
    return ticket;
  }

  finish(ticket: Ticket): void {
    ticket.isDone = true;
    for (let next = this.#open[this.#head]; next?.isDone; next = this.#open[this.#head]) {
      this.#position = next;
      this.#head += 1;
    }
    if (this.#head * 2 >= this.#open.length) {
      this.#open.splice(0, this.#head);
      this.#head = 0;
    }
  }

  /** Moves the position over a record that needs no handling, if nothing before it is open. */
  skipTo(position: Position): void {
    if (this.openCount > 0) this.finish(this.begin(position));
    else if (!this.#position || comparePositions(position, this.#position) > 0)
      this.#position = positionOf(position);
  }

  /** Where the position would be if these were done, too. */
  positionWith(tickets: readonly Ticket[]): Position | undefined {
    const also = new Set(tickets);
    let position = this.#position;
    for (let at = this.#head; at < this.#open.length; at += 1) {
      const ticket = this.#open[at] as Ticket;
      if (!ticket.isDone && !also.has(ticket)) break;
      position = ticket;
    }
    return position && positionOf(position);
  }

  /** Positions that are done although one before them is not, the nearest first. */
  finishedAbove(limit: number): Position[] {
    const result: Position[] = [];
    for (let at = this.#head; at < this.#open.length && result.length < limit; at += 1) {
      const ticket = this.#open[at] as Ticket;
      if (ticket.isDone) result.push(positionOf(ticket));
    }
    return result;
  }
}
