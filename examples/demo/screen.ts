import { styleText } from 'node:util';

/** A shard as it is drawn. */
export interface ShardLine {
  readonly shardId: string;
  readonly owner: string;
  readonly state: string;
  readonly lagMs: number | undefined;
}

export interface Picture {
  readonly elapsedMs: number;
  readonly sent: number;
  readonly received: number;
  readonly isSending: boolean;
  readonly shards: readonly ShardLine[];
}

const BAR_WIDTH = 40;

/** Draws progress: in place on a terminal, a line every two seconds elsewhere. */
export class Screen {
  readonly #isTerminal = process.stdout.isTTY;
  #drawnLines = 0;
  #lastPlainMs = -Infinity;

  draw(picture: Picture): void {
    if (this.#isTerminal) this.#drawInPlace(picture);
    else this.#printLine(picture);
  }

  /** Says what has happened; stays on the screen. */
  note(text: string): void {
    this.#erase();
    console.log(`  ${styleText('yellow', '•')} ${text}`);
  }

  #drawInPlace({ elapsedMs, sent, received, isSending, shards }: Picture): void {
    this.#erase();
    // How much will be sent is known when it has been: until then the bars grow with it.
    const scale = isSending ? Math.max(sent * 1.15, 2_000) : sent;
    const lines = [
      '',
      `  sent      ${bar(sent / scale, 'cyan')} ${String(sent).padStart(7)}`,
      `  received  ${bar(received / scale, 'green')} ${String(received).padStart(7)}   ${(elapsedMs / 1000).toFixed(1)} s`,
      '',
      ...shards.map(({ shardId, owner, state, lagMs }) => {
        const lag = lagMs === undefined ? '' : `${lagMs} ms behind`;
        return `  ${shardId}  ${owner.padEnd(12)} ${lag.padEnd(16)} ${styleText('dim', state)}`;
      }),
    ];
    process.stdout.write(`${lines.join('\n')}\n`);
    this.#drawnLines = lines.length;
  }

  #printLine({ elapsedMs, sent, received, shards }: Picture): void {
    if (elapsedMs - this.#lastPlainMs < 2_000) return;
    this.#lastPlainMs = elapsedMs;
    const owners = shards.map(({ shardId, owner }) => `${shardId.slice(-2)}:${owner}`).join(' ');
    console.log(
      `  ${(elapsedMs / 1000).toFixed(1).padStart(5)} s  sent ${sent}  received ${received}  ${owners}`,
    );
  }

  #erase(): void {
    if (this.#drawnLines > 0) process.stdout.write(`\u001b[${this.#drawnLines}A\u001b[J`);
    this.#drawnLines = 0;
  }
}

/** Prints two columns. */
export function printTable(rows: readonly (readonly [string, string])[]): void {
  const width = Math.max(...rows.map(([name]) => name.length));
  console.log();
  for (const [name, value] of rows) console.log(`  ${name.padEnd(width)}  ${value}`);
  console.log();
}

function bar(share: number, color: 'cyan' | 'green'): string {
  const full = Math.round(Math.min(share, 1) * BAR_WIDTH);
  return styleText(color, '█'.repeat(full)) + styleText('dim', '░'.repeat(BAR_WIDTH - full));
}
