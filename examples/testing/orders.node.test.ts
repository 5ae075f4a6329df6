import assert from 'node:assert/strict';
import { after, before, it } from 'node:test';

import { KinesisClient } from '@aws-sdk/client-kinesis';
import { type Local, startLocal } from '@shardline/local';

import { placeOrder } from './orders.js';

let local: Local;

before(async () => {
  local = await startLocal({ streams: [{ name: 'orders', shards: 1 }] });
});
after(() => local.close());

void it('stores an order', async () => {
  const client = new KinesisClient(local.kinesis);
  assert.equal(await placeOrder(client, 'customer-7'), 'shardId-000000000000');
  client.destroy();
});
