import { ServiceFault } from '../engine/service-fault.js';
import type { Input } from '../engine/validation.js';

/** Members that hold a timestamp, wherever they stand in a request. */
const TIMESTAMPS = new Set(['Timestamp', 'StreamCreationTimestamp']);

/**
 * A request body in AWS JSON 1.1: blobs are base64, timestamps epoch seconds.
 *
 * @throws ServiceFault `SerializationException`.
 */
export function parseJsonRequest(body: Buffer): Input {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString('utf8'));
  } catch {
    throw new ServiceFault('SerializationException', 'The request body is not JSON.');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new ServiceFault('SerializationException', 'The request body is not a structure.');
  }
  return decodeStructure(parsed as Record<string, unknown>);
}

/** An answer in AWS JSON 1.1. Members that are undefined are left out. */
export function toJson(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  if (Buffer.isBuffer(value)) return `"${value.toString('base64')}"`;
  if (value instanceof Date) return String(value.getTime() / 1000);
  if (Array.isArray(value)) return `[${value.map(toJson).join(',')}]`;
  let members = '';
  for (const key in value) {
    const member = (value as Record<string, unknown>)[key];
    if (member !== undefined) members += `${members && ','}"${key}":${toJson(member)}`;
  }
  return `{${members}}`;
}

function decodeStructure(structure: Record<string, unknown>): Input {
  for (const [name, value] of Object.entries(structure)) {
    if (name === 'Data') structure[name] = decodeBlob(value);
    else if (TIMESTAMPS.has(name)) structure[name] = decodeTimestamp(value);
    else if (name === 'Records' && Array.isArray(value)) value.forEach(decodeMember);
    else if (name === 'ShardFilter' || name === 'StartingPosition') decodeMember(value);
  }
  return structure;
}

function decodeMember(value: unknown): void {
  if (typeof value === 'object' && value !== null)
    decodeStructure(value as Record<string, unknown>);
}

function decodeBlob(value: unknown): unknown {
  if (value === null) return value;
  if (typeof value !== 'string')
    throw new ServiceFault('SerializationException', 'A blob must be a string.');
  const bytes = Buffer.from(value, 'base64');
  // Node skips what is not base64; a lost character shows in the length.
  const padding = value.endsWith('==') ? 2 : value.endsWith('=') ? 1 : 0;
  if (value.length % 4 !== 0 || bytes.length !== (value.length / 4) * 3 - padding) {
    throw new ServiceFault('SerializationException', 'A blob is not valid base64.');
  }
  return bytes;
}

function decodeTimestamp(value: unknown): unknown {
  if (value === null) return value;
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    throw new ServiceFault(
      'SerializationException',
      'A timestamp must be a number of epoch seconds.',
    );
  }
  return new Date(Math.round(value * 1000));
}
