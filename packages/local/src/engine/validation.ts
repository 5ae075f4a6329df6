import { ServiceFault } from './service-fault.js';

/** A request after its encoding was undone: blobs are Buffers, timestamps are Dates. */
export type Input = Readonly<Record<string, unknown>>;

type Constraint =
  | {
      readonly type: 'string';
      readonly max?: number;
      readonly pattern?: string;
      readonly values?: readonly string[];
    }
  | { readonly type: 'integer'; readonly min: number; readonly max: number }
  | { readonly type: 'blob'; readonly max: number }
  | { readonly type: 'timestamp' }
  | { readonly type: 'boolean' }
  | { readonly type: 'map' }
  | {
      readonly type: 'list';
      readonly min: number;
      readonly max: number;
      readonly member: Constraint;
    }
  | { readonly type: 'structure'; readonly members: Readonly<Record<string, Member>> };

type Member = Constraint & { readonly required?: true };

const name = { type: 'string', max: 128, pattern: '[a-zA-Z0-9_.-]+' } as const;
const streamArn = {
  type: 'string',
  max: 2048,
  pattern: 'arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+',
} as const;
const consumerArn = {
  type: 'string',
  max: 2048,
  pattern:
    '^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+',
} as const;
const stream = { StreamName: name, StreamARN: streamArn } as const;
const hashKey = { type: 'string', pattern: '0|([1-9]\\d{0,38})' } as const;
const sequenceNumber = { type: 'string', pattern: '0|([1-9]\\d{0,128})' } as const;
const partitionKey = { type: 'string', max: 256 } as const;
const data = { type: 'blob', max: 10_485_760, required: true } as const;
const timestamp = { type: 'timestamp' } as const;
const token = { type: 'string', max: 1_048_576 } as const;
const page = { type: 'integer', min: 1, max: 10_000 } as const;
const iteratorTypes = {
  type: 'string',
  values: ['AFTER_SEQUENCE_NUMBER', 'LATEST', 'AT_TIMESTAMP', 'AT_SEQUENCE_NUMBER', 'TRIM_HORIZON'],
  required: true,
} as const;
const mode = {
  type: 'structure',
  members: { StreamMode: { type: 'string', values: ['PROVISIONED', 'ON_DEMAND'], required: true } },
} as const;

/** The members of each operation's request, with the constraints of the service's model. */
const REQUESTS: Readonly<Record<string, Readonly<Record<string, Member>>>> = {
  CreateStream: {
    StreamName: { ...name, required: true },
    ShardCount: { type: 'integer', min: 1, max: 100_000 },
    StreamModeDetails: mode,
    Tags: { type: 'map' },
    MaxRecordSizeInKiB: { type: 'integer', min: 1024, max: 10_240 },
  },
  DeleteStream: { ...stream, EnforceConsumerDeletion: { type: 'boolean' } },
  DescribeStream: { ...stream, Limit: page, ExclusiveStartShardId: name },
  DescribeStreamSummary: stream,
  ListStreams: { Limit: page, ExclusiveStartStreamName: name, NextToken: token },
  ListShards: {
    ...stream,
    NextToken: token,
    ExclusiveStartShardId: name,
    MaxResults: page,
    StreamCreationTimestamp: timestamp,
    ShardFilter: {
      type: 'structure',
      members: {
        Type: {
          type: 'string',
          values: [
            'AFTER_SHARD_ID',
            'AT_TRIM_HORIZON',
            'FROM_TRIM_HORIZON',
            'AT_LATEST',
            'AT_TIMESTAMP',
            'FROM_TIMESTAMP',
          ],
          required: true,
        },
        ShardId: name,
        Timestamp: timestamp,
      },
    },
  },
  PutRecord: {
    ...stream,
    Data: data,
    PartitionKey: { ...partitionKey, required: true },
    ExplicitHashKey: hashKey,
    SequenceNumberForOrdering: sequenceNumber,
  },
  PutRecords: {
    ...stream,
    Records: {
      type: 'list',
      min: 1,
      max: 500,
      required: true,
      member: {
        type: 'structure',
        members: {
          Data: data,
          PartitionKey: { ...partitionKey, required: true },
          ExplicitHashKey: hashKey,
        },
      },
    },
  },
  GetShardIterator: {
    ...stream,
    ShardId: { ...name, required: true },
    ShardIteratorType: iteratorTypes,
    StartingSequenceNumber: sequenceNumber,
    Timestamp: timestamp,
  },
  GetRecords: {
    StreamARN: streamArn,
    ShardIterator: { type: 'string', max: 512, required: true },
    Limit: { type: 'integer', min: 1, max: 10_000 },
  },
  SplitShard: {
    ...stream,
    ShardToSplit: { ...name, required: true },
    NewStartingHashKey: { ...hashKey, required: true },
  },
  MergeShards: {
    ...stream,
    ShardToMerge: { ...name, required: true },
    AdjacentShardToMerge: { ...name, required: true },
  },
  UpdateShardCount: {
    ...stream,
    TargetShardCount: { type: 'integer', min: 1, max: 100_000, required: true },
    ScalingType: { type: 'string', values: ['UNIFORM_SCALING'], required: true },
  },
  RegisterStreamConsumer: {
    StreamARN: { ...streamArn, required: true },
    ConsumerName: { ...name, required: true },
    Tags: { type: 'map' },
  },
  DescribeStreamConsumer: { StreamARN: streamArn, ConsumerName: name, ConsumerARN: consumerArn },
  DeregisterStreamConsumer: { StreamARN: streamArn, ConsumerName: name, ConsumerARN: consumerArn },
  ListStreamConsumers: {
    StreamARN: { ...streamArn, required: true },
    NextToken: token,
    MaxResults: page,
    StreamCreationTimestamp: timestamp,
  },
  SubscribeToShard: {
    ConsumerARN: { ...consumerArn, required: true },
    ShardId: { ...name, required: true },
    StartingPosition: {
      type: 'structure',
      required: true,
      members: { Type: iteratorTypes, SequenceNumber: sequenceNumber, Timestamp: timestamp },
    },
  },
};

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
