#!/usr/bin/env node
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

// In the workspace the sources run, so that nothing has to be built; a published package is built.
if (existsSync(new URL('../../../pnpm-workspace.yaml', import.meta.url))) {
  const child = spawn(
    process.execPath,
    [
      '--no-warnings',
      '--conditions=@shardline/source',
      `--import=${import.meta.resolve('tsx')}`,
      fileURLToPath(new URL('../src/cli.ts', import.meta.url)),
      ...process.argv.slice(2),
    ],
    { stdio: 'inherit' },
  );
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code) => (process.exitCode = code ?? 1));
} else {
  await import('../dist/cli.js');
}
