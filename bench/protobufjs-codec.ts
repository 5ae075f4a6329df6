import { createHash } from 'node:crypto';

import protobuf from 'protobufjs';

/** The KPL's message, as its documentation has it. */
const PROTO = `
  syntax = "proto2";
  message AggregatedRecord {
    repeated string partition_key_table = 1;
    repeated string explicit_hash_key_table = 2;
    repeated Record records = 3;
  }
  message Record {
    required uint64 partition_key_index = 1;
    optional uint64 explicit_hash_key_index = 2;
    required bytes data = 3;
  }`;

const MAGIC = Buffer.from('f3899ac2', 'hex');
const CHECKSUM_BYTES = 16;
const type = protobuf.parse(PROTO, { keepCase: false }).root.lookupType('AggregatedRecord');

interface Message {
  readonly partitionKeyTable: readonly string[];
  readonly records: readonly { readonly partitionKeyIndex: number; readonly data: Uint8Array }[];
}

/** What a caller of protobufjs writes to make aggregates: a table of keys, and the size kept exactly. */
export class ProtobufjsAggregator {
  readonly #maxBytes: number;
  #indexes = new Map<string, number>();
  #records: { partitionKeyIndex: number; data: Uint8Array }[] = [];
  #bytes = MAGIC.length + CHECKSUM_BYTES;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(partitionKey: string, data: Uint8Array): void {
    let index = this.#indexes.get(partitionKey);
    const keyBytes = Buffer.byteLength(partitionKey);
    const newBytes = index === undefined ? 1 + varintBytes(keyBytes) + keyBytes : 0;
    const inner =
      1 + varintBytes(index ?? this.#indexes.size) + 1 + varintBytes(data.length) + data.length;
    const bytes = newBytes + 1 + varintBytes(inner) + inner;
    if (this.#bytes + bytes > this.#maxBytes && this.#records.length > 0) {
      this.build();
      this.add(partitionKey, data);
      return;
    }
    if (index === undefined) {
      index = this.#indexes.size;
      this.#indexes.set(partitionKey, index);
    }
    this.#records.push({ partitionKeyIndex: index, data });
    this.#bytes += bytes;
  }

  build(): Buffer {
    const message = type
      .encode({ partitionKeyTable: [...this.#indexes.keys()], records: this.#records })
      .finish();
    const checksum = createHash('md5').update(message).digest();
    this.#indexes = new Map();
    this.#records = [];
    this.#bytes = MAGIC.length + CHECKSUM_BYTES;
    return Buffer.concat([MAGIC, message, checksum]);
  }
}

/** Takes an aggregate apart, checksum verified. @returns How many user records were looked at. */
export function decodeWithProtobufjs(aggregate: Buffer): number {
  const message = aggregate.subarray(MAGIC.length, aggregate.length - CHECKSUM_BYTES);
  const checksum = createHash('md5').update(message).digest();
  if (!checksum.equals(aggregate.subarray(aggregate.length - CHECKSUM_BYTES))) return 0;
  const { partitionKeyTable, records } = type.decode(message) as unknown as Message;
  let seen = 0;
  for (const { partitionKeyIndex, data } of records) {
    seen += data.length > 0 && partitionKeyTable[Number(partitionKeyIndex)] !== undefined ? 1 : 0;
  }
  return seen;
}

function varintBytes(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : 4;
}
