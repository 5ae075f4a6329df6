import { describe, expect, it } from 'vitest';

import { PayloadMemory } from '../src/payload-memory.js';

describe('PayloadMemory', () => {
  it('gives memory again that was given back, as long as it is asked for', () => {
    const memory = new PayloadMemory(1_000);
    const payload = memory.take(800);
    expect(payload).toHaveLength(800);
    memory.reuse(payload);
    const next = memory.take(1_000);
    expect(next.buffer).toBe(payload.buffer);
    expect(next).toHaveLength(1_000);
    expect(memory.take(900).buffer).not.toBe(next.buffer);
  });

  it('gives memory of its own to what is small or larger than usual, and takes none of that back', () => {
    const memory = new PayloadMemory(2 ** 13);
    for (const bytes of [0, 1, 2 ** 12 + 2 ** 11 - 1, 2 ** 13 + 1]) {
      const payload = memory.take(bytes);
      expect(payload).toHaveLength(bytes);
      memory.reuse(payload);
    }
    // Of Node's shared memory, which has as many bytes as a block.
    const foreign = Buffer.from('x');
    expect(foreign.buffer.byteLength).toBe(2 ** 13);
    memory.reuse(foreign);
    expect(memory.take(2 ** 13).buffer).not.toBe(foreign.buffer);
  });

  it('keeps at most 8 MiB', () => {
    const memory = new PayloadMemory(2 ** 20);
    const payloads = Array.from({ length: 9 }, () => memory.take(2 ** 20));
    for (const payload of payloads) memory.reuse(payload);
    const known = new Set(payloads.map(({ buffer }) => buffer));
    const again = Array.from({ length: 9 }, () => memory.take(2 ** 20));
    expect(again.filter(({ buffer }) => known.has(buffer))).toHaveLength(8);
  });
});
