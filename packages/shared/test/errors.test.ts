import { readFileSync } from 'node:fs';

import {
  classifyAwsError,
  classifyErrorName,
  ERROR_CODES,
  fromAwsError,
  integerOption,
  isShardlineError,
  rejectUnknownOptions,
  ShardlineError,
} from '@shardline/shared';
import { describe, expect, it } from 'vitest';

describe('ShardlineError', () => {
  it('is recognised across copies of the library, by code if asked', () => {
    const error = new ShardlineError('CLOSED', 'closed');
    expect(isShardlineError(error)).toBe(true);
    expect(isShardlineError(error, 'CLOSED')).toBe(true);
    expect(isShardlineError(error, 'THROTTLED')).toBe(false);
    expect(isShardlineError(new Error('closed'))).toBe(false);
    expect(isShardlineError(null)).toBe(false);
  });

  it('has each code documented in docs/errors.md, and no other', () => {
    const page = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8');
    const rows = [...page.matchAll(/^\| `([A-Z_]+)`\s*\|/gm)].map((match) => match[1]);
    expect(new Set(rows)).toEqual(new Set(ERROR_CODES));
    expect(rows).toHaveLength(ERROR_CODES.length);
  });
});

describe('classifyAwsError', () => {
  it.each([
    [{ name: 'ProvisionedThroughputExceededException' }, 'throttle'],
    [{ name: 'Error', code: 'ECONNRESET' }, 'transient'],
    [{ name: 'SomethingNew', $metadata: { httpStatusCode: 503 } }, 'transient'],
    [{ name: 'SomethingNew', $metadata: { httpStatusCode: 429 } }, 'throttle'],
    [{ name: 'SomethingNew', $metadata: { httpStatusCode: 400 } }, 'unknown'],
    [{ name: 'ResourceNotFoundException', $metadata: { httpStatusCode: 400 } }, 'notFound'],
    [{ name: 'constructor' }, 'unknown'],
    ['text', 'unknown'],
    [undefined, 'unknown'],
  ] as const)('takes %j as %s', (error, expected) => {
    expect(classifyAwsError(error)).toBe(expected);
  });

  it('keeps names of the prototype apart from names of errors', () => {
    expect(classifyErrorName('toString')).toBe('unknown');
  });

  it('wraps once, keeping the cause', () => {
    const cause = Object.assign(new Error('x'), { name: 'AccessDeniedException' });
    const error = fromAwsError(cause, 'PutRecords');
    expect(error).toMatchObject({ code: 'ACCESS_DENIED', value: 'AccessDeniedException', cause });
    expect(fromAwsError(error, 'again')).toBe(error);
  });
});

describe('option rules', () => {
  const rule = { min: 0, max: 60_000, fallback: 100, unit: 'ms' };

  it('takes an explicit undefined as the default', () => {
    expect(integerOption('lingerMs', undefined, rule)).toBe(100);
  });

  it.each([-1, 60_001, 1.5, Number.NaN, Infinity, '5', null, {}])(
    'refuses %j, naming value, limit and unit',
    (value) => {
      expect(() => integerOption('lingerMs', value, rule)).toThrow(
        expect.objectContaining({ code: 'INVALID_OPTION', limit: '0 to 60000', unit: 'ms' }),
      );
    },
  );

  it('refuses a name it does not know', () => {
    expect(() => rejectUnknownOptions({ lingerMS: 1 }, ['lingerMs'])).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', value: 'lingerMS' }),
    );
  });
});
