import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

import { describe, expect, it } from 'vitest';

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8');

describe('the README', () => {
  const example = read('examples/quick-start/main.ts');

  it('shows twelve lines that stand in the quick-start example', () => {
    const [, code = ''] = /```ts\n([\s\S]*?)```/.exec(read('README.md')) ?? [];
    const lines = code.split('\n').filter((line) => line.trim() !== '');
    expect(lines).toHaveLength(12);
    // Against AWS there is nothing to configure.
    const local = example.replace(', clientConfig', '');
    expect(lines.filter((line) => !local.includes(line))).toEqual([]);
  });

  it('of local shows tests that stand in its examples, and run', async () => {
    const blocks = [...read('packages/local/README.md').matchAll(/```ts\n([^]*?)```/g)].map(
      ([, code = '']) => code,
    );
    expect(read('examples/testing/orders.vitest.test.ts')).toContain(blocks[1]);
    expect(read('examples/testing/orders.node.test.ts')).toContain(blocks[2]);
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import=tsx', '--conditions=@shardline/source', '--test', 'orders.node.test.ts'],
      { cwd: new URL('../examples/testing', import.meta.url) },
    );
    expect(stdout).toMatch(/pass 1\b/);
  });

  it('has an example that runs as it stands', async () => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import=tsx', '--conditions=@shardline/source', 'examples/quick-start/main.ts'],
      { cwd: new URL('..', import.meta.url) },
    );
    expect(stdout).toMatch(/stored in shardId-00000000000\d/);
    expect(stdout).toContain('customer-7 hello');
  });
});

describe('docs/producer.md', () => {
  const page = read('docs/producer.md');
  const source = read('packages/producer/src/options.ts');

  it('has a row for every option, with the range and the default of the code', () => {
    const [, declared = ''] =
      /export interface ProducerOptions[^{]*\{([^]*?)\n\}/.exec(source) ?? [];
    const names = [...declared.matchAll(/^ {2}readonly (\w+)\?:/gm)].map(([, name = '']) => name);
    expect(names.length).toBeGreaterThan(20);
    for (const name of names) expect(page).toMatch(new RegExp(`^\\| .*\`${name}\`.* \\|`, 'm'));
    const rules = source.matchAll(
      /^ {2}(\w+): \{ min: ([^,]+), max: ([^,]+), fallback: ([^,]+), unit: '(\w+)' \}/gm,
    );
    for (const [, name, ...numbers] of rules) {
      const [min, max, fallback] = numbers
        .slice(0, 3)
        .map((text) =>
          Number(text.includes('**') ? 2 ** Number(text.split('**')[1]) : text.replaceAll('_', '')),
        );
      expect(page).toContain(`| \`${name}\` | ${min} to ${max} ${numbers[3]} | ${fallback} |`);
    }
  });
});
