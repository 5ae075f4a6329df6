import { Consumer } from '@shardline/consumer';
import { startLocal } from '@shardline/local';
import { Producer } from '@shardline/producer';

// Against AWS these two lines go, and with them `clientConfig` and `dynamodbConfig`.
const local = await startLocal({ streams: [{ name: 'orders', shards: 2 }] });
const { kinesis: clientConfig, dynamodb: dynamodbConfig } = local;

const consumer = new Consumer({
  streamName: 'orders',
  applicationName: 'billing',
  initialPosition: 'TRIM_HORIZON',
  handler: { processRecord: ({ partitionKey, data }) => console.log(partitionKey, String(data)) },
  clientConfig,
  dynamodbConfig,
});
await consumer.start();

const producer = new Producer({ streamName: 'orders', clientConfig });
const { shardId } = await producer.put({ partitionKey: 'customer-7', data: 'hello' });
console.log('stored in', shardId);

await new Promise((resolve) => setTimeout(resolve, 1_000));
await producer.close();
await consumer.close();
await local.close();
