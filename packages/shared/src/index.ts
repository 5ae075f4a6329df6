export { AggregateEncoder, sumAggregates } from './aggregation/encoder.js';
export {
  type AggregateDamage,
  type AggregateDecoding,
  decodeAggregate,
  type DecodedAggregate,
} from './aggregation/decoder.js';
export { startsLikeAggregate } from './aggregation/format.js';
export {
  type AwsErrorClass,
  awsErrorName,
  classifyAwsError,
  classifyErrorName,
  fromAwsError,
} from './aws-errors.js';
export { type BackoffRule, fullJitterMs } from './backoff.js';
export { ByteBudget } from './byte-budget.js';
export { encodeCbor, writeCborHead, writeCborText } from './cbor/encode.js';
export {
  ARRAY as CBOR_ARRAY,
  BYTES as CBOR_BYTES,
  CBOR_CONTENT_TYPE,
  MAP as CBOR_MAP,
} from './cbor/format.js';
export { CborError, CborReader, decodeCbor } from './cbor/reader.js';
export { type Clock, nextTurn, pause, sleep, systemClock, type Timer } from './clock.js';
export { type Codec, CODECS, isCodecAvailable } from './compression/codecs.js';
export {
  DEFAULT_MAX_RAW_BYTES,
  ENVELOPE_HEADER_BYTES,
  type EnvelopeContent,
  type EnvelopeHeader,
  openEnvelope,
  readEnvelopeHeader,
  sealEnvelope,
  startsLikeEnvelope,
  storeInEnvelope,
} from './compression/envelope.js';
export { type ControlPlaneRetryOptions, retryControlPlane } from './control-plane-retry.js';
export {
  type CheckpointMessage,
  type DiagnosticsMessages,
  type FetchMessage,
  type HandlerFailureMessage,
  type LeaseMessage,
  publishDiagnostics,
  type PutRequestMessage,
  type SettledMessage,
  type ShardMapMessage,
  type ShardStateMessage,
} from './diagnostics.js';
export {
  ERROR_CODES,
  type ErrorCode,
  isShardlineError,
  ShardlineError,
  type ShardlineErrorOptions,
} from './errors.js';
export {
  canonicalHashKey,
  hashKeyFromBigInt,
  hashKeyToBigInt,
  type HashKeyWords,
  MAX_HASH_KEY,
  parseHashKey,
} from './hash-key.js';
export {
  findHoles,
  FULL_HASH_RANGE,
  type HashRange,
  HashRangeIndex,
  parseHashRange,
  rangeHolds,
} from './hash-range.js';
export { gather, interceptAnswer, replaceBody } from './lean-call.js';
export { LANES as CHECKSUM_LANES } from './md5/lanes-module.js';
export { HashedKey, hashKeyOf, hashPartitionKey } from './partition-key.js';
export { type Random, systemRandom } from './random.js';
export {
  type DamagePolicy,
  type DecodeOptions,
  decodeRecords,
  type KinesisRecord,
  fromLambdaRecord,
  type LambdaKinesisRecord,
  type RangeCheck,
  type RecordDamage,
  RecordDecoder,
  type UserRecord,
} from './record-decoder.js';
export {
  comparePositions,
  compareSequenceNumbers,
  isSentinel,
  type Position,
  type Sentinel,
  SENTINELS,
} from './sequence-number.js';
export { resolveStreamRef, type StreamRef, streamInput } from './stream-ref.js';
export {
  choiceOption,
  integerOption,
  integerOptions,
  type IntegerRule,
  rejectUnknownOptions,
  textOption,
} from './validate.js';
