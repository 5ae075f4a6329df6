export {
  ByteBudget,
  type DamagePolicy,
  type ErrorCode,
  isShardlineError,
  type RangeCheck,
  type RecordDamage,
  ShardlineError,
  type UserRecord,
} from '@shardline/shared';
export { Consumer, type ConsumerStatus } from './consumer.js';
export type { LeaseMode } from './fleet/lease-mode.js';
export type { ConsumerOptions, StreamOptions, Wire } from './options.js';
export {
  DynamoDbLeaseTable,
  type DynamoDbLeaseTableOptions,
  type NewTableOptions,
} from './lease/dynamodb-lease-table.js';
export type { Change, Conditions, LeaseTable, Outcome, Row } from './lease/lease-table.js';
export { MemoryLeaseTable } from './lease/memory-lease-table.js';
export {
  createLambdaHandler,
  type LambdaContext,
  type LambdaHandlerOptions,
  type LambdaKinesisEvent,
  type LambdaKinesisResponse,
} from './lambda.js';
export type { PendingCheckpoint } from './lease/lease.js';
export {
  type DeadLetterLine,
  type DeadLetterProducer,
  deadLetterToFile,
  deadLetterToS3,
  deadLetterToSqs,
  deadLetterToStream,
  type S3Writer,
  type SqsSender,
} from './processing/dead-letters.js';
export type {
  DeadLetter,
  HandlerContext,
  PartialBatch,
  PreparedCheckpoint,
  RecordHandler,
  ShardHooks,
  StartedShard,
} from './processing/handler.js';
export { HandlerLimit } from './processing/handler-limit.js';
export type { ReadUntil } from './processing/read-bound.js';
export type { Delivery } from './processing/record-queue.js';
export type { WindowCall } from './processing/tumbling-window.js';
export type { SeekMove, SeekTo } from './shard/seek.js';
export type { InitialPosition } from './shard/shard-sync.js';
export type { ShardState, ShardStatus } from './shard/shard-worker.js';
export type { LeaseStatus } from './shard/lease-status.js';
