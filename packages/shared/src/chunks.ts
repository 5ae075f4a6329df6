import { finished, type Readable } from 'node:stream';

/**
 * The chunks of a stream as they came in. Its own iterator puts together all that has piled up meanwhile, which
 * is a large copy in fresh memory. Leaving the loop destroys the stream.
 */
export async function* chunksOf(stream: Readable): AsyncGenerator<Buffer> {
  const chunks: Buffer[] = [];
  let isOver = false;
  let failure: Error | null | undefined;
  let wake = (): void => {};
  const onData = (chunk: Buffer): void => {
    chunks.push(chunk);
    stream.pause();
    wake();
  };
  const unlisten = finished(stream, { writable: false }, (error) => {
    isOver = true;
    failure = error;
    wake();
  });
  stream.on('data', onData);
  try {
    for (;;) {
      const chunk = chunks.shift();
      if (chunk) yield chunk;
      else if (failure) throw failure;
      else if (isOver) return;
      else {
        await new Promise<void>((resolve) => {
          wake = resolve;
          stream.resume();
        });
      }
    }
  } finally {
    unlisten();
    stream.off('data', onData);
    stream.destroy();
  }
}
