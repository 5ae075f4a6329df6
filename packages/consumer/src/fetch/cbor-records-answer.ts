import { CborError, CborReader } from '@shardline/shared';

import { ByteQueue } from './byte-queue.js';
import type { RecordsAnswer, RecordsAnswerParser } from './records-answer.js';

const names = (...all: string[]): Buffer[] => all.map((name) => Buffer.from(name));

const MEMBERS = names('Records', 'NextShardIterator', 'MillisBehindLatest', 'ChildShards');
const RECORDS = 0;
const RECORD_MEMBERS = names(
  'Data',
  'PartitionKey',
  'SequenceNumber',
  'ApproximateArrivalTimestamp',
);
/** What is taken apart in one go, and stays in memory as long as any data in it do. */
const CUT_BYTES = 2 ** 18;

/** Fewer milliseconds lie in 1973 or before. */
const LEAST_MS = 1e11;

type Answer = { -readonly [Name in keyof RecordsAnswer]: RecordsAnswer[Name] };
type Rest = 'NextShardIterator' | 'MillisBehindLatest' | 'ChildShards';

/** Takes an answer of GetRecords in AWS CBOR 1.1 apart as it comes in, record by record. */
export class CborRecordsParser implements RecordsAnswerParser {
  readonly #pending = new ByteQueue();
  #dueBytes = CUT_BYTES;
  readonly #records: RecordsAnswer['Records'][number][] = [];
  readonly #answer: Answer = { Records: this.#records };
  /** Members and records that are still to come; `Infinity` where only a break tells, undefined before the first. */
  #membersLeft: number | undefined;
  #recordsLeft = 0;

  get isDue(): boolean {
    return this.#pending.bytes >= this.#dueBytes;
  }

  push(chunk: Buffer): void {
    this.#pending.push(chunk);
  }

  cut(): void {
    // The data stay where they are; what they are peeked at in is used again.
    const reader = new CborReader(Buffer.from(this.#pending.peek(this.#pending.bytes)));
    let read = 0;
    try {
      while (this.#step(reader)) read = reader.at;
    } catch (error) {
      if (!(error instanceof CborError && error.isCutOff)) throw error;
    }
    this.#pending.drop(read);
    const { bytes } = this.#pending;
    // In proportion to a record that is larger, so that it is not read over and over.
    this.#dueBytes = bytes + Math.max(CUT_BYTES, bytes);
  }

  finish(): RecordsAnswer {
    this.cut();
    if (!this.#isWhole) throw new CborError('it is cut off', true);
    return this.#answer;
  }

  get #isWhole(): boolean {
    return this.#membersLeft === 0 && this.#recordsLeft === 0;
  }

  /** Reads the next part, and counts it only once it is there. @returns False at the end. */
  #step(reader: CborReader): boolean {
    if (this.#isWhole) return false;
    if (this.#membersLeft === undefined) this.#membersLeft = reader.mapLength();
    else if (this.#recordsLeft > 0) this.#readRecord(reader);
    else this.#readMember(reader, this.#membersLeft);
    return true;
  }

  #readMember(reader: CborReader, left: number): void {
    if (left === Infinity && reader.isBreak()) {
      this.#membersLeft = 0;
      return;
    }
    const index = reader.name(MEMBERS);
    if (index === RECORDS) this.#recordsLeft = reader.arrayLength();
    else {
      const value = reader.item();
      const name = MEMBERS[index]?.toString() as Rest | undefined;
      if (name !== undefined) Object.assign(this.#answer, { [name]: value });
    }
    this.#membersLeft = left - 1;
  }

  #readRecord(reader: CborReader): void {
    if (this.#recordsLeft === Infinity && reader.isBreak()) {
      this.#recordsLeft = 0;
      return;
    }
    const [data, key, sequenceNumber, arrival] = reader.members(RECORD_MEMBERS, () =>
      reader.item(),
    );
    this.#records.push({
      Data: dataOf(data),
      PartitionKey: typeof key === 'string' ? key : undefined,
      SequenceNumber: typeof sequenceNumber === 'string' ? sequenceNumber : undefined,
      ApproximateArrivalTimestamp: dateOf(arrival),
    });
    this.#recordsLeft -= 1;
  }
}

/** @throws CborError for what is neither bytes nor, as one emulator has it, base64: it must not pass for nothing. */
function dataOf(value: unknown): Uint8Array | undefined {
  if (value === undefined || value instanceof Uint8Array) return value;
  if (typeof value === 'string') return Buffer.from(value, 'base64');
  throw new CborError('data are no bytes');
}

/** Without its tag a number means milliseconds; emulators mean seconds. */
function dateOf(value: unknown): Date | undefined {
  if (typeof value !== 'number') return value instanceof Date ? value : undefined;
  return new Date(value < LEAST_MS ? Math.round(value * 1_000) : value);
}
