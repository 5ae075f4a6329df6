import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

import { describe, expect, it } from 'vitest';

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly scripts?: Readonly<Record<string, string>>;
}

/** Every dependency of what is published. One more needs a reason, and a line here. */
const DEPENDENCIES: Readonly<Record<string, readonly string[]>> = {
  shared: ['p-retry'],
  producer: ['@shardline/shared', '@smithy/node-http-handler'],
  consumer: ['@shardline/shared', '@smithy/node-http-handler', 'murmurhash3js-revisited'],
  local: ['@shardline/shared', 'dynalite', 'selfsigned'],
};

/** What a tarball may hold. */
const ALLOWED =
  /^(package\.json|README\.md|LICENSE|dist\/(testing\/)?[^/]+|src\/.+\.ts|bin\/[^/]+\.js)$/;

describe.each(Object.keys(DEPENDENCIES))('@shardline/%s, as published', (name) => {
  const folder = new URL(`../packages/${name}/`, import.meta.url);
  const manifest = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8')) as Manifest;

  it('depends on what it must, and runs nothing when it is installed', () => {
    expect(Object.keys(manifest.dependencies ?? {}).sort()).toEqual(DEPENDENCIES[name]);
    expect(
      Object.keys(manifest.peerDependencies ?? {}).every((peer) => peer.startsWith('@aws-sdk/')),
    ).toBe(true);
    expect(
      Object.keys(manifest.scripts ?? {}).filter((script) => /install|prepare/.test(script)),
    ).toEqual([]);
  });

  it('holds its sources, its licence and what is built, and nothing else', async () => {
    const { stdout } = await promisify(execFile)(
      'npm',
      ['pack', '--dry-run', '--json', '--ignore-scripts'],
      { cwd: folder },
    );
    const [packed] = JSON.parse(stdout) as {
      readonly files: readonly { readonly path: string }[];
    }[];
    const paths = (packed?.files ?? []).map(({ path }) => path);
    expect(paths).toContain('LICENSE');
    expect(paths.filter((path) => !ALLOWED.test(path))).toEqual([]);
  });
});

it('locks every dependency, with its checksum', () => {
  const lock = readFileSync(new URL('../pnpm-lock.yaml', import.meta.url), 'utf8');
  const [, packages = ''] = lock.split('\npackages:\n');
  const [section = ''] = packages.split('\nsnapshots:\n');
  const names = section.match(/^ {2}\S.*:$/gm) ?? [];
  expect(names.length).toBeGreaterThan(100);
  expect(section.match(/resolution: \{integrity: sha512-/g)).toHaveLength(names.length);
});
