import { randomUUID } from 'node:crypto';
import * as http from 'node:http';
import * as http2 from 'node:http2';
import * as net from 'node:net';

import { type Clock, sleep } from '@shardline/shared';

import type { KinesisEngine, Output } from './engine/engine.js';
import { ServiceFault } from './engine/service-fault.js';
import type { ShardSubscription } from './engine/subscription.js';
import type { Input } from './engine/validation.js';
import { faultError, type Faults } from './faults.js';
import { eventFrame, exceptionFrame, INITIAL_RESPONSE } from './protocol/event-stream.js';
import { parseJsonRequest, toJson } from './protocol/json.js';

type Request = http.IncomingMessage | http2.Http2ServerRequest;
type Response = http.ServerResponse | http2.Http2ServerResponse;

const TARGET_PREFIX = 'Kinesis_20131202.';
const JSON_TYPE = 'application/x-amz-json-1.1';
const EVENT_STREAM_TYPE = 'application/vnd.amazon.eventstream';
/** 10 MiB of data as base64, keys and structure. */
const MAX_BODY_BYTES = 24 * 2 ** 20;
/** First bytes of a client that speaks HTTP/2 without TLS. */
const HTTP2_PREFACE = Buffer.from('PRI * HTTP/2.0');
/** On an idle shard a subscription still gives an event. */
const HEARTBEAT_MS = 5_000;
const WINDOW_BYTES = 16 * 2 ** 20;

export interface KinesisServerOptions {
  readonly engine: KinesisEngine;
  readonly faults: Faults;
  readonly clock: Clock;
  /** 0 takes any free port. */
  readonly port: number;
}

/** Serves an engine over HTTP/1.1 and HTTP/2 without TLS, on one port of the loopback interface. */
export class KinesisServer {
  readonly #options: KinesisServerOptions;
  readonly #http1: http.Server;
  readonly #http2: http2.Http2Server;
  readonly #listener: net.Server;
  readonly #sockets = new Set<net.Socket>();

  constructor(options: KinesisServerOptions) {
    this.#options = options;
    const handle = (request: Request, response: Response): void => {
      // A caller that goes away is no error of the server's.
      response.on('error', () => {});
      this.#handle(request, response).catch((error: unknown) => {
        const fault =
          error instanceof ServiceFault
            ? error
            : new ServiceFault('InternalFailure', String(error), 500);
        respondWithFault(response, fault);
      });
    };
    this.#http1 = http.createServer(handle);
    // Keep-alive connections of idle clients outlive the default of 5 s.
    this.#http1.keepAliveTimeout = 120_000;
    this.#http2 = http2.createServer(
      {
        maxSessionMemory: 1_000,
        settings: { initialWindowSize: 2 ** 21, maxConcurrentStreams: 1_000 },
      },
      handle,
    );
    this.#http2.on('session', (session) => {
      session.on('error', () => {});
      session.setLocalWindowSize(WINDOW_BYTES);
    });
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
      const speaksHttp2 = first.subarray(0, HTTP2_PREFACE.length).equals(HTTP2_PREFACE);
      (speaksHttp2 ? this.#http2 : this.#http1).emit('connection', socket);
    });
  }

  async #handle(request: Request, response: Response): Promise<void> {
    const body = await readBody(request);
    if (!body) {
      response.writeHead(413).end();
      return;
    }
    const target = request.headers['x-amz-target'];
    if (
      request.method !== 'POST' ||
      typeof target !== 'string' ||
      !target.startsWith(TARGET_PREFIX)
    ) {
      throw new ServiceFault('UnknownOperationException', 'No operation is named by X-Amz-Target.');
    }
    const operation = target.slice(TARGET_PREFIX.length);
    if (!request.headers['content-type']?.startsWith(JSON_TYPE)) {
      throw new ServiceFault('SerializationException', `The content type must be ${JSON_TYPE}.`);
    }
    requireSignature(request);
    const input = parseJsonRequest(body);
    const output = await this.#execute(operation, input, response);
    if (output) respond(response, 200, toJson(output));
  }

  /** Carries out one operation with its fault, if any. Undefined if the response is dealt with. */
  async #execute(operation: string, input: Input, response: Response): Promise<Output | undefined> {
    const { engine, faults, clock } = this.#options;
    const fault = faults.next(operation, input);
    if (fault?.kind === 'error') throw faultError(fault);
    if (fault?.kind === 'drop') {
      cut(response);
      return undefined;
    }
    if (fault?.kind === 'delay') await sleep(clock, fault.delayMs);
    if (operation === 'SubscribeToShard') {
      this.#stream(engine.subscribe(input), response);
      return undefined;
    }
    const output =
      fault?.kind === 'rejectRecords'
        ? faults.putSome(engine, input, fault)
        : engine.execute(operation, input);
    if (fault?.kind === 'errorAfter') throw faultError(fault);
    if (fault?.kind === 'dropAfter') {
      cut(response);
      return undefined;
    }
    return output;
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
      timer = clock.schedule(Math.min(HEARTBEAT_MS, subscription.remainingMs), () => {
        if (!isBlocked && subscription.remainingMs > 0) {
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
  if (authorization !== undefined || request.url?.includes('X-Amz-Signature=')) return;
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

function respondWithFault(response: Response, fault: ServiceFault): void {
  respond(response, fault.status, JSON.stringify({ __type: fault.name, message: fault.message }));
}

function respond(response: Response, status: number, json: string): void {
  if (response.headersSent) return;
  const body = Buffer.from(json === '{}' ? '' : json);
  response.writeHead(status, {
    ...responseHeaders(),
    'content-type': JSON_TYPE,
    'content-length': body.length,
  });
  (response as http.ServerResponse).end(body);
}

function responseHeaders(): Record<string, string> {
  return { 'x-amzn-requestid': randomUUID() };
}

function cut(response: Response): void {
  if ('stream' in response && response.stream)
    response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  else (response as http.ServerResponse).socket?.destroy();
}
