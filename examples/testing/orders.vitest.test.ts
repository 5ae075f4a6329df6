import { KinesisClient } from '@aws-sdk/client-kinesis';
import { type Local, startLocal } from '@shardline/local';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { placeOrder } from './orders.js';

let local: Local;

beforeAll(async () => {
  local = await startLocal({ streams: [{ name: 'orders', shards: 1 }] });
});
afterAll(() => local.close());

it('stores an order', async () => {
  const client = new KinesisClient(local.kinesis);
  expect(await placeOrder(client, 'customer-7')).toBe('shardId-000000000000');
  const [record] = local.engine.stored('orders').get('shardId-000000000000') ?? [];
  expect(record?.Data.toString()).toBe('{"customer":"customer-7"}');
  client.destroy();
});

it('survives a failure of the service', async () => {
  const client = new KinesisClient(local.kinesis);
  local.faults.inject({ fault: { kind: 'error', name: 'InternalFailure', status: 500 } });
  await placeOrder(client, 'customer-8');
  expect(local.engine.stored('orders').get('shardId-000000000000')).toHaveLength(2);
  client.destroy();
});
