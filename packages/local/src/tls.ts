/** A certificate and its key, PEM. */
export interface TlsPair {
  readonly cert: string;
  readonly key: string;
}

/** Makes a certificate for the loopback interface, signed by itself and good for a year. */
export async function makeCertificate(): Promise<TlsPair> {
  // Loaded when it is needed: most services run without TLS.
  const { generate } = await import('selfsigned');
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    extensions: [
      { name: 'basicConstraints', cA: true, critical: true },
      {
        name: 'subjectAltName',
        altNames: [
          { type: 2, value: 'localhost' },
          { type: 7, ip: '127.0.0.1' },
        ],
      },
    ],
  });
  return { cert: made.cert, key: made.private };
}
