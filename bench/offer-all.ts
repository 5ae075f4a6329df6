import type { Producer } from '@shardline/producer';

/** Offers a record for each key and waits until all are stored. @returns How many. */
export async function offerAll(
  producer: Producer,
  keys: readonly string[],
  data: Buffer,
): Promise<number> {
  let offered = 0;
  for (const partitionKey of keys) {
    while (!producer.offer({ partitionKey, data })) await producer.drain();
    offered += 1;
    // As anything that reads its records from somewhere does.
    if (offered % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await producer.flush();
  return keys.length;
}
