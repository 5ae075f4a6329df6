import { existsSync, readdirSync, readFileSync } from 'node:fs';

import { describe, expect, it } from 'vitest';

const root = new URL('../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');

const PAGES = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  ...readdirSync(new URL('docs/', root)).map((name) => `docs/${name}`),
  ...readdirSync(new URL('packages/', root)).map((name) => `packages/${name}/README.md`),
];

/** Links of a page that lead into this repository, as paths from its top. */
function linksOf(page: string): { readonly text: string; readonly path: string }[] {
  return [...read(page).matchAll(/\[([^\]]*)\]\(([^)#\s]+)[^)]*\)/g)]
    .map(([, text = '', target = '']) => ({ text, target }))
    .filter(({ target }) => !/^\w+:/.test(target))
    .map(({ text, target }) => {
      const { pathname } = new URL(target, new URL(page, 'file:///'));
      return { text, path: decodeURIComponent(pathname.slice(1)) };
    });
}

describe('the documents', () => {
  it.each(PAGES)('%s has no link that leads nowhere', (page) => {
    const broken = linksOf(page).filter(({ path }) => !existsSync(new URL(path, root)));
    expect(broken).toEqual([]);
  });

  it('back every guarantee by a test of that name', () => {
    const rows = read('docs/guarantees.md')
      .split('\n')
      .filter((line) => line.startsWith('| ') && !line.startsWith('| Promise'));
    expect(rows.length).toBeGreaterThan(25);
    expect(rows.filter((row) => !/\]\(\.\.\/.*\.test\.ts\)/.test(row))).toEqual([]);
    const missing = linksOf('docs/guarantees.md').filter(
      ({ text, path }) => path.endsWith('.test.ts') && !read(path).includes(text),
    );
    expect(missing).toEqual([]);
  });

  it('explain every code an error can carry', () => {
    const codes = [...read('packages/shared/src/errors.ts').matchAll(/^ {2}'([A-Z_]+)',$/gm)];
    const page = read('docs/errors.md');
    expect(codes.length).toBeGreaterThan(10);
    expect(codes.filter(([, code]) => !page.includes(`| \`${code}\` |`))).toEqual([]);
  });
});
