/** Written in JavaScript, without types. */
declare module 'lifion-kinesis' {
  import type { Readable } from 'node:stream';

  export default class Kinesis {
    constructor(options: object);
    startConsumer(): Promise<void>;
    stopConsumer(): Promise<void>;
    on(event: 'error', listener: (error: Error) => void): this;
    on(
      event: 'data',
      listener: (chunk: { readonly records: readonly { readonly data: unknown }[] }) => void,
    ): this;
    pipe: Readable['pipe'];
  }
}
