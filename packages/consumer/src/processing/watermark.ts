import type { Position } from '@shardline/shared';

/** A user record that was begun: where it stands, and what it is a part of. */
export interface Ticket {
  readonly position: Position;
  isDone: boolean;
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
    return this.#position;
  }

  /** Records begun and not yet behind the position. */
  get openCount(): number {
    return this.#open.length - this.#head;
  }

  /** Takes note of the next record of the shard. */
  begin(position: Position): Ticket {
    const ticket = { position, isDone: false };
    this.#open.push(ticket);
    return ticket;
  }

  finish(ticket: Ticket): void {
    ticket.isDone = true;
    for (let next = this.#open[this.#head]; next?.isDone; next = this.#open[this.#head]) {
      this.#position = next.position;
      this.#head += 1;
    }
    if (this.#head * 2 >= this.#open.length) {
      this.#open.splice(0, this.#head);
      this.#head = 0;
    }
  }

  /** Moves the position over records that need no handling, if nothing before them is open. */
  skipTo(position: Position): void {
    if (this.openCount === 0) this.#position = position;
    else this.finish(this.begin(position));
  }
}
