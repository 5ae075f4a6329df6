/** Where pieces are put together: fresh memory of that size makes the garbage collector run. */
const gathered = Buffer.allocUnsafeSlow(2 ** 20);

/** Bytes that come in pieces and are read in order. */
export class ByteQueue {
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  /** The first so many bytes, which must be there, in one piece: valid until anybody calls this again. */
  peek(bytes: number): Buffer {
    const first = this.#chunks[0] ?? gathered;
    if (bytes <= first.length) return first.subarray(0, bytes);
    const whole = bytes <= gathered.length ? gathered : Buffer.allocUnsafeSlow(bytes);
    let at = 0;
    for (const chunk of this.#chunks) {
      if (at === bytes) break;
      at += chunk.copy(whole, at, 0, bytes - at);
    }
    return whole.subarray(0, bytes);
  }

  /** Forgets the first so many bytes. */
  drop(bytes: number): void {
    this.#bytes -= bytes;
    let left = bytes;
    while (left > 0) {
      const first = this.#chunks[0] as Buffer;
      if (first.length > left) {
        this.#chunks[0] = first.subarray(left);
        return;
      }
      left -= first.length;
      this.#chunks.shift();
    }
  }
}
