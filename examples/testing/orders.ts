import { type KinesisClient, PutRecordCommand } from '@aws-sdk/client-kinesis';

/** A piece of an application that writes to a stream: what the tests beside it test. */
export async function placeOrder(client: KinesisClient, customer: string): Promise<string> {
  const { ShardId } = await client.send(
    new PutRecordCommand({
      StreamName: 'orders',
      PartitionKey: customer,
      Data: Buffer.from(JSON.stringify({ customer })),
    }),
  );
  return ShardId ?? '';
}
