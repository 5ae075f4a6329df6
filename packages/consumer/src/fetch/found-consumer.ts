/** A registered fan-out consumer, looked for once however many want it; after a failure anew. */
export class FoundConsumer {
  readonly #find: () => Promise<string>;
  #found: Promise<string> | undefined;

  /** @param find - Gives its ARN, registering it if need be. */
  constructor(find: () => Promise<string>) {
    this.#find = find;
  }

  arn(): Promise<string> {
    this.#found ??= this.#find().catch((error: unknown) => {
      this.#found = undefined;
      throw error;
    });
    return this.#found;
  }

  /** It may be gone: looks for it again when somebody wants it. */
  forget(): void {
    this.#found = undefined;
  }
}
