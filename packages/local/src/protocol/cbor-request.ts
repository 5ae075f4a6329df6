import { CborError, decodeCbor } from '@shardline/shared';

import { ServiceFault } from '../engine/service-fault.js';
import type { Input } from '../engine/validation.js';

/**
 * A request body in AWS CBOR 1.1: the same structure as in JSON, blobs as byte strings, timestamps as
 * tag 1 with epoch milliseconds.
 *
 * @throws ServiceFault `SerializationException`.
 */
export function parseCborRequest(body: Buffer): Input {
  const value = decode(body);
  if (
    typeof value !== 'object' ||
    value === null ||
    Array.isArray(value) ||
    Buffer.isBuffer(value)
  ) {
    throw new ServiceFault('SerializationException', 'The request body is not a structure.');
  }
  const input = value as Record<string, unknown>;
  // Some clients leave the tag out.
  for (const name of ['Timestamp', 'StreamCreationTimestamp']) {
    if (typeof input[name] === 'number') input[name] = new Date(input[name]);
  }
  return input;
}

function decode(body: Buffer): unknown {
  try {
    return decodeCbor(body);
  } catch (error) {
    if (!(error instanceof CborError)) throw error;
    throw new ServiceFault('SerializationException', `The request body is ${error.message}.`);
  }
}
