/** Most that is kept. Unit: bytes. */
const MAX_SPARE_BYTES = 2 ** 23;

/**
 * Memory of payloads that were stored, for those that come after: fresh memory in such amounts makes the garbage
 * collector go through the whole heap, time and again.
 */
export class PayloadMemory {
  readonly #blockBytes: number;
  readonly #spare: ArrayBufferLike[] = [];
  /** All blocks there are, to know them by. */
  readonly #blocks = new WeakSet<ArrayBufferLike>();

  /** @param largestBytes - A larger payload has memory of its own, as has one of less than three quarters of that. */
  constructor(largestBytes: number) {
    this.#blockBytes = largestBytes;
  }

  /** So many bytes; give them to {@link reuse} when nobody reads them any more. */
  take(bytes: number): Buffer {
    const isUsual = bytes <= this.#blockBytes && bytes * 4 >= this.#blockBytes * 3;
    if (!isUsual) return Buffer.allocUnsafe(bytes);
    return Buffer.from(this.#spare.pop() ?? this.#block(), 0, bytes);
  }

  /** @param payload - If it did not come from here, nothing happens. */
  reuse({ buffer }: Buffer): void {
    const isRoom = (this.#spare.length + 1) * this.#blockBytes <= MAX_SPARE_BYTES;
    if (isRoom && this.#blocks.has(buffer)) this.#spare.push(buffer);
  }

  #block(): ArrayBufferLike {
    const { buffer } = Buffer.allocUnsafeSlow(this.#blockBytes);
    this.#blocks.add(buffer);
    return buffer;
  }
}
