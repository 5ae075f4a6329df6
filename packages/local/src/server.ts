import { randomBytes, randomUUID } from 'node:crypto';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as net from 'node:net';

import { CBOR_CONTENT_TYPE, type Clock, encodeCbor, sleep } from '@shardline/shared';

import type { KinesisEngine, Output } from './engine/engine.js';
import { ServiceFault } from './engine/service-fault.js';
import type { ShardSubscription } from './engine/subscription.js';
import type { Input } from './engine/validation.js';
import { faultError, type Faults } from './faults.js';
import { parseCborRequest } from './protocol/cbor-request.js';
import { eventFrame, exceptionFrame, INITIAL_RESPONSE } from './protocol/event-stream.js';
import { parseJsonRequest, toJson } from './protocol/json.js';
import type { TlsPair } from './tls.js';

type Request = http.IncomingMessage | http2.Http2ServerRequest;
type Response = http.ServerResponse | http2.Http2ServerResponse;

const TARGET_PREFIX = 'Kinesis_20131202.';
const EVENT_STREAM_TYPE = 'application/vnd.amazon.eventstream';
/** 10 MiB of data as base64, keys and structure. */
const MAX_BODY_BYTES = 24 * 2 ** 20;
/** First bytes of a client that speaks HTTP/2 without TLS. */
const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0');
/** First byte of a client that speaks TLS. */
const TLS_HANDSHAKE = 0x16;
/** On an idle shard a subscription still gives an event. */
const HEARTBEAT_MS = 5_000;
const WINDOW_BYTES = 16 * 2 ** 20;

/** How requests and answers are written. */
interface Encoding {
  readonly contentType: string;
  readonly decode: (body: Buffer) => Input;
  readonly encode: (output: unknown) => Buffer;
}

const JSON_ENCODING: Encoding = {
  contentType: 'application/x-amz-json-1.1',
  decode: parseJsonRequest,
  encode: (output) => Buffer.from(toJson(output)),
};

const CBOR_ENCODING: Encoding = {
  contentType: CBOR_CONTENT_TYPE,
  decode: parseCborRequest,
  encode: encodeCbor,
};

/** What was asked and answered, for logs. */
export interface RequestLogEntry {
  readonly operation: string;
  readonly status: number;
  /** The service's name of the error; undefined if there was none. */
  readonly error: string | undefined;
  readonly durationMs: number;
}

export interface KinesisServerOptions {
  readonly engine: KinesisEngine;
  readonly faults: Faults;
  readonly clock: Clock;
  /** 0 takes any free port. */
  readonly port: number;
  /** With it TLS is served beside cleartext, on the same port. */
  readonly tls: TlsPair | undefined;
  readonly onRequest: ((entry: RequestLogEntry) => void) | undefined;
}

/**
 * Serves an engine on one port of the loopback interface: HTTP/1.1 and HTTP/2, with TLS (by ALPN) and
 * without, JSON and CBOR. The first bytes of a connection tell which.
 */
export class KinesisServer {
  readonly #options: KinesisServerOptions;
  readonly #http1: http.Server;
  readonly #http2: http2.Http2Server;
  readonly #tls: http2.Http2SecureServer | undefined;
  readonly #listener: net.Server;
  readonly #sockets = new Set<net.Socket>();

  constructor(options: KinesisServerOptions) {
    this.#options = options;
    const handle = (request: Request, response: Response): void => {
      // A caller that goes away is no error of the server's.
      response.on('error', () => {});
      void this.#handle(request, response);
    };
    const http2Options = {
      maxSessionMemory: 1_000,
      settings: { initialWindowSize: 2 ** 21, maxConcurrentStreams: 1_000 },
    };
    this.#http1 = http.createServer(handle);
    // Keep-alive connections of idle clients outlive the default of 5 s.
    this.#http1.keepAliveTimeout = 120_000;
    this.#http2 = http2.createServer(http2Options, handle);
    this.#tls =
      options.tls &&
      http2.createSecureServer({ ...http2Options, ...options.tls, allowHTTP1: true }, handle);
    for (const server of [this.#http2, this.#tls]) {
      server?.on('session', (session) => {
        session.on('error', () => {});
        session.setLocalWindowSize(WINDOW_BYTES);
      });
    }
    this.#tls?.on('tlsClientError', () => {});
    this.#listener = net.createServer((socket) => this.#accept(socket));
  }

  /** @returns The port. */
  async listen(): Promise<number> {
    await new Promise<void>((resolve, reject) => {
      this.#listener.once('error', reject);
      this.#listener.listen(this.#options.port, '127.0.0.1', resolve);
    });
    return (this.#listener.address() as net.AddressInfo).port;
  }

  /** Cuts all connections and stops listening. */
  async close(): Promise<void> {
    for (const { subscription } of this.#options.engine.subscriptions.active()) subscription.end();
    const closed = new Promise<void>((resolve) => this.#listener.close(() => resolve()));
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** Cuts all connections, as a network that breaks would. */
  cutConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #accept(socket: net.Socket): void {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    socket.setNoDelay(true);
    // Not `data`: a socket that flows cannot be handed on.
    socket.once('readable', () => {
      const first = socket.read() as Buffer | null;
      if (!first) return;
      socket.unshift(first);
      this.#serverFor(first)?.emit('connection', socket);
    });
  }

  #serverFor(first: Buffer): net.Server | undefined {
    if (first[0] === TLS_HANDSHAKE) return this.#tls;
    const speaksHttp2 = first.subarray(0, HTTP2_PREFACE.length).equals(HTTP2_PREFACE);
    return speaksHttp2 ? this.#http2 : this.#http1;
  }

  async #handle(request: Request, response: Response): Promise<void> {
    const { clock, onRequest } = this.#options;
    const startedMs = clock.monotonicMs();
    const operation = operationOf(request);
    const encoding = encodingOf(request);
    let error: ServiceFault | undefined;
    try {
      await this.#answer(request, response, operation, encoding);
    } catch (thrown) {
      error =
        thrown instanceof ServiceFault
          ? thrown
          : new ServiceFault('InternalFailure', String(thrown), 500);
      const { name, status, message } = error;
      respond(response, status, encoding ?? JSON_ENCODING, { __type: name, message });
    }
    onRequest?.({
      operation: operation ?? '',
      status: response.statusCode,
      error: error?.name,
      durationMs: clock.monotonicMs() - startedMs,
    });
  }

  async #answer(
    request: Request,
    response: Response,
    operation: string | undefined,
    encoding: Encoding | undefined,
  ): Promise<void> {
    const body = await readBody(request);
    if (!body) {
      response.writeHead(413).end();
      return;
    }
    if (!encoding) {
      response.writeHead(404, { 'content-type': 'text/plain' });
      (response as http.ServerResponse).end('<UnknownOperationException/>\n');
      return;
    }
    if (operation === undefined) {
      throw new ServiceFault('UnknownOperationException', 'No operation is named by X-Amz-Target.');
    }
    requireSignature(request);
    const output = await this.#execute(operation, encoding, encoding.decode(body), response);
    if (output) respond(response, 200, encoding, output);
  }

  /** Carries out one operation with its fault, if any. Undefined if the response is dealt with. */
  async #execute(
    operation: string,
    encoding: Encoding,
    input: Input,
    response: Response,
  ): Promise<Output | undefined> {
    const { engine, faults, clock } = this.#options;
    const fault = faults.next(operation, input);
    if (fault?.kind === 'error') throw faultError(fault);
    if (fault?.kind === 'drop') {
      cut(response);
      return undefined;
    }
    if (fault?.kind === 'delay') await sleep(clock, fault.delayMs);
    if (operation === 'SubscribeToShard') {
      const repeated = fault?.kind === 'repeat' ? fault.records : 0;
      this.#stream(engine.subscribe(input, repeated), response);
      return undefined;
    }
    const output =
      fault?.kind === 'rejectRecords'
        ? faults.putSome(engine, input, fault)
        : engine.execute(operation, input);
    if (fault?.kind === 'errorAfter') throw faultError(fault);
    if (fault?.kind === 'dropAfter') cut(response);
    else if (fault?.kind === 'truncate') truncate(response, encoding, output);
    else return output;
    return undefined;
  }

  /** Sends a subscription's events as fast as the connection takes them, until either ends. */
  #stream(subscription: ShardSubscription, response: Response): void {
    const { clock } = this.#options;
    let isBlocked = false;
    let timer = clock.schedule(0, () => {});
    const finish = (): void => {
      timer.cancel();
      subscription.end();
    };
    const pump = (): void => {
      if (isBlocked || response.writableEnded) return;
      timer.cancel();
      for (let event = subscription.next(); event; event = subscription.next()) {
        isBlocked = !write(response, eventFrame(toJson(event)));
        const isLast = event.ContinuationSequenceNumber === undefined;
        if (isLast) subscription.end();
        if (isLast || isBlocked) break;
      }
      if (subscription.isEnded || subscription.remainingMs <= 0) {
        const { fault } = subscription;
        if (fault) write(response, exceptionFrame(fault.name, fault.message));
        finish();
        response.end();
        return;
      }
      // Held back by its rate it goes on as soon as that allows.
      const { waitMs } = subscription;
      const pauseMs = waitMs > 0 ? waitMs : HEARTBEAT_MS;
      timer = clock.schedule(Math.min(pauseMs, subscription.remainingMs), () => {
        if (waitMs === 0 && !isBlocked && subscription.remainingMs > 0) {
          isBlocked = !write(response, eventFrame(toJson(subscription.heartbeat())));
        }
        pump();
      });
    };
    response.on('drain', () => {
      isBlocked = false;
      pump();
    });
    response.on('close', finish);
    response.writeHead(200, { ...responseHeaders(), 'content-type': EVENT_STREAM_TYPE });
    write(response, INITIAL_RESPONSE);
    // Records that arrive together go out together.
    let isScheduled = false;
    subscription.onReady(() => {
      if (isScheduled) return;
      isScheduled = true;
      queueMicrotask(() => {
        isScheduled = false;
        pump();
      });
    });
    pump();
  }
}

function write(response: Response, frame: Buffer): boolean {
  return (response as http.ServerResponse).write(frame);
}

function requireSignature(request: Request): void {
  const { authorization } = request.headers;
  if (authorization || request.url?.includes('X-Amz-Signature=')) return;
  throw new ServiceFault('MissingAuthenticationTokenException', 'Missing Authentication Token');
}

async function readBody(request: Request): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks);
}

function operationOf(request: Request): string | undefined {
  const target = request.headers['x-amz-target'];
  if (request.method !== 'POST' || typeof target !== 'string') return undefined;
  return target.startsWith(TARGET_PREFIX) ? target.slice(TARGET_PREFIX.length) : undefined;
}

function encodingOf(request: Request): Encoding | undefined {
  const contentType = request.headers['content-type'] ?? '';
  return [JSON_ENCODING, CBOR_ENCODING].find((encoding) =>
    contentType.startsWith(encoding.contentType),
  );
}

function respond(response: Response, status: number, encoding: Encoding, output: Output): void {
  if (response.headersSent) return;
  const body = Object.keys(output).length > 0 ? encoding.encode(output) : Buffer.alloc(0);
  writeHead(response, status, encoding, body.length);
  (response as http.ServerResponse).end(body);
}

/** Announces a whole answer, sends half of it and goes away. */
function truncate(response: Response, encoding: Encoding, output: Output): void {
  const body = encoding.encode(output);
  writeHead(response, 200, encoding, body.length);
  (response as http.ServerResponse).write(body.subarray(0, body.length >>> 1), () => cut(response));
}

function writeHead(response: Response, status: number, encoding: Encoding, bytes: number): void {
  response.writeHead(status, {
    ...responseHeaders(),
    'content-type': encoding.contentType,
    'content-length': bytes,
  });
}

function responseHeaders(): Record<string, string> {
  return {
    'x-amzn-requestid': randomUUID(),
    'x-amz-id-2': randomBytes(72).toString('base64'),
  };
}

function cut(response: Response): void {
  if ('stream' in response && response.stream)
    response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  else (response as http.ServerResponse).socket?.destroy();
}
