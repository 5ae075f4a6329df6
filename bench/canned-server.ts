import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';

import { makeCertificate } from '../packages/local/src/tls.js';

/** Answers everything with the file it is started with, over TLS, in a process of its own. */
const body = readFileSync(process.argv[2] ?? '');
const pair = await makeCertificate();
const server = createServer(pair, (request, response) => {
  request.resume();
  request.on('end', () => {
    response.writeHead(200, {
      'content-type': 'application/x-amz-json-1.1',
      'content-length': body.length,
    });
    response.end(body);
  });
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo;
  console.log(JSON.stringify({ port, certificate: pair.cert }));
});
