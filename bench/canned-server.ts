import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';

import { makeCertificate } from '../packages/local/src/tls.js';

const JSON_CONTENT_TYPE = 'application/x-amz-json-1.1';

/** Answers JSON with the first file it is started with and CBOR with the second, over TLS, in a process of its own. */
const [json, cbor] = process.argv.slice(2).map((file) => readFileSync(file)) as [Buffer, Buffer];
const pair = await makeCertificate();
const server = createServer(pair, (request, response) => {
  request.resume();
  request.on('end', () => {
    const contentType = request.headers['content-type'] ?? JSON_CONTENT_TYPE;
    const body = contentType === JSON_CONTENT_TYPE ? json : cbor;
    response.writeHead(200, { 'content-type': contentType, 'content-length': body.length });
    response.end(body);
  });
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as AddressInfo;
  console.log(JSON.stringify({ port, certificate: pair.cert }));
});
