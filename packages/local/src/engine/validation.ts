import { type Constraint, type Member, REQUESTS } from './request-shapes.js';
import { ServiceFault } from './service-fault.js';

/** A request after its encoding was undone: blobs are Buffers, timestamps are Dates. */
export type Input = Readonly<Record<string, unknown>>;

const MOST_ERRORS_NAMED = 10;

/**
 * Checks a request's members as the service does, unknown ones ignored.
 *
 * @throws ServiceFault `SerializationException` for wrong types, `ValidationException` for broken constraints.
 */
export function validateRequest(operation: string, input: Input): void {
  const problems: string[] = [];
  checkMembers(REQUESTS[operation] ?? {}, input, '', problems);
  if (problems.length === 0) return;
  const named = problems.slice(0, MOST_ERRORS_NAMED);
  throw new ServiceFault(
    'ValidationException',
    `${named.length} validation error${named.length > 1 ? 's' : ''} detected: ${named.join('; ')}`,
  );
}

function checkMembers(
  members: Readonly<Record<string, Member>>,
  input: Input,
  prefix: string,
  problems: string[],
): void {
  for (const [member, constraint] of Object.entries(members)) {
    const value = input[member];
    const path = `${prefix}${member.charAt(0).toLowerCase()}${member.slice(1)}`;
    if (value === undefined || value === null) {
      if (constraint.required) problems.push(problem(null, path, 'not be null'));
    } else {
      checkValue(constraint, value, path, problems);
    }
  }
}

function checkValue(
  constraint: Constraint,
  value: unknown,
  path: string,
  problems: string[],
): void {
  switch (constraint.type) {
    case 'string':
      requireType(typeof value === 'string', path, 'a string');
      checkString(constraint, value as string, path, problems);
      return;
    case 'integer':
      requireType(Number.isInteger(value), path, 'an integer');
      if ((value as number) < constraint.min) {
        problems.push(
          problem(value as number, path, `have value greater than or equal to ${constraint.min}`),
        );
      } else if ((value as number) > constraint.max) {
        problems.push(
          problem(value as number, path, `have value less than or equal to ${constraint.max}`),
        );
      }
      return;
    case 'blob': {
      requireType(Buffer.isBuffer(value), path, 'a blob');
      const { length } = value as Buffer;
      if (length > constraint.max) {
        const shown = `java.nio.HeapByteBuffer[pos=0 lim=${length} cap=${length}]`;
        problems.push(problem(shown, path, `have length less than or equal to ${constraint.max}`));
      }
      return;
    }
    case 'timestamp':
      requireType(value instanceof Date && !Number.isNaN(value.getTime()), path, 'a timestamp');
      return;
    case 'boolean':
      requireType(typeof value === 'boolean', path, 'a boolean');
      return;
    case 'map':
      requireType(typeof value === 'object' && !Array.isArray(value), path, 'a map');
      return;
    case 'list':
      requireType(Array.isArray(value), path, 'a list');
      checkList(constraint, value as readonly unknown[], path, problems);
      return;
    case 'structure':
      requireType(typeof value === 'object' && !Array.isArray(value), path, 'a structure');
      checkMembers(constraint.members, value as Input, `${path}.`, problems);
  }
}

function checkString(
  constraint: Extract<Constraint, { type: 'string' }>,
  value: string,
  path: string,
  problems: string[],
): void {
  const { max, pattern, values } = constraint;
  if (max !== undefined && codePoints(value) > max) {
    problems.push(problem(value, path, `have length less than or equal to ${max}`));
  }
  if (max !== undefined && value.length === 0) {
    problems.push(problem(value, path, 'have length greater than or equal to 1'));
  } else if (pattern !== undefined && !matches(pattern, value)) {
    problems.push(problem(value, path, `satisfy regular expression pattern: ${pattern}`));
  }
  if (values && !values.includes(value)) {
    problems.push(problem(value, path, `satisfy enum value set: [${values.join(', ')}]`));
  }
}

function checkList(
  constraint: Extract<Constraint, { type: 'list' }>,
  value: readonly unknown[],
  path: string,
  problems: string[],
): void {
  if (value.length < constraint.min) {
    problems.push(problem('[]', path, `have length greater than or equal to ${constraint.min}`));
  } else if (value.length > constraint.max) {
    problems.push(problem('[...]', path, `have length less than or equal to ${constraint.max}`));
    return;
  }
  value.forEach((member, index) => {
    checkValue(constraint.member, member, `${path}.${index + 1}.member`, problems);
  });
}

/** Unicode characters, as the service counts lengths. */
function codePoints(value: string): number {
  return Array.from(value).length;
}

const compiled = new Map<string, RegExp>();

function matches(pattern: string, value: string): boolean {
  let expression = compiled.get(pattern);
  if (!expression) {
    expression = new RegExp(`^(?:${pattern})$`);
    compiled.set(pattern, expression);
  }
  return expression.test(value);
}

function requireType(holds: boolean, path: string, expected: string): void {
  if (!holds) throw new ServiceFault('SerializationException', `${path} must be ${expected}`);
}

function problem(value: string | number | null, path: string, rule: string): string {
  const shown = value === null ? 'null' : `'${value}'`;
  return `Value ${shown} at '${path}' failed to satisfy constraint: Member must ${rule}`;
}
