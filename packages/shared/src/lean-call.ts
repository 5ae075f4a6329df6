import { Readable } from 'node:stream';

import { CBOR_CONTENT_TYPE } from './cbor/format.js';
import { decodeCbor } from './cbor/reader.js';
import { chunksOf } from './chunks.js';

const NOTHING = Buffer.from('{}');

/** As much of a command of the SDK as is used here. */
interface Command {
  readonly middlewareStack: {
    add(
      middleware: (next: Next) => Next,
      options: {
        readonly step: 'build' | 'deserialize';
        readonly priority: 'high' | 'low';
        readonly name: string;
      },
    ): void;
  };
}

type Next = (args: never) => Promise<{ readonly response: unknown }>;

interface HttpMessage {
  readonly headers: Record<string, string>;
  body: unknown;
}

/**
 * Sends a command through all of the client, its credentials, endpoint, signer and middleware, but with a body
 * of ours in place of the one the SDK wrote.
 *
 * @param name - Of the middleware.
 * @param contentType - If it is not what the SDK writes.
 * @param beforeSending - What is waited for once the body is in its place.
 */
export function replaceBody(
  command: object,
  name: string,
  body: Buffer,
  contentType: string | undefined,
  beforeSending?: () => Promise<void>,
): void {
  (command as Command).middlewareStack.add(
    (next) => async (args) => {
      const { request } = args as { readonly request: HttpMessage };
      request.body = body;
      if (contentType !== undefined) request.headers['content-type'] = contentType;
      await beforeSending?.();
      return next(args);
    },
    { step: 'build', priority: 'high', name },
  );
}

/**
 * Takes the answer to a command before the SDK does, which then finds an empty one. What happens before the
 * answer is the SDK's, and so are errors, which it gets in JSON even if they came in CBOR.
 *
 * @param name - Of the middleware.
 * @param parse - Gets an answer that is no error, and whether it is CBOR.
 * @param emptyBody - What the SDK finds in place of what was taken.
 * @returns What gives the answer once the command was sent; undefined if it never came by here, as with
 * a client that answers by itself.
 */
export function interceptAnswer<Answer>(
  command: object,
  name: string,
  parse: (body: AsyncIterable<Buffer>, isCbor: boolean) => Promise<Answer> | Answer,
  emptyBody: () => unknown = () => NOTHING,
): () => Answer | undefined {
  let answer: Answer | undefined;
  (command as Command).middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const response = result.response as HttpMessage & { readonly statusCode: number };
      const { statusCode, headers, body } = response;
      if (!(body instanceof Readable)) return result;
      const isCbor = headers['content-type']?.startsWith(CBOR_CONTENT_TYPE) === true;
      if (statusCode === 200) {
        answer = await parse(chunksOf(body), isCbor);
        response.body = emptyBody();
      } else if (isCbor) response.body = await errorAsJson(body);
      return result;
    },
    { step: 'deserialize', priority: 'low', name },
  );
  return () => answer;
}

/** An error without a body that can be read has its status still. */
async function errorAsJson(body: Readable): Promise<Buffer> {
  const bytes = await gather(chunksOf(body));
  try {
    return Buffer.from(JSON.stringify(decodeCbor(bytes) ?? {}));
  } catch {
    return NOTHING;
  }
}

/** All of a body that is small. */
export async function gather(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
