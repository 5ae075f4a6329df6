const MAX_BODIES = 4;
const MAX_BYTES = 2 ** 23;

/** Memory of bodies, kept to be filled again: fresh memory of this size costs more than what is written to it. */
export class SpareBodies {
  readonly #spare: Buffer[] = [];

  /** Memory for so many bytes or more; give it to {@link reuse} when nobody reads it any more. */
  take(bytes: number): Buffer {
    const fitting = this.#spare.findIndex((spare) => spare.length >= bytes);
    if (fitting >= 0) return this.#spare.splice(fitting, 1)[0] as Buffer;
    // The largest that was too small makes room for one that is not.
    this.#spare.pop();
    return Buffer.allocUnsafeSlow(Math.ceil(bytes * 1.25));
  }

  reuse(body: Buffer): void {
    if (body.length <= MAX_BYTES && this.#spare.length < MAX_BODIES) this.#spare.push(body);
  }
}
