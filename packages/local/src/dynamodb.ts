import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import dynalite from 'dynalite';

/** A running DynamoDB that keeps its tables in memory. */
export interface LocalDynamoDb {
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Starts dynalite on the loopback interface.
 *
 * @param port - 0 takes any free one.
 * @param folder - Keeps the tables; without it they are gone at the end.
 */
export async function startDynamoDb(port: number, folder?: string): Promise<LocalDynamoDb> {
  const server: Server = dynalite({
    createTableMs: 0,
    deleteTableMs: 0,
    updateTableMs: 0,
    ...(folder !== undefined && { path: folder }),
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
