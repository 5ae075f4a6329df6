export {
  type EngineOptions,
  KinesisEngine,
  type Output,
  type StorageEvent,
} from './engine/engine.js';
export { type Limits, NO_RATE_LIMITS, SERVICE_LIMITS } from './engine/limits.js';
export { ServiceFault } from './engine/service-fault.js';
export type { StoredRecord } from './engine/shard.js';
export type { ShardSubscription, SubscriptionEvent } from './engine/subscription.js';
export { type Fault, type FaultRule, Faults } from './faults.js';
export type { RequestLogEntry } from './server.js';
export {
  type Local,
  type LocalClientConfig,
  type LocalOptions,
  startLocal,
} from './start-local.js';
export type { TlsPair } from './tls.js';
