import {
  asBuffer,
  checkAggregates,
  decodeAggregate,
  type DecodedAggregate,
  mayBeAggregate,
} from './aggregation/decoder.js';
import { DEFAULT_MAX_RAW_BYTES, openEnvelope, readEnvelopeHeader } from './compression/envelope.js';
import { isShardlineError, ShardlineError } from './errors.js';
import { hashKeyFromBigInt, type HashKeyWords } from './hash-key.js';
import { FULL_HASH_RANGE, type HashRange, rangeHolds } from './hash-range.js';

/** A record as GetRecords, SubscribeToShard and the SDK give it. */
export interface KinesisRecord {
  readonly Data?: Uint8Array | undefined;
  /** Absent on streams whose records the service distributes itself. */
  readonly PartitionKey?: string | undefined;
  readonly SequenceNumber?: string | undefined;
  readonly ApproximateArrivalTimestamp?: Date | undefined;
}

/** A record of a Lambda Kinesis event. */
export interface LambdaKinesisRecord {
  readonly kinesis: {
    /** base64 */
    readonly data: string;
    readonly partitionKey?: string;
    readonly sequenceNumber: string;
    /** Epoch seconds, with a fraction. */
    readonly approximateArrivalTimestamp?: number;
  };
}

/**
 * What an application put, as it comes out of the stream.
 *
 * A class, since V8 learns of a literal that what it makes lives long, if it did so for a while, and makes the next
 * in the old generation: records that are looked at once and let go of cost twice as much from there on.
 */
export class UserRecord {
  readonly partitionKey: string | undefined;
  readonly explicitHashKey: string | undefined;
  /** A view of the bytes that were read where the record was not compressed. */
  readonly data: Buffer;
  /** The Kinesis record's. */
  readonly sequenceNumber: string;
  /** Position inside the Kinesis record, from 0; 0 if it is not aggregated. */
  readonly subSequenceNumber: number;
  readonly isAggregated: boolean;
  /** When the service took the Kinesis record, epoch milliseconds by its clock. */
  readonly arrivedAt: number | undefined;
  /** What the producer marked the record with so that copies of it are known, if it did. */
  readonly origin: string | undefined;
  /** Why `data` is a whole Kinesis record that could not be taken apart, if it is one. */
  readonly damage: RecordDamage | undefined;

  constructor(
    partitionKey: string | undefined,
    explicitHashKey: string | undefined,
    data: Buffer,
    sequenceNumber: string,
    subSequenceNumber: number,
    isAggregated: boolean,
    arrivedAt: number | undefined,
    origin: string | undefined,
    damage: RecordDamage | undefined,
  ) {
    this.partitionKey = partitionKey;
    this.explicitHashKey = explicitHashKey;
    this.data = data;
    this.sequenceNumber = sequenceNumber;
    this.subSequenceNumber = subSequenceNumber;
    this.isAggregated = isAggregated;
    this.arrivedAt = arrivedAt;
    this.origin = origin;
    this.damage = damage;
  }
}

/** What a record that begins like an aggregate or an envelope turned out to have. */
export type RecordDamage = 'checksum' | 'malformed' | 'index' | 'envelope';

/**
 * What to do with a damaged record.
 *
 * - `raw`: give the Kinesis record's bytes as one user record with `damage` set.
 * - `error`: throw `DAMAGED_RECORD`.
 * - `keepPrefix`: as the KCL: the user records before a bad index, the raw bytes otherwise.
 */
export type DamagePolicy = 'raw' | 'error' | 'keepPrefix';

/**
 * What to do with user records of an aggregate whose hash key the shard does not own: after a reshard
 * a KPL or Shardline producer has sent the aggregate again.
 *
 * - `userRecord`: drop those user records, keep the others.
 * - `aggregate`: as the KCL: drop the whole aggregate.
 * - `off`: keep all.
 */
export type RangeCheck = 'userRecord' | 'aggregate' | 'off';

export interface DecodeOptions {
  /** @defaultValue `'raw'` */
  readonly onDamage?: DamagePolicy;
  /** @defaultValue `'userRecord'`; without effect unless `hashRange` is given. */
  readonly rangeCheck?: RangeCheck;
  /** The hash keys of the shard the records come from. */
  readonly hashRange?: HashRange;
  /** Largest content a compressed record may expand to. Unit: bytes. @defaultValue 32 MiB */
  readonly maxRawBytes?: number;
  /** Told how many user records of one Kinesis record the range check dropped. */
  readonly onDropped?: (droppedRecords: number, sequenceNumber: string) => void;
}

/**
 * Turns Kinesis records, plain, aggregated, compressed or both, into user records in order.
 *
 * @throws ShardlineError `DAMAGED_RECORD` by policy; `RAW_SIZE_EXCEEDED` and `CODEC_UNAVAILABLE`
 * always, because giving the compressed bytes to a handler would look like success.
 */
export function decodeRecords(
  records: Iterable<KinesisRecord | LambdaKinesisRecord>,
  options: DecodeOptions = {},
): UserRecord[] {
  const decoder = new RecordDecoder(options);
  const result: UserRecord[] = [];
  const all = Array.from(records, (record) =>
    'kinesis' in record ? fromLambdaRecord(record) : record,
  );
  decoder.checkAhead(all);
  for (const record of all) decoder.decodeInto(record, result);
  return result;
}

/** {@link decodeRecords} with the options read once, for a reader that goes on. */
export class RecordDecoder {
  readonly #onDamage: DamagePolicy;
  readonly #rangeCheck: RangeCheck;
  readonly #maxRawBytes: number;
  readonly #onDropped: DecodeOptions['onDropped'];
  readonly #rangeStart = new Uint32Array(4);
  readonly #rangeEnd = new Uint32Array(4);
  readonly #hash: HashKeyWords = new Uint32Array(4);
  /** What was found of records that were checked ahead; holds none of them. */
  readonly #checked = new WeakMap<Uint8Array, boolean>();

  constructor(options: DecodeOptions = {}) {
    this.#onDamage = options.onDamage ?? 'raw';
    const { start, end } = options.hashRange ?? FULL_HASH_RANGE;
    // A shard that owns all hash keys has none to drop.
    const ownsAll = start === FULL_HASH_RANGE.start && end === FULL_HASH_RANGE.end;
    this.#rangeCheck = ownsAll ? 'off' : (options.rangeCheck ?? 'userRecord');
    this.#maxRawBytes = options.maxRawBytes ?? DEFAULT_MAX_RAW_BYTES;
    this.#onDropped = options.onDropped;
    hashKeyFromBigInt(start, this.#rangeStart);
    hashKeyFromBigInt(end, this.#rangeEnd);
  }

  /** Verifies the checksums of records that are decoded next, of all at once. */
  checkAhead(records: readonly KinesisRecord[]): void {
    const aggregates = records.flatMap(({ Data }) => (Data && mayBeAggregate(Data) ? Data : []));
    const areRight = checkAggregates(aggregates);
    for (const [index, bytes] of aggregates.entries())
      this.#checked.set(bytes, areRight[index] === true);
  }

  /** Appends the user records of one Kinesis record to `out`. */
  decodeInto(record: KinesisRecord, out: UserRecord[]): void {
    const bytes = record.Data ?? EMPTY;
    let content: Uint8Array = bytes;
    try {
      const header = readEnvelopeHeader(bytes);
      if (header) {
        content = openEnvelope(bytes, header, this.#maxRawBytes);
        if (header.content === 'data') {
          out.push(plainRecord(record, content));
          return;
        }
      }
    } catch (error) {
      if (!isShardlineError(error, 'DAMAGED_RECORD')) throw error;
      this.#giveDamaged(record, 'envelope', bytes, out, error);
      return;
    }
    const decoding = decodeAggregate(content, this.#checked.get(content));
    switch (decoding.kind) {
      case 'plain':
        out.push(plainRecord(record, content));
        return;
      case 'aggregate':
        this.#giveAggregate(record, decoding.aggregate, out);
        return;
      case 'damaged':
        if (this.#onDamage === 'keepPrefix' && decoding.damage === 'index') {
          this.#giveAggregate(record, decoding.prefix, out);
        } else {
          this.#giveDamaged(record, decoding.damage, content, out);
        }
    }
  }

  #giveAggregate(record: KinesisRecord, aggregate: DecodedAggregate, out: UserRecord[]): void {
    const before = out.length;
    const sequenceNumber = record.SequenceNumber ?? '';
    const arrivedAt = record.ApproximateArrivalTimestamp?.getTime();
    const checked = this.#rangeCheck !== 'off';
    let dropped = 0;
    for (let index = 0; index < aggregate.count; index += 1) {
      if (checked) {
        aggregate.hashKey(index, this.#hash);
        if (!rangeHolds(this.#rangeStart, this.#rangeEnd, this.#hash)) {
          dropped += 1;
          continue;
        }
      }
      out.push(
        new UserRecord(
          aggregate.partitionKey(index),
          aggregate.explicitHashKey(index),
          aggregate.data(index),
          sequenceNumber,
          index,
          true,
          arrivedAt,
          aggregate.origin(index),
          undefined,
        ),
      );
    }
    if (dropped === 0) return;
    if (this.#rangeCheck === 'aggregate') {
      out.length = before;
      dropped = aggregate.count;
    }
    this.#onDropped?.(dropped, sequenceNumber);
  }

  #giveDamaged(
    record: KinesisRecord,
    damage: RecordDamage,
    bytes: Uint8Array,
    out: UserRecord[],
    cause?: unknown,
  ): void {
    if (this.#onDamage === 'error') {
      throw new ShardlineError(
        'DAMAGED_RECORD',
        `the record at sequence number ${record.SequenceNumber} is damaged (${damage})`,
        { value: record.SequenceNumber ?? '', cause },
      );
    }
    out.push(plainRecord(record, bytes, damage));
  }
}

const EMPTY = Buffer.alloc(0);

function plainRecord(record: KinesisRecord, data: Uint8Array, damage?: RecordDamage): UserRecord {
  return new UserRecord(
    record.PartitionKey,
    undefined,
    asBuffer(data),
    record.SequenceNumber ?? '',
    0,
    false,
    record.ApproximateArrivalTimestamp?.getTime(),
    undefined,
    damage,
  );
}

export function fromLambdaRecord({ kinesis }: LambdaKinesisRecord): KinesisRecord {
  return {
    Data: Buffer.from(kinesis.data, 'base64'),
    PartitionKey: kinesis.partitionKey,
    SequenceNumber: kinesis.sequenceNumber,
    ApproximateArrivalTimestamp:
      kinesis.approximateArrivalTimestamp === undefined
        ? undefined
        : new Date(Math.round(kinesis.approximateArrivalTimestamp * 1000)),
  };
}
