import * as http2 from 'node:http2';

/** A request as the SDK hands it to its transport. */
interface TransportRequest {
  readonly method: string;
  readonly protocol: string;
  readonly hostname: string;
  readonly port?: number | undefined;
  readonly path: string;
  readonly query?: Record<string, string | readonly string[] | null> | undefined;
  readonly headers: Record<string, string>;
  readonly body?: Uint8Array | string | undefined;
}

interface TransportResponse {
  readonly statusCode: number;
  readonly headers: Record<string, string>;
  readonly body: http2.ClientHttp2Stream;
}

export interface SubscriptionHandlerOptions {
  /** What `node:http2` gets besides our windows, such as `ca`. */
  readonly connectOptions?: http2.SecureClientSessionOptions;
}

/**
 * Subscriptions on one connection. Each may leave a whole window of data unread while its handler is
 * slow, and the connection's window has to hold them all, or one slow shard would stop the others.
 */
const STREAMS_PER_CONNECTION = 16;
/** A window is given back by halves, so this lets 25 MB/s of data through at a distance of 50 ms. */
const STREAM_WINDOW_BYTES = 4 * 2 ** 20;
const CONNECTION_WINDOW_BYTES = (STREAMS_PER_CONNECTION + 1) * STREAM_WINDOW_BYTES;
/** Memory a session may use: its windows, and room for what is written. Unit: megabytes. */
const SESSION_MEMORY_MB = 256;

/**
 * An SDK transport for subscriptions: HTTP/2 over a few connections, however many shards, with receive
 * windows sized for distance. The SDK's own opens a connection for each, whose window of 64 KiB holds a
 * shard 50 ms away to 0.4 MB/s.
 */
export class SubscriptionHandler {
  readonly metadata = { handlerProtocol: 'h2' };
  readonly #options: SubscriptionHandlerOptions;
  readonly #connections = new Map<string, Set<Connection>>();

  constructor(options: SubscriptionHandlerOptions = {}) {
    this.#options = options;
  }

  /** How many connections are open. */
  get connectionCount(): number {
    let count = 0;
    for (const connections of this.#connections.values()) count += connections.size;
    return count;
  }

  async handle(
    request: TransportRequest,
    { abortSignal }: { readonly abortSignal?: unknown } = {},
  ): Promise<{ response: TransportResponse }> {
    // The SDK allows for signals of other makes; ours comes from our own adapter.
    const signal = abortSignal as AbortSignal | undefined;
    signal?.throwIfAborted();
    const { protocol, hostname, port } = request;
    const authority = `${protocol}//${hostname}${port === undefined ? '' : `:${port}`}`;
    const response = await this.#connectionTo(authority).request(
      {
        ...request.headers,
        ':method': request.method,
        ':path': pathOf(request),
        ':authority': request.headers['host'] ?? hostname,
        host: undefined,
      },
      request.body,
      signal,
    );
    return { response };
  }

  /** Ends all connections, and with them all subscriptions. */
  destroy(): void {
    for (const connections of this.#connections.values()) {
      for (const connection of connections) connection.destroy();
    }
    this.#connections.clear();
  }

  /** The SDK may ask for changes; there is nothing to change. */
  updateHttpClientConfig(): void {}

  httpHandlerConfigs(): SubscriptionHandlerOptions {
    return this.#options;
  }

  #connectionTo(authority: string): Connection {
    const open = this.#connections.get(authority) ?? new Set<Connection>();
    this.#connections.set(authority, open);
    for (const connection of open) if (connection.hasRoom) return connection;
    const connection = new Connection(authority, this.#options.connectOptions, () => {
      open.delete(connection);
      if (open.size === 0) this.#connections.delete(authority);
    });
    open.add(connection);
    return connection;
  }
}

/** One connection and the subscriptions on it. Closes with the last of them. */
class Connection {
  readonly #session: http2.ClientHttp2Session;
  readonly #onClosed: () => void;
  #streams = 0;
  #isLeaving = false;

  constructor(
    authority: string,
    options: http2.SecureClientSessionOptions | undefined,
    onClosed: () => void,
  ) {
    this.#onClosed = onClosed;
    this.#session = http2.connect(authority, {
      ...options,
      maxSessionMemory: SESSION_MEMORY_MB,
      settings: { enablePush: false, initialWindowSize: STREAM_WINDOW_BYTES },
    });
    this.#session.once('connect', () => {
      this.#session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    });
    // What is wrong with a session its streams say, too; from then on it takes no more.
    this.#session.on('error', () => this.#leave());
    this.#session.on('goaway', () => this.#leave());
    this.#session.on('close', () => this.#leave());
  }

  get hasRoom(): boolean {
    return !this.#isLeaving && this.#streams < STREAMS_PER_CONNECTION;
  }

  /** Resolves with the head of the response. */
  request(
    headers: http2.OutgoingHttpHeaders,
    body: Uint8Array | string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<TransportResponse> {
    const stream = this.#session.request(headers);
    this.#streams += 1;
    const abort = (): void => stream.close(http2.constants.NGHTTP2_CANCEL);
    signal?.addEventListener('abort', abort, { once: true });
    const result = new Promise<TransportResponse>((resolve, reject) => {
      stream.once('response', (received) => {
        resolve({
          statusCode: Number(received[':status']),
          headers: plainHeaders(received),
          body: stream,
        });
      });
      // Later ones reach whoever reads the body.
      stream.on('error', reject);
      stream.once('close', () => {
        signal?.removeEventListener('abort', abort);
        this.#streams -= 1;
        if (this.#streams === 0) this.destroy();
        const reason: unknown = signal?.aborted ? signal.reason : undefined;
        reject(
          reason instanceof Error
            ? reason
            : Object.assign(new Error('the connection ended before the answer'), {
                name: 'ECONNRESET',
              }),
        );
      });
    });
    stream.end(body);
    return result;
  }

  destroy(): void {
    this.#leave();
    this.#session.destroy();
  }

  #leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#onClosed();
  }
}

function pathOf({ path, query }: TransportRequest): string {
  const pairs = Object.entries(query ?? {}).flatMap(([name, value]) =>
    (Array.isArray(value) ? (value as string[]) : [value as string | null]).map(
      (each) => `${encodeURIComponent(name)}=${encodeURIComponent(each ?? '')}`,
    ),
  );
  return pairs.length > 0 ? `${path}?${pairs.join('&')}` : path;
}

function plainHeaders(received: http2.IncomingHttpHeaders): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(received)) {
    if (!name.startsWith(':') && value !== undefined) headers[name] = String(value);
  }
  return headers;
}
