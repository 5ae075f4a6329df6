export { Consumer, type ConsumerStatus } from './consumer.js';
export type { ConsumerOptions } from './options.js';
export {
  DynamoDbLeaseStore,
  type DynamoDbLeaseStoreOptions,
} from './lease/dynamodb-lease-store.js';
export type { Lease } from './lease/lease.js';
export type { LeaseStore, Renewal } from './lease/lease-store.js';
export { MemoryLeaseStore } from './lease/memory-lease-store.js';
export type { DeadLetter, HandlerContext, RecordHandler } from './processing/handler.js';
export type { InitialPosition } from './shard/shard-sync.js';
export type { ShardState, ShardStatus } from './shard/shard-worker.js';
export type { LeaseStatus } from './shard/supervisor.js';
