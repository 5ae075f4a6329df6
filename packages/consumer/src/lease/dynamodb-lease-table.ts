import {
  type AttributeValue,
  BatchGetItemCommand,
  type BatchGetItemCommandOutput,
  type BillingMode,
  ConditionalCheckFailedException,
  CreateTableCommand,
  DeleteItemCommand,
  DescribeTableCommand,
  DynamoDBClient,
  type DynamoDBClientConfig,
  GetItemCommand,
  PutItemCommand,
  QueryCommand,
  type QueryCommandOutput,
  ResourceInUseException,
  ResourceNotFoundException,
  ScanCommand,
  UpdateContinuousBackupsCommand,
  UpdateItemCommand,
} from '@aws-sdk/client-dynamodb';
import {
  awsErrorName,
  type Clock,
  fromAwsError,
  isShardlineError,
  type Random,
  retryControlPlane,
  ShardlineError,
  sleep,
} from '@shardline/shared';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import type { Change, Conditions, LeaseTable, Outcome, Row } from './lease-table.js';

/** How a lease table is created that does not exist yet. */
export interface NewTableOptions {
  /** @defaultValue `'PAY_PER_REQUEST'`; `'PROVISIONED'` begins with 10 units of each kind, as the KCL does */
  readonly billingMode?: BillingMode;
  /** @defaultValue none */
  readonly tags?: Readonly<Record<string, string>>;
  /** @defaultValue false */
  readonly deletionProtection?: boolean;
  /** Needs the right `dynamodb:UpdateContinuousBackups`. @defaultValue false */
  readonly pointInTimeRecovery?: boolean;
}

export interface DynamoDbLeaseTableOptions {
  /** 3 to 255 characters of `a-z A-Z 0-9 _ . -`. */
  readonly tableName: string;
  readonly newTable?: NewTableOptions | undefined;
  readonly client?: DynamoDBClient | undefined;
  readonly clientConfig?: DynamoDBClientConfig | undefined;
  /** How long one call may take. Unit: milliseconds. */
  readonly requestTimeoutMs: number;
  readonly clock: Clock;
  readonly random: Random;
}

const TABLE_POLL_MS = 200;
const TABLE_DEADLINE_MS = 600_000;
const PROVISIONED_UNITS = 10;
/** Most keys in one BatchGetItem, by the service's documentation. */
const BATCH_GET_KEYS = 100;
const KEY = 'leaseKey';
/** As KCL 3.x names it. */
const OWNER_INDEX = 'LeaseOwnerToLeaseKeyIndex';

/** Rows in a DynamoDB table. Uses no transactions and no indexes, and reads a refused row only if the refusal did not bring it. */
export class DynamoDbLeaseTable implements LeaseTable {
  readonly #options: DynamoDbLeaseTableOptions;
  readonly #client: DynamoDBClient;
  readonly #ownsClient: boolean;
  /** The attribute that is the key in the table. */
  readonly #keyName: string;

  constructor(options: DynamoDbLeaseTableOptions, keyName: string = KEY) {
    this.#options = options;
    this.#keyName = keyName;
    this.#ownsClient = options.client === undefined;
    this.#client =
      options.client ??
      new DynamoDBClient({
        requestHandler: new NodeHttpHandler({
          connectionTimeout: 3_000,
          requestTimeout: options.requestTimeoutMs,
          throwOnRequestTimeout: true,
        }),
        maxAttempts: 2,
        ...options.clientConfig,
      });
  }

  async prepare(signal: AbortSignal): Promise<void> {
    const { clock, random, tableName } = this.#options;
    const deadlineMs = clock.monotonicMs() + TABLE_DEADLINE_MS;
    let isOurs = false;
    while (clock.monotonicMs() < deadlineMs) {
      const status = await retryControlPlane(() => this.#status(), { clock, random, signal });
      if (status === 'ACTIVE' || status === 'UPDATING') {
        if (isOurs && this.#options.newTable?.pointInTimeRecovery) await this.#enableBackups();
        return;
      }
      if (status === undefined) isOurs = (await this.#createTable()) || isOurs;
      await sleep(clock, TABLE_POLL_MS, signal);
    }
    throw new ShardlineError(
      'SERVICE_UNAVAILABLE',
      `lease table '${tableName}' was not active within ${TABLE_DEADLINE_MS} ms`,
      { retryable: true, limit: TABLE_DEADLINE_MS, unit: 'ms' },
    );
  }

  async scan(keyPrefix: string, isConsistent: boolean): Promise<readonly Row[]> {
    const rows: Row[] = [];
    const filter = keyPrefix !== '' && {
      FilterExpression: 'begins_with(#key, :prefix)',
      ExpressionAttributeNames: { '#key': this.#keyName },
      ExpressionAttributeValues: { ':prefix': { S: keyPrefix } },
    };
    let from: Row | undefined;
    do {
      const page = await this.#call('Scan', () =>
        this.#client.send(
          new ScanCommand({
            TableName: this.#tableName,
            ConsistentRead: isConsistent,
            ExclusiveStartKey: from,
            ...filter,
          }),
        ),
      );
      for (const item of page.Items ?? []) rows.push(this.#fromItem(item));
      from = page.LastEvaluatedKey;
    } while (from);
    return rows;
  }

  async get(leaseKey: string): Promise<Row | undefined> {
    const { Item: item } = await this.#call('GetItem', () =>
      this.#client.send(
        new GetItemCommand({
          TableName: this.#tableName,
          Key: this.#key(leaseKey),
          ConsistentRead: true,
        }),
      ),
    );
    return item && this.#fromItem(item);
  }

  async getMany(leaseKeys: readonly string[]): Promise<readonly Row[]> {
    const rows: Row[] = [];
    let open = leaseKeys.map((leaseKey) => this.#key(leaseKey));
    while (open.length > 0) {
      const keys = open.slice(0, BATCH_GET_KEYS);
      const answer: BatchGetItemCommandOutput = await this.#call('BatchGetItem', () =>
        this.#client.send(
          new BatchGetItemCommand({ RequestItems: { [this.#tableName]: { Keys: keys } } }),
        ),
      );
      const items = Object.values(answer.Responses ?? {}).flat();
      for (const item of items) rows.push(this.#fromItem(item));
      const left = Object.values(answer.UnprocessedKeys ?? {}).flatMap(({ Keys }) => Keys ?? []);
      // Throttled as a whole: the caller's next round asks again.
      if (left.length === keys.length) return rows;
      open = [...left, ...open.slice(BATCH_GET_KEYS)];
    }
    return rows;
  }

  async create(row: Row): Promise<boolean> {
    return this.#unlessRefused('PutItem', () =>
      this.#client.send(
        new PutItemCommand({
          TableName: this.#tableName,
          Item: this.#toItem(row),
          ConditionExpression: 'attribute_not_exists(#key)',
          ExpressionAttributeNames: { '#key': this.#keyName },
        }),
      ),
    );
  }

  async update(leaseKey: string, change: Change, conditions: Conditions): Promise<Outcome> {
    const expressions = new Expressions(this.#keyName);
    try {
      const { Attributes: row } = await this.#client.send(
        new UpdateItemCommand({
          TableName: this.#tableName,
          Key: this.#key(leaseKey),
          UpdateExpression: expressions.update(change),
          ConditionExpression: expressions.condition(conditions),
          ...expressions.definitions,
          ReturnValues: 'ALL_NEW',
          ReturnValuesOnConditionCheckFailure: 'ALL_OLD',
        }),
      );
      return { isDone: true, row: row && this.#fromItem(row) };
    } catch (error) {
      if (!(error instanceof ConditionalCheckFailedException)) {
        throw this.#wrapped('UpdateItem', error);
      }
      // Not every service of this interface tells the row with the refusal.
      const row = error.Item ? this.#fromItem(error.Item) : await this.get(leaseKey);
      return { isDone: false, row };
    }
  }

  async delete(leaseKey: string, conditions: Conditions = {}): Promise<boolean> {
    const expressions = new Expressions(this.#keyName);
    const isConditional = Object.keys(conditions).length > 0;
    const isDeleted = await this.#unlessRefused('DeleteItem', () =>
      this.#client.send(
        new DeleteItemCommand({
          TableName: this.#tableName,
          Key: this.#key(leaseKey),
          ...(isConditional && {
            ConditionExpression: expressions.condition(conditions),
            ...expressions.definitions,
          }),
        }),
      ),
    );
    return isDeleted || (await this.get(leaseKey)) === undefined;
  }

  async keysOf(workerId: string): Promise<readonly string[] | undefined> {
    const keys: string[] = [];
    let from: Row | undefined;
    try {
      do {
        const page: QueryCommandOutput = await this.#client.send(
          new QueryCommand({
            TableName: this.#tableName,
            IndexName: OWNER_INDEX,
            KeyConditionExpression: 'leaseOwner = :owner',
            ExpressionAttributeValues: { ':owner': { S: workerId } },
            ExclusiveStartKey: from,
          }),
        );
        for (const item of page.Items ?? []) if (item[KEY]?.S !== undefined) keys.push(item[KEY].S);
        from = page.LastEvaluatedKey;
      } while (from);
    } catch (error) {
      // There is no such index, or it is still being filled.
      if (awsErrorName(error) === 'ValidationException') return undefined;
      throw this.#wrapped('Query', error);
    }
    return keys;
  }

  async sideTable(suffix: string, keyName: string): Promise<LeaseTable | undefined> {
    const tableName = `${this.#tableName}${suffix}`;
    try {
      await this.#client.send(new DescribeTableCommand({ TableName: tableName }));
    } catch (error) {
      if (error instanceof ResourceNotFoundException) return undefined;
      throw this.#wrapped('DescribeTable', error, tableName);
    }
    return new DynamoDbLeaseTable({ ...this.#options, tableName, client: this.#client }, keyName);
  }

  close(): void {
    if (this.#ownsClient) this.#client.destroy();
  }

  get #tableName(): string {
    return this.#options.tableName;
  }

  #key(leaseKey: string): Row {
    return { [this.#keyName]: { S: leaseKey } };
  }

  #fromItem(item: Row): Row {
    if (this.#keyName === KEY) return item;
    const { [this.#keyName]: key, ...rest } = item;
    return key ? { ...rest, [KEY]: key } : rest;
  }

  #toItem(row: Row): Row {
    if (this.#keyName === KEY) return row;
    const { [KEY]: key, ...rest } = row;
    return key ? { ...rest, [this.#keyName]: key } : rest;
  }

  /** False if the conditions did not hold. */
  async #unlessRefused(what: string, call: () => Promise<unknown>): Promise<boolean> {
    try {
      await call();
      return true;
    } catch (error) {
      if (error instanceof ConditionalCheckFailedException) return false;
      throw this.#wrapped(what, error);
    }
  }

  async #call<Result>(what: string, call: () => Promise<Result>): Promise<Result> {
    try {
      return await call();
    } catch (error) {
      throw this.#wrapped(what, error);
    }
  }

  #wrapped(operation: string, error: unknown, tableName = this.#tableName): ShardlineError {
    return fromAwsError(error, `${operation} on table '${tableName}'`, `dynamodb:${operation}`);
  }

  /** Undefined if there is no table. */
  async #status(): Promise<string | undefined> {
    try {
      const { Table: table } = await this.#client.send(
        new DescribeTableCommand({ TableName: this.#tableName }),
      );
      const keys = table?.KeySchema?.map((key) => `${key.AttributeName} ${key.KeyType}`).join(', ');
      if (keys !== 'leaseKey HASH') {
        throw new ShardlineError(
          'LEASE_TABLE_INVALID',
          `table '${this.#tableName}' has the key ${keys}, a lease table has leaseKey HASH`,
          { value: keys, limit: 'leaseKey HASH' },
        );
      }
      return table?.TableStatus;
    } catch (error) {
      if (error instanceof ResourceNotFoundException) return undefined;
      if (isShardlineError(error)) throw error;
      throw this.#wrapped('DescribeTable', error);
    }
  }

  /** False if another worker was quicker. */
  async #createTable(): Promise<boolean> {
    const {
      billingMode = 'PAY_PER_REQUEST',
      tags = {},
      deletionProtection,
    } = this.#options.newTable ?? {};
    const isTagged = Object.keys(tags).length > 0;
    try {
      await this.#client.send(
        new CreateTableCommand({
          TableName: this.#tableName,
          KeySchema: [{ AttributeName: KEY, KeyType: 'HASH' }],
          AttributeDefinitions: [{ AttributeName: KEY, AttributeType: 'S' }],
          BillingMode: billingMode,
          ...(billingMode === 'PROVISIONED' && {
            ProvisionedThroughput: {
              ReadCapacityUnits: PROVISIONED_UNITS,
              WriteCapacityUnits: PROVISIONED_UNITS,
            },
          }),
          ...(deletionProtection && { DeletionProtectionEnabled: true }),
          ...(isTagged && { Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })) }),
        }),
      );
      return true;
    } catch (error) {
      if (error instanceof ResourceInUseException) return false;
      throw this.#wrapped('CreateTable', error);
    }
  }

  async #enableBackups(): Promise<void> {
    const { clock, random } = this.#options;
    const { signal } = new AbortController();
    try {
      await retryControlPlane(
        () =>
          this.#client.send(
            new UpdateContinuousBackupsCommand({
              TableName: this.#tableName,
              PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true },
            }),
          ),
        { clock, random, signal },
      );
    } catch (error) {
      // Emulators have no backups.
      if (awsErrorName(error) === 'UnknownOperationException') return;
      throw this.#wrapped('UpdateContinuousBackups', error);
    }
  }
}

/** Writes conditions and changes as expressions, with placeholders for every name and value. */
class Expressions {
  readonly #keyName: string;
  readonly #names: Record<string, string> = {};
  readonly #values: Record<string, AttributeValue> = {};
  #count = 0;

  constructor(keyName: string) {
    this.#keyName = keyName;
  }

  get definitions() {
    return {
      ExpressionAttributeNames: this.#names,
      ...(Object.keys(this.#values).length > 0 && { ExpressionAttributeValues: this.#values }),
    };
  }

  /** Always holds that the row exists: nothing is made by an update. */
  condition(conditions: Conditions): string {
    const parts = Object.entries(conditions).map(([name, wanted]) =>
      wanted === 'absent'
        ? `attribute_not_exists(${this.#name(name)})`
        : `${this.#name(name)} = ${this.#value(wanted)}`,
    );
    return [`attribute_exists(${this.#name(this.#keyName)})`, ...parts].join(' AND ');
  }

  update({ set = {}, remove = [], add = {}, take = {} }: Change): string {
    const clauses = [
      ['SET', this.#assignments(set, ' = ')],
      ['REMOVE', remove.map((name) => this.#name(name))],
      ['ADD', this.#assignments(add, ' ')],
      ['DELETE', this.#assignments(take, ' ')],
    ] as const;
    return clauses
      .filter(([, parts]) => parts.length > 0)
      .map(([verb, parts]) => `${verb} ${parts.join(', ')}`)
      .join(' ');
  }

  #assignments(values: Readonly<Row>, between: string): string[] {
    return Object.entries(values).map(
      ([name, value]) => `${this.#name(name)}${between}${this.#value(value)}`,
    );
  }

  #name(name: string): string {
    const placeholder = `#${name}`;
    this.#names[placeholder] = name;
    return placeholder;
  }

  #value(value: AttributeValue): string {
    const placeholder = `:v${(this.#count += 1)}`;
    this.#values[placeholder] = value;
    return placeholder;
  }
}
