import {
  type AttributeValue,
  ConditionalCheckFailedException,
  CreateTableCommand,
  DeleteItemCommand,
  DescribeTableCommand,
  DynamoDBClient,
  type DynamoDBClientConfig,
  GetItemCommand,
  PutItemCommand,
  ResourceInUseException,
  ResourceNotFoundException,
  ScanCommand,
  UpdateItemCommand,
  type UpdateItemCommandInput,
} from '@aws-sdk/client-dynamodb';
import {
  type Clock,
  fromAwsError,
  isShardlineError,
  type Random,
  retryControlPlane,
  ShardlineError,
  sleep,
} from '@shardline/shared';
import { NodeHttpHandler } from '@smithy/node-http-handler';

import {
  newRow,
  OWN,
  parseLease,
  progressAttributes,
  type Row,
  seekAttribute,
} from './lease-row.js';
import type { LeaseStore, Renewal } from './lease-store.js';
import { isSameProgress, type Lease, type Progress, type SeekTarget } from './lease.js';
import { isOwnWrite, renewalAfterRefusal } from './memory-lease-store.js';

export interface DynamoDbLeaseStoreOptions {
  /** 3 to 255 characters of `a-z A-Z 0-9 _ . -`. */
  readonly tableName: string;
  readonly client?: DynamoDBClient | undefined;
  readonly clientConfig?: DynamoDBClientConfig | undefined;
  /** How long one call may take. Unit: milliseconds. */
  readonly requestTimeoutMs: number;
  readonly clock: Clock;
  readonly random: Random;
}

const TABLE_POLL_MS = 200;
const TABLE_DEADLINE_MS = 600_000;
const IS_UNCHANGED = 'leaseCounter = :counter';

/**
 * Leases in the KCL's own table layout: attribute for attribute, condition for condition. Rows that
 * are no leases are passed over and attributes it does not know are left alone.
 */
export class DynamoDbLeaseStore implements LeaseStore {
  readonly #options: DynamoDbLeaseStoreOptions;
  readonly #client: DynamoDBClient;

  constructor(options: DynamoDbLeaseStoreOptions) {
    this.#options = options;
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
    while (clock.monotonicMs() < deadlineMs) {
      const status = await retryControlPlane(() => this.#tableStatus(), { clock, random, signal });
      if (status === 'ACTIVE' || status === 'UPDATING') return;
      if (status === undefined) await this.#createTable();
      await sleep(clock, TABLE_POLL_MS, signal);
    }
    throw new ShardlineError(
      'SERVICE_UNAVAILABLE',
      `lease table '${tableName}' was not active within ${TABLE_DEADLINE_MS} ms`,
      { retryable: true, limit: TABLE_DEADLINE_MS, unit: 'ms' },
    );
  }

  async list(): Promise<readonly Lease[]> {
    const leases: Lease[] = [];
    let from: Row | undefined;
    do {
      const page = await this.#call('Scan', () =>
        this.#client.send(
          new ScanCommand({ TableName: this.#options.tableName, ExclusiveStartKey: from }),
        ),
      );
      for (const item of page.Items ?? []) {
        const lease = parseLease(item);
        if (lease) leases.push(lease);
      }
      from = page.LastEvaluatedKey;
    } while (from);
    return leases;
  }

  async get(leaseKey: string): Promise<Lease | undefined> {
    const { Item: item } = await this.#call('GetItem', () =>
      this.#client.send(
        new GetItemCommand({
          TableName: this.#options.tableName,
          Key: { leaseKey: { S: leaseKey } },
          ConsistentRead: true,
        }),
      ),
    );
    return item && parseLease(item);
  }

  async create(lease: Lease): Promise<boolean> {
    return this.#conditional('PutItem', () =>
      this.#client.send(
        new PutItemCommand({
          TableName: this.#options.tableName,
          Item: newRow(lease),
          ConditionExpression: 'attribute_not_exists(leaseKey)',
        }),
      ),
    );
  }

  async renew(lease: Lease, workerId: string): Promise<Renewal> {
    const renewed = await this.#update(lease, {
      UpdateExpression: 'SET leaseCounter = :next',
      ConditionExpression:
        lease.checkpointOwner === undefined
          ? `${IS_UNCHANGED} AND attribute_not_exists(checkpointOwner)`
          : IS_UNCHANGED,
    });
    if (renewed)
      return { kind: 'renewed', lease: { ...lease, leaseCounter: lease.leaseCounter + 1 } };
    const current = await this.get(lease.leaseKey);
    return current ? renewalAfterRefusal(lease, current, workerId) : { kind: 'lost' };
  }

  async take(lease: Lease, workerId: string): Promise<Lease | undefined> {
    const taken = await this.#update(lease, {
      UpdateExpression:
        'SET leaseCounter = :next, leaseOwner = :me REMOVE checkpointOwner ADD ownerSwitchesSinceCheckpoint :one',
      ConditionExpression: IS_UNCHANGED,
      ExpressionAttributeValues: { ':me': { S: workerId }, ':one': { N: '1' } },
    });
    // Read again in any case: the position may be newer than the listing it was taken from.
    const current = await this.get(lease.leaseKey);
    return current && (taken || isOwnWrite(lease, current, workerId)) ? current : undefined;
  }

  requestHandOver(lease: Lease, nextOwner: string): Promise<boolean> {
    if (lease.leaseOwner === undefined) return Promise.resolve(false);
    return this.#updateRow(lease.leaseKey, {
      UpdateExpression: 'SET leaseOwner = :next, checkpointOwner = :old',
      ConditionExpression: 'leaseOwner = :old AND attribute_not_exists(checkpointOwner)',
      ExpressionAttributeValues: { ':next': { S: nextOwner }, ':old': { S: lease.leaseOwner } },
    });
  }

  completeHandOver(lease: Lease, workerId: string): Promise<boolean> {
    return this.#update(lease, {
      UpdateExpression: 'SET leaseCounter = :next REMOVE checkpointOwner',
      ConditionExpression: `${IS_UNCHANGED} AND checkpointOwner = :me`,
      ExpressionAttributeValues: { ':me': { S: workerId } },
    });
  }

  release(lease: Lease, workerId: string): Promise<boolean> {
    return this.#update(lease, {
      UpdateExpression: 'SET leaseCounter = :next REMOVE leaseOwner',
      ConditionExpression: `${IS_UNCHANGED} AND leaseOwner = :me`,
      ExpressionAttributeValues: { ':me': { S: workerId } },
    });
  }

  checkpoint(lease: Lease, workerId: string, progress: Progress): Promise<Lease | undefined> {
    return this.#progress(lease, workerId, progress, {
      set: { ownerSwitchesSinceCheckpoint: { N: '0' } },
      change: { ownerSwitchesSinceCheckpoint: 0 },
    });
  }

  requestSeek(leaseKey: string, target: SeekTarget): Promise<boolean> {
    return this.#updateRow(leaseKey, {
      UpdateExpression: `SET ${OWN.seek} = :seek`,
      ConditionExpression: 'attribute_exists(leaseKey)',
      ExpressionAttributeValues: {
        ':seek': seekAttribute(target),
      },
    });
  }

  seek(lease: Lease, workerId: string | undefined, progress: Progress): Promise<Lease | undefined> {
    return this.#progress(lease, workerId, progress, {
      remove: [OWN.seek],
      change: { seek: undefined },
    });
  }

  async setChildren(leaseKey: string, childShardIds: readonly string[]): Promise<void> {
    await this.#updateRow(leaseKey, {
      UpdateExpression: 'SET childShardIds = :children',
      ConditionExpression: 'attribute_exists(leaseKey)',
      ExpressionAttributeValues: { ':children': { SS: [...childShardIds] } },
    });
  }

  async delete(leaseKey: string): Promise<void> {
    await this.#call('DeleteItem', () =>
      this.#client.send(
        new DeleteItemCommand({
          TableName: this.#options.tableName,
          Key: { leaseKey: { S: leaseKey } },
        }),
      ),
    );
  }

  close(): void {
    if (!this.#options.client) this.#client.destroy();
  }

  /** Writes how far the owner is: every attribute of it is set or removed. */
  async #progress(
    lease: Lease,
    workerId: string | undefined,
    progress: Progress,
    besides: {
      readonly set?: Row;
      readonly remove?: readonly string[];
      readonly change: Partial<Lease>;
    },
  ): Promise<Lease | undefined> {
    const attributes: Record<string, AttributeValue | undefined> = {
      ...progressAttributes(progress),
      ...besides.set,
      ...Object.fromEntries((besides.remove ?? []).map((name) => [name, undefined])),
    };
    const set = Object.entries(attributes).filter(([, value]) => value !== undefined);
    const removed = Object.keys(attributes).filter((name) => attributes[name] === undefined);
    const stored = await this.#update(lease, {
      UpdateExpression:
        `SET leaseCounter = :next, ${set.map(([name]) => `${name} = :${name}`).join(', ')}` +
        (removed.length > 0 ? ` REMOVE ${removed.join(', ')}` : ''),
      ConditionExpression: IS_UNCHANGED,
      ExpressionAttributeValues: Object.fromEntries(
        set.map(([name, value]) => [`:${name}`, value as AttributeValue]),
      ),
    });
    if (stored) {
      const leaseCounter = lease.leaseCounter + 1;
      return { ...lease, ...progress, ...besides.change, leaseCounter };
    }
    const current = await this.get(lease.leaseKey);
    const isOurs =
      current && isOwnWrite(lease, current, workerId) && isSameProgress(current, progress);
    return isOurs ? current : undefined;
  }

  /** An update that adds one to the counter. False if its condition does not hold. */
  #update(
    lease: Lease,
    update: Pick<
      UpdateItemCommandInput,
      'UpdateExpression' | 'ConditionExpression' | 'ExpressionAttributeValues'
    >,
  ): Promise<boolean> {
    return this.#updateRow(lease.leaseKey, {
      ...update,
      ExpressionAttributeValues: {
        ...update.ExpressionAttributeValues,
        ':counter': { N: String(lease.leaseCounter) },
        ':next': { N: String(lease.leaseCounter + 1) },
      },
    });
  }

  #updateRow(
    leaseKey: string,
    update: Omit<UpdateItemCommandInput, 'TableName' | 'Key'>,
  ): Promise<boolean> {
    return this.#conditional('UpdateItem', () =>
      this.#client.send(
        new UpdateItemCommand({
          TableName: this.#options.tableName,
          Key: { leaseKey: { S: leaseKey } },
          ...update,
        }),
      ),
    );
  }

  async #conditional(what: string, call: () => Promise<unknown>): Promise<boolean> {
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

  #wrapped(what: string, error: unknown): ShardlineError {
    return fromAwsError(error, `${what} on lease table '${this.#options.tableName}'`);
  }

  /** Undefined if there is no table. */
  async #tableStatus(): Promise<string | undefined> {
    const { tableName } = this.#options;
    try {
      const { Table: table } = await this.#client.send(
        new DescribeTableCommand({ TableName: tableName }),
      );
      const keys = table?.KeySchema?.map((key) => `${key.AttributeName} ${key.KeyType}`).join(', ');
      if (keys !== 'leaseKey HASH') {
        throw new ShardlineError(
          'LEASE_TABLE_INVALID',
          `table '${tableName}' has the key ${keys}, a lease table has leaseKey HASH`,
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

  async #createTable(): Promise<void> {
    try {
      await this.#client.send(
        new CreateTableCommand({
          TableName: this.#options.tableName,
          KeySchema: [{ AttributeName: 'leaseKey', KeyType: 'HASH' }],
          AttributeDefinitions: [{ AttributeName: 'leaseKey', AttributeType: 'S' }],
          BillingMode: 'PAY_PER_REQUEST',
        }),
      );
    } catch (error) {
      // Another worker was quicker.
      if (!(error instanceof ResourceInUseException)) throw this.#wrapped('CreateTable', error);
    }
  }
}
