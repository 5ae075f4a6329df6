import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { deserialize, serialize } from 'node:v8';

import { ShardlineError } from '@shardline/shared';

import type { KinesisEngine } from './engine/engine.js';
import { type EngineSnapshot, restoreSnapshot, takeSnapshot } from './engine/snapshot.js';

const FILE = 'kinesis.snapshot';

/**
 * Fills an engine from a folder, if there is a snapshot in it.
 *
 * @throws ShardlineError `INVALID_OPTION` if the file is none of ours.
 */
export async function loadSnapshot(engine: KinesisEngine, folder: string): Promise<void> {
  const path = join(folder, FILE);
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return;
    throw error;
  }
  let isRestored = false;
  let cause: unknown;
  try {
    isRestored = restoreSnapshot(engine, deserialize(bytes) as EngineSnapshot);
  } catch (error) {
    cause = error;
  }
  if (isRestored) return;
  throw new ShardlineError('INVALID_OPTION', `${path} is no snapshot this version can read`, {
    value: path,
    cause,
  });
}

/** Writes what an engine holds into a folder, whole or not at all. */
export async function saveSnapshot(engine: KinesisEngine, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const path = join(folder, FILE);
  await writeFile(`${path}.new`, serialize(takeSnapshot(engine)));
  await rename(`${path}.new`, path);
}
