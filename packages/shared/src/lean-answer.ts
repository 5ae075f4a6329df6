import { Readable } from 'node:stream';

import { chunksOf } from './chunks.js';

const NOTHING = Buffer.from('{}');

/** As much of a command of the SDK as is used here. */
interface Command {
  readonly middlewareStack: {
    add(
      middleware: (
        next: (args: never) => Promise<{ readonly response: unknown }>,
      ) => (args: never) => Promise<{ readonly response: unknown }>,
      options: {
        readonly step: 'deserialize';
        readonly priority: 'low';
        readonly name: string;
      },
    ): void;
  };
}

/**
 * Takes the answer to a command before the SDK does, which then finds an empty one. Errors, and all that
 * happens before the answer, are the SDK's.
 *
 * @param name - Of the middleware.
 * @param emptyBody - What the SDK finds in place of what was taken.
 * @returns What gives the answer once the command was sent; undefined if it never came by here, as with
 * a client that answers by itself.
 */
export function interceptAnswer<Answer>(
  command: object,
  name: string,
  parse: (body: AsyncIterable<Buffer>) => Promise<Answer> | Answer,
  emptyBody: () => unknown = () => NOTHING,
): () => Answer | undefined {
  let answer: Answer | undefined;
  (command as Command).middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const response = result.response as { statusCode: number; body: unknown };
      if (response.statusCode === 200 && response.body instanceof Readable) {
        answer = await parse(chunksOf(response.body));
        response.body = emptyBody();
      }
      return result;
    },
    { step: 'deserialize', priority: 'low', name },
  );
  return () => answer;
}
