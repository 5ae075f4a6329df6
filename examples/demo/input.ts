import { createReadStream } from 'node:fs';
import { basename } from 'node:path';
import { createInterface } from 'node:readline';

import { seededRandom } from '@shardline/shared/testing';

/** A line to send, and the partition key that keeps it in order with others. */
export interface InputLine {
  readonly key: string;
  readonly line: string;
}

const GENERATED_EVENTS = 10_000;

/** Fields by which lines of common logs belong together. */
const KEY_FIELDS = [
  /\b(req-[0-9a-f-]{36})\b/, // OpenStack: the request
  /\b(sshd\[\d+\])/, // OpenSSH: the session
  /\[client ([\d.]+)\]/, // Apache: the client
  /^[^|]+\|([^|]+)\|/, // HealthApp: the component
  /\b(?:INFO|WARN|ERROR) ([\w.]+):/, // Spark: the class
];

/** The lines of the files, taken in turn; without files, made-up click events. */
export async function* inputLines(files: readonly string[]): AsyncGenerator<InputLine> {
  if (files.length === 0) {
    yield* clickEvents(GENERATED_EVENTS);
    return;
  }
  let readers = files.map((file) => linesOf(file));
  while (readers.length > 0) {
    const open: typeof readers = [];
    for (const reader of readers) {
      const next = await reader.next();
      if (next.done) continue;
      open.push(reader);
      yield next.value;
    }
    readers = open;
  }
}

async function* linesOf(file: string): AsyncGenerator<InputLine> {
  const lines = createInterface({ input: createReadStream(file), crlfDelay: Infinity });
  for await (const line of lines) yield { key: keyOf(line) ?? basename(file), line };
}

function keyOf(line: string): string | undefined {
  for (const field of KEY_FIELDS) {
    const key = field.exec(line)?.[1];
    if (key !== undefined) return key;
  }
  return undefined;
}

function* clickEvents(count: number): Generator<InputLine> {
  const random = seededRandom(7);
  const pick = <Item>(items: readonly Item[]): Item =>
    items[Math.floor(random() * items.length)] as Item;
  const pages = ['/', '/search', '/cart', '/checkout', '/product/1', '/product/2', '/help'];
  for (let index = 0; index < count; index += 1) {
    const user = `user-${Math.floor(random() * 500)}`;
    const event = {
      user,
      session: Math.floor(random() * 2 ** 32).toString(16),
      page: pick(pages),
      referrer: pick(pages),
      agent: pick(['Mozilla/5.0 (X11; Linux x86_64)', 'Mozilla/5.0 (iPhone)', 'curl/8.9']),
      clickedAt: new Date(1_795_000_000_000 + index * 40).toISOString(),
    };
    yield { key: user, line: JSON.stringify(event) };
  }
}
