export { ByteBudget, type ErrorCode, isShardlineError, ShardlineError } from '@shardline/shared';
export { DiskSpill, type DiskSpillOptions } from './disk-spill.js';
export type { HotKey } from './hot-keys.js';
export type { ProducerOptions, PutRecord, Wire } from './options.js';
export {
  type Attempt,
  PutError,
  type PutOutcome,
  type PutReceipt,
  type UndeliverableRecord,
} from './pending-record.js';
export { Producer, type ProducerStats } from './producer.js';
