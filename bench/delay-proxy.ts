import * as net from 'node:net';

/** A network of some length between clients and a server on the loopback interface. */
export class DelayProxy {
  readonly #server: net.Server;

  /** @param oneWayMs - How long everything is on its way, in either direction. */
  constructor(targetPort: number, oneWayMs: number) {
    this.#server = net.createServer((client) => {
      const server = net.connect(targetPort, '127.0.0.1');
      forward(client, server, oneWayMs);
      forward(server, client, oneWayMs);
    });
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as net.AddressInfo).port;
  }

  close(): void {
    this.#server.close();
  }
}

function forward(from: net.Socket, to: net.Socket, oneWayMs: number): void {
  from.setNoDelay(true);
  from.on('data', (chunk) => setTimeout(() => to.writable && to.write(chunk), oneWayMs));
  from.on('end', () => setTimeout(() => to.end(), oneWayMs));
  from.on('close', () => setTimeout(() => to.destroy(), oneWayMs));
  from.on('error', () => {});
}
