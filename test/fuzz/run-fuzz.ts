import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { seededRandom } from '@shardline/shared/testing';

import { inputFor, type Target } from './targets.js';

const CORPUS = fileURLToPath(new URL('./corpus', import.meta.url));
/** No input of a few hundred bytes takes so long unless something is quadratic, or worse. */
const SLOW_MS = 2_000;

export interface FuzzResult {
  readonly inputs: number;
  readonly problems: readonly string[];
}

/** Inputs that once were a problem, for ever after the first to be tried. */
function corpusOf({ name }: Target): readonly Buffer[] {
  const folder = join(CORPUS, name);
  if (!existsSync(folder)) return [];
  return readdirSync(folder).map((file) => readFileSync(join(folder, file)));
}

/** Gives a parser what was a problem once, then new inputs for some time. New findings join the corpus. */
export async function fuzz(target: Target, seed: number, forMs: number): Promise<FuzzResult> {
  const random = seededRandom(seed);
  const problems: string[] = [];
  let inputs = 0;
  const attempt = async (input: Buffer): Promise<void> => {
    inputs += 1;
    const startedMs = performance.now();
    try {
      await target.check(input);
      const spentMs = performance.now() - startedMs;
      if (spentMs > SLOW_MS) throw new Error(`took ${Math.round(spentMs)} ms`);
    } catch (error) {
      problems.push(`${target.name}: ${String(error)}\n  ${keep(target, input)}`);
    }
  };
  for (const input of corpusOf(target)) await attempt(input);
  for (const input of target.samples) await attempt(input);
  const endMs = performance.now() + forMs;
  while (performance.now() < endMs && problems.length < 5) await attempt(inputFor(target, random));
  return { inputs, problems };
}

function keep({ name }: Target, input: Buffer): string {
  const folder = join(CORPUS, name);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, createHash('sha256').update(input).digest('hex').slice(0, 16));
  writeFileSync(file, input);
  return file;
}
