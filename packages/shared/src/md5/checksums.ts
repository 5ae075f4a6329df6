import { createHash } from 'node:crypto';

import { DATA_AT, LANE_BYTES, LANES, lanesModule, POINTERS_AT, STATES_AT } from './lanes-module.js';

/** Fewer than these are not worth the lanes. */
const FEWEST = 3;
const LARGEST_BYTES = LANE_BYTES - 72;
const IDLE = -1;

interface Engine {
  readonly run: (blocks: number) => void;
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
}

let engine: Engine | undefined;

/**
 * MD5 of several messages side by side.
 *
 * @param onDigest - Told each digest, in bytes that are overwritten by the next.
 */
function md5Each(
  messages: readonly Uint8Array[],
  onDigest: (index: number, digest: Uint8Array) => void,
): void {
  const areFew = messages.length < FEWEST;
  const queue: number[] = [];
  for (const [index, message] of messages.entries()) {
    if (areFew || message.length > LARGEST_BYTES) {
      onDigest(index, createHash('md5').update(message).digest());
    } else queue.push(index);
  }
  if (queue.length > 0) runLanes(messages, queue, onDigest);
}

const digest = new Uint8Array(16);
const digestWords = new Int32Array(digest.buffer);

function runLanes(
  messages: readonly Uint8Array[],
  queue: readonly number[],
  onDigest: (index: number, digest: Uint8Array) => void,
): void {
  const { run, words } = (engine ??= start());
  const holders = Array.from({ length: LANES }, () => IDLE);
  const left = Array.from({ length: LANES }, () => Infinity);
  let next = 0;
  let busy = 0;
  const feed = (lane: number): void => {
    // An idle lane goes over the same bytes as before, for nothing.
    words[POINTERS_AT / 4 + lane] = DATA_AT + lane * LANE_BYTES;
    left[lane] = Infinity;
    holders[lane] = queue[next] ?? IDLE;
    if (next >= queue.length) return;
    left[lane] = load(lane, messages[queue[next] as number] as Uint8Array);
    next += 1;
    busy += 1;
  };
  for (let lane = 0; lane < LANES; lane += 1) feed(lane);
  while (busy > 0) {
    const blocks = Math.min(...left);
    run(blocks);
    for (let lane = 0; lane < LANES; lane += 1) {
      const rest = (left[lane] ?? 0) - blocks;
      left[lane] = rest;
      if (rest > 0) {
        if (rest === Infinity) words[POINTERS_AT / 4 + lane] = DATA_AT + lane * LANE_BYTES;
        continue;
      }
      for (let register = 0; register < 4; register += 1) {
        digestWords[register] = words[STATES_AT / 4 + register * LANES + lane] ?? 0;
      }
      onDigest(holders[lane] ?? 0, digest);
      busy -= 1;
      feed(lane);
    }
  }
}

/** Puts a message with its padding into a lane. @returns How many blocks that is. */
function load(lane: number, message: Uint8Array): number {
  const { bytes, words } = engine as Engine;
  const { length } = message;
  const at = DATA_AT + lane * LANE_BYTES;
  const blocks = ((length + 8) >>> 6) + 1;
  const end = at + blocks * 64;
  bytes.set(message, at);
  bytes[at + length] = 0x80;
  bytes.fill(0, at + length + 1, end);
  words[end / 4 - 2] = length << 3;
  const start = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];
  for (let register = 0; register < 4; register += 1) {
    words[STATES_AT / 4 + register * LANES + lane] = start[register] ?? 0;
  }
  return blocks;
}

/** Words of a block, and most bytes of a message that is one block with its padding. */
const BLOCK_WORDS = 16;
const ONE_BLOCK_BYTES = 55;
const START = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);

/**
 * MD5 of many short parts of some bytes, side by side.
 *
 * @param bounds - Where each part begins and ends.
 * @param out - Receives four words a part, of which the first and the highest byte come first.
 */
export function hashParts(bytes: Uint8Array, bounds: readonly number[], out: Uint32Array): void {
  const { run, words } = (engine ??= start());
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = bounds.length / 2;
  for (let from = 0; from < parts; from += LANES) {
    const lanes = Math.min(LANES, parts - from);
    // All of them move on with each run, those with nothing to do, too.
    for (let lane = 0; lane < LANES; lane += 1) {
      words[POINTERS_AT / 4 + lane] = DATA_AT + lane * LANE_BYTES;
    }
    for (let lane = 0; lane < lanes; lane += 1) {
      const partStart = bounds[(from + lane) * 2] as number;
      const length = (bounds[(from + lane) * 2 + 1] as number) - partStart;
      // A longer one is hashed below; its lane computes nothing of use.
      if (length <= ONE_BLOCK_BYTES) loadPart(lane, view, partStart, length);
    }
    run(1);
    for (let lane = 0; lane < lanes; lane += 1) {
      const part = from + lane;
      const partStart = bounds[part * 2] as number;
      const partEnd = bounds[part * 2 + 1] as number;
      if (partEnd - partStart > ONE_BLOCK_BYTES) {
        digest.set(createHash('md5').update(bytes.subarray(partStart, partEnd)).digest());
      }
      for (let register = 0; register < 4; register += 1) {
        const word =
          partEnd - partStart > ONE_BLOCK_BYTES
            ? (digestWords[register] as number)
            : (words[STATES_AT / 4 + register * LANES + lane] as number);
        out[part * 4 + register] = swapBytes(word);
      }
    }
  }
}

function loadPart(lane: number, from: DataView, partStart: number, length: number): void {
  const { words } = engine as Engine;
  const at = (DATA_AT + lane * LANE_BYTES) / 4;
  const whole = length >> 2;
  for (let word = 0; word < whole; word += 1) {
    words[at + word] = from.getInt32(partStart + word * 4, true);
  }
  // The padding begins in the word of the last bytes.
  let last = 0x80;
  for (let byte = length - 1; byte >= whole * 4; byte -= 1) {
    last = (last << 8) | from.getUint8(partStart + byte);
  }
  words[at + whole] = last;
  for (let word = whole + 1; word < BLOCK_WORDS; word += 1) words[at + word] = 0;
  words[at + BLOCK_WORDS - 2] = length << 3;
  for (let register = 0; register < 4; register += 1) {
    words[STATES_AT / 4 + register * LANES + lane] = START[register] as number;
  }
}

function swapBytes(word: number): number {
  return ((word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24)) >>> 0;
}

/** As much of WebAssembly as is used here; Node's types leave it to those of browsers. */
interface WebAssemblyApi {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object) => {
    readonly exports: {
      readonly run: (blocks: number) => void;
      readonly memory: { readonly buffer: ArrayBuffer };
    };
  };
}

function start(): Engine {
  const { Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyApi })
    .WebAssembly;
  const { run, memory } = new Instance(new Module(lanesModule())).exports;
  return { run, bytes: new Uint8Array(memory.buffer), words: new Int32Array(memory.buffer) };
}

/** Writes the MD5 of the bytes of each record between two offsets to its end. */
export function writeChecksums(records: readonly Uint8Array[], from: number): void {
  md5Each(
    records.map((record) => record.subarray(from, record.length - digest.length)),
    (index, found) =>
      (records[index] as Uint8Array).set(
        found,
        (records[index] as Uint8Array).length - digest.length,
      ),
  );
}

/** For each record whether its end is the MD5 of its bytes from an offset on. */
export function checkChecksums(records: readonly Uint8Array[], from: number): boolean[] {
  const areGood = records.map(() => false);
  md5Each(
    records.map((record) => record.subarray(from, record.length - digest.length)),
    (index, found) => {
      const record = records[index] as Uint8Array;
      const end = record.length - digest.length;
      let differs = 0;
      for (let at = 0; at < digest.length; at += 1)
        differs |= (found[at] ?? 0) ^ (record[end + at] ?? 0);
      areGood[index] = differs === 0;
    },
  );
  return areGood;
}
