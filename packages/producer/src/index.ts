export type { ProducerOptions, PutRecord } from './options.js';
export { type Attempt, PutError, type PutOutcome, type PutReceipt } from './pending-record.js';
export { Producer, type ProducerStats } from './producer.js';
