import { Readable } from 'node:stream';

import { describe, expect, it } from 'vitest';

import { chunksOf } from '../src/chunks.js';

/** A stream to which much has come before anybody reads. */
function piledUp(texts: readonly string[]): Readable {
  const stream = new Readable({ read: () => {} });
  for (const text of texts) stream.push(Buffer.from(text));
  return stream;
}

async function readAll(stream: Readable): Promise<string[]> {
  const texts: string[] = [];
  for await (const chunk of chunksOf(stream)) texts.push(chunk.toString());
  return texts;
}

describe('chunksOf', () => {
  it('gives chunks as they came, what is piled up and what comes later', async () => {
    const stream = piledUp(['a', 'bc', 'def']);
    const reading = readAll(stream);
    await new Promise((resolve) => setImmediate(resolve));
    stream.push(Buffer.from('later'));
    stream.push(null);
    expect(await reading).toEqual(['a', 'bc', 'def', 'later']);
  });

  it('takes one at a time, so that the others hold back their sender', async () => {
    const stream = piledUp(['a', 'b', 'c']);
    const iterator = chunksOf(stream);
    await iterator.next();
    await new Promise((resolve) => setImmediate(resolve));
    expect(stream.readableLength).toBe(2);
    await iterator.return(undefined);
    expect(stream.destroyed).toBe(true);
  });

  it('gives what came before a failure, then throws it', async () => {
    const stream = piledUp(['a']);
    const iterator = chunksOf(stream);
    expect(await iterator.next()).toMatchObject({ value: Buffer.from('a') });
    stream.destroy(new Error('cut off'));
    await expect(iterator.next()).rejects.toThrow('cut off');
  });

  it('throws where a stream ends too early', async () => {
    const stream = piledUp([]);
    const reading = readAll(stream);
    await new Promise((resolve) => setImmediate(resolve));
    stream.destroy();
    await expect(reading).rejects.toThrow('Premature close');
  });
});
