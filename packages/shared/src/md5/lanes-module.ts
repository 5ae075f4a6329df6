/** Bytes of one message that a lane can hold, padding included. */
export const LANE_BYTES = 65_536 + 128;
export const LANES = 8;
/** Where the lanes' pointers and their states are: A of all lanes, then B, C and D. */
export const POINTERS_AT = 0;
export const STATES_AT = 32;
export const DATA_AT = 256;
const PAGE_BYTES = 65_536;

const LANES_A_VECTOR = 4;
const VECTORS = LANES / LANES_A_VECTOR;

const OP = {
  block: 0x02,
  loop: 0x03,
  end: 0x0b,
  brIf: 0x0d,
  localGet: 0x20,
  localSet: 0x21,
  localTee: 0x22,
  i32Load: 0x28,
  i32Store: 0x36,
  i32Const: 0x41,
  i32Add: 0x6a,
  i32Sub: 0x6b,
} as const;
/** `\0asm`, version 1. */
const MAGIC = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
const VOID = 0x40;
const I32 = 0x7f;
const V128 = 0x7b;
const SIMD = {
  load: 0,
  store: 11,
  constant: 12,
  shuffle: 13,
  and: 78,
  andNot: 79,
  or: 80,
  xor: 81,
  shiftLeft: 171,
  shiftRight: 173,
  add: 174,
  subtract: 177,
} as const;

/** Amounts of MD5's rotations by round (RFC 1321). */
const SHIFTS = [
  [7, 12, 17, 22],
  [5, 9, 14, 20],
  [4, 11, 16, 23],
  [6, 10, 15, 21],
] as const;
/** Lanes 0 and 1 of two vectors side by side, lanes 2 and 3, and halves of them. */
const UNPACK_LOW = [0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23];
const UNPACK_HIGH = [8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31];
const LOW_HALVES = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];
const HIGH_HALVES = [8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31];

// Locals: the number of blocks, a pointer a lane, and vectors.
const BLOCKS = 0;
const POINTER = 1;
const STATE = POINTER + LANES;
const SAVED = STATE + 4 * VECTORS;
const WORD = SAVED + 4 * VECTORS;
const TEMPORARY = WORD + 16 * VECTORS;
const VECTOR_LOCALS = TEMPORARY + 4 - STATE;

/**
 * A WebAssembly module that takes eight MD5 states through as many blocks at a time: `run(blocks)`, with the
 * states and the pointers to the lanes' next blocks in its memory. Eight chains side by side, since each
 * step of one waits for the step before it.
 */
export function lanesModule(): Uint8Array<ArrayBuffer> {
  const pages = Math.ceil((DATA_AT + LANES * LANE_BYTES) / PAGE_BYTES);
  const locals = [2, ...leb(LANES), I32, ...leb(VECTOR_LOCALS), V128];
  const body = [...locals, ...runCode(), OP.end];
  return Uint8Array.from([
    ...MAGIC,
    ...section(1, [1, 0x60, 1, I32, 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, ...leb(pages)]),
    ...section(7, [2, ...name('run'), 0, 0, ...name('memory'), 2, 0]),
    ...section(10, [1, ...leb(body.length), ...body]),
  ]);
}

function runCode(): number[] {
  const code: number[] = [];
  for (let lane = 0; lane < LANES; lane += 1) {
    code.push(
      OP.i32Const,
      0,
      OP.i32Load,
      2,
      ...leb(POINTERS_AT + 4 * lane),
      OP.localSet,
      POINTER + lane,
    );
  }
  const stateAt = (register: number, vector: number): number =>
    STATES_AT + (register * VECTORS + vector) * 16;
  const stateLocal = (register: number, vector: number): number =>
    STATE + register * VECTORS + vector;
  const each = (work: (register: number, vector: number) => void): void => {
    for (let register = 0; register < 4; register += 1) {
      for (let vector = 0; vector < VECTORS; vector += 1) work(register, vector);
    }
  };
  each((register, vector) => {
    code.push(OP.i32Const, 0, ...simd(SIMD.load), 4, ...leb(stateAt(register, vector)));
    code.push(OP.localSet, stateLocal(register, vector));
  });
  code.push(OP.loop, VOID);
  for (let vector = 0; vector < VECTORS; vector += 1) code.push(...loadWords(vector));
  each((register, vector) => {
    const saved = SAVED + register * VECTORS + vector;
    code.push(OP.localGet, stateLocal(register, vector), OP.localSet, saved);
  });
  for (let step = 0; step < 64; step += 1) {
    // After each step the registers change places by name, not by moves.
    const [a = 0, b = 0, c = 0, d = 0] = [0, 1, 2, 3].map((index) => (index + 64 - step) % 4);
    for (let vector = 0; vector < VECTORS; vector += 1) {
      const local = (register: number): number => stateLocal(register, vector);
      code.push(...stepCode(step, local(a), local(b), local(c), local(d), vector));
    }
  }
  each((register, vector) => {
    const local = stateLocal(register, vector);
    code.push(OP.localGet, local, OP.localGet, SAVED + register * VECTORS + vector);
    code.push(...simd(SIMD.add), OP.localSet, local);
  });
  for (let lane = 0; lane < LANES; lane += 1) {
    code.push(OP.localGet, POINTER + lane, OP.i32Const, ...leb(64, true), OP.i32Add);
    code.push(OP.localSet, POINTER + lane);
  }
  code.push(
    OP.localGet,
    BLOCKS,
    OP.i32Const,
    1,
    OP.i32Sub,
    OP.localTee,
    BLOCKS,
    OP.brIf,
    0,
    OP.end,
  );
  each((register, vector) => {
    code.push(OP.i32Const, 0, OP.localGet, stateLocal(register, vector));
    code.push(...simd(SIMD.store), 4, ...leb(stateAt(register, vector)));
  });
  for (let lane = 0; lane < LANES; lane += 1) {
    code.push(OP.i32Const, 0, OP.localGet, POINTER + lane, OP.i32Store, 2);
    code.push(...leb(POINTERS_AT + 4 * lane));
  }
  return code;
}

/** Loads the sixteen words of a vector's four lanes, turned so that each vector holds one word of all. */
function loadWords(vector: number): number[] {
  const code: number[] = [];
  const shuffle = (first: number, second: number, pattern: readonly number[], to: number): void => {
    code.push(OP.localGet, first, OP.localGet, second, ...simd(SIMD.shuffle), ...pattern);
    code.push(OP.localSet, to);
  };
  for (let quarter = 0; quarter < 4; quarter += 1) {
    const word = (index: number): number => WORD + vector * 16 + quarter * 4 + index;
    for (let lane = 0; lane < LANES_A_VECTOR; lane += 1) {
      code.push(OP.localGet, POINTER + vector * LANES_A_VECTOR + lane);
      code.push(...simd(SIMD.load), 0, ...leb(quarter * 16), OP.localSet, word(lane));
    }
    shuffle(word(0), word(1), UNPACK_LOW, TEMPORARY);
    shuffle(word(0), word(1), UNPACK_HIGH, TEMPORARY + 1);
    shuffle(word(2), word(3), UNPACK_LOW, TEMPORARY + 2);
    shuffle(word(2), word(3), UNPACK_HIGH, TEMPORARY + 3);
    shuffle(TEMPORARY, TEMPORARY + 2, LOW_HALVES, word(0));
    shuffle(TEMPORARY, TEMPORARY + 2, HIGH_HALVES, word(1));
    shuffle(TEMPORARY + 1, TEMPORARY + 3, LOW_HALVES, word(2));
    shuffle(TEMPORARY + 1, TEMPORARY + 3, HIGH_HALVES, word(3));
  }
  return code;
}

/** One of MD5's 64 steps for four lanes: a = b + rotate(a + f(b, c, d) + K + word). */
function stepCode(
  step: number,
  a: number,
  b: number,
  c: number,
  d: number,
  vector: number,
): number[] {
  const round = step >> 4;
  const shift = SHIFTS[round]?.[step & 3] ?? 0;
  const word = [step, 5 * step + 1, 3 * step + 5, 7 * step][round] ?? 0;
  const sum = TEMPORARY + vector;
  const get = (local: number): number[] => [OP.localGet, local];
  const constant = Math.floor(Math.abs(Math.sin(step + 1)) * 2 ** 32);
  const isLastRound = round === 3;
  // Each is added to what is known earlier, and has little left to do once b comes in from the step before.
  const mixes = [
    // d ^ (b & (c ^ d))
    [
      ...get(c),
      ...get(d),
      ...simd(SIMD.xor),
      ...get(b),
      ...simd(SIMD.and),
      ...get(d),
      ...simd(SIMD.xor),
    ],
    // (c & ~d) + (b & d), which have no bit in common
    [
      ...get(c),
      ...get(d),
      ...simd(SIMD.andNot),
      ...simd(SIMD.add),
      ...get(b),
      ...get(d),
      ...simd(SIMD.and),
    ],
    // (c ^ d) ^ b
    [...get(c), ...get(d), ...simd(SIMD.xor), ...get(b), ...simd(SIMD.xor)],
    // c ^ (b | ~d) is the complement of this, c ^ (d & ~b): to add it is to subtract this, and one.
    [...get(d), ...get(b), ...simd(SIMD.andNot), ...get(c), ...simd(SIMD.xor)],
  ];
  return [
    ...get(a),
    ...get(WORD + vector * 16 + (word & 15)),
    ...simd(SIMD.add),
    ...splat(isLastRound ? constant - 1 : constant),
    ...simd(SIMD.add),
    ...(mixes[round] ?? []),
    ...simd(isLastRound ? SIMD.subtract : SIMD.add),
    OP.localTee,
    sum,
    OP.i32Const,
    ...leb(shift, true),
    ...simd(SIMD.shiftLeft),
    ...get(sum),
    OP.i32Const,
    ...leb(32 - shift, true),
    ...simd(SIMD.shiftRight),
    ...simd(SIMD.or),
    ...get(b),
    ...simd(SIMD.add),
    OP.localSet,
    a,
  ];
}

function splat(value: number): number[] {
  const bytes = [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
  return [...simd(SIMD.constant), ...bytes, ...bytes, ...bytes, ...bytes];
}

function simd(operation: number): number[] {
  return [0xfd, ...leb(operation)];
}

function section(id: number, content: readonly number[]): number[] {
  return [id, ...leb(content.length), ...content];
}

function name(text: string): number[] {
  return [...leb(text.length), ...Buffer.from(text)];
}

/** A number in LEB128. */
function leb(value: number, isSigned = false): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= (isSigned ? 64 : 128)) {
    bytes.push((rest & 127) | 128);
    rest >>>= 7;
  }
  return [...bytes, rest];
}
