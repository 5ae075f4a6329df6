import { ShardlineError } from './errors.js';

/** What one whole-number option may be. `unit` is named in the error. */
export interface IntegerRule {
  readonly min: number;
  readonly max: number;
  readonly fallback: number;
  readonly unit: string;
}

/** Refuses names an options object does not have: a typo must not silently mean the default. */
export function rejectUnknownOptions(options: object, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (known.includes(name)) continue;
    throw new ShardlineError(
      'INVALID_OPTION',
      `unknown option \`${name}\`; known are ${known.map((option) => `\`${option}\``).join(', ')}`,
      { value: name },
    );
  }
}

/** The value of a whole-number option, or its default where it is absent or `undefined`. */
export function integerOption(name: string, value: unknown, rule: IntegerRule): number {
  if (value === undefined) return rule.fallback;
  if (
    typeof value !== 'number' ||
    !(Number.isInteger(value) || (value === Infinity && rule.max === Infinity)) ||
    value < rule.min ||
    value > rule.max
  ) {
    throw new ShardlineError(
      'INVALID_OPTION',
      `\`${name}\` must be an integer from ${rule.min} to ${rule.max} ${rule.unit}, got ${shown(value)}`,
      { value: shown(value), limit: `${rule.min} to ${rule.max}`, unit: rule.unit },
    );
  }
  return value;
}

/** The values of all whole-number options that `rules` names. */
export function integerOptions<Rules extends Record<string, IntegerRule>>(
  options: object,
  rules: Rules,
): { -readonly [Name in keyof Rules]: number } {
  const result: Record<string, number> = {};
  for (const [name, rule] of Object.entries(rules)) {
    result[name] = integerOption(name, (options as Record<string, unknown>)[name], rule);
  }
  return result as { -readonly [Name in keyof Rules]: number };
}

/** The value of an option that is one of a few words, or its default. */
export function choiceOption<Choice extends string>(
  name: string,
  value: unknown,
  choices: readonly Choice[],
  fallback: Choice,
): Choice {
  if (value === undefined) return fallback;
  if (choices.includes(value as Choice)) return value as Choice;
  throw new ShardlineError(
    'INVALID_OPTION',
    `\`${name}\` must be one of ${choices.map((choice) => `'${choice}'`).join(', ')}, got ${shown(value)}`,
    { value: shown(value), limit: choices.join(', ') },
  );
}

/** A text option that must match the service's pattern. */
export function textOption(name: string, value: unknown, pattern: RegExp, limit: string): string {
  if (typeof value === 'string' && pattern.test(value)) return value;
  throw new ShardlineError('INVALID_OPTION', `\`${name}\` must be ${limit}, got ${shown(value)}`, {
    value: shown(value),
    limit,
  });
}

function shown(value: unknown): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value === 'function') return 'a function';
  return String(value);
}
