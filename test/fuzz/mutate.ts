import type { Random } from '@shardline/shared';

/** Bytes with which parsers are often wrong: bounds of lengths, of signs, of markers. */
const EDGES = [0x00, 0x01, 0x1f, 0x22, 0x7f, 0x80, 0xfe, 0xff];

export function randomBytes(random: Random, count: number): Buffer {
  return Buffer.from(Array.from({ length: count }, () => Math.floor(random() * 256)));
}

/** Changes a sample in a few places: bytes, lengths, order. */
export function mutate(sample: Buffer, random: Random): Buffer {
  let bytes = Buffer.from(sample);
  const at = (): number => Math.floor(random() * (bytes.length + 1));
  for (let change = Math.floor(random() * 5); change >= 0; change -= 1) {
    const [a, b] = [at(), at()].sort((x, y) => x - y) as [number, number];
    const place = a % Math.max(bytes.length, 1);
    switch (Math.floor(random() * 7)) {
      case 0:
        bytes[place] = Math.floor(random() * 256);
        break;
      case 1:
        bytes[place] = EDGES[Math.floor(random() * EDGES.length)] as number;
        break;
      case 2:
        bytes[place] = (bytes[place] ?? 0) ^ (1 << Math.floor(random() * 8));
        break;
      case 3:
        bytes = bytes.subarray(0, a);
        break;
      case 4:
        bytes = Buffer.concat([bytes.subarray(0, a), bytes.subarray(b)]);
        break;
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, b), bytes.subarray(a)]);
        break;
      default:
        bytes = Buffer.concat([
          bytes.subarray(0, a),
          randomBytes(random, Math.floor(random() * 9)),
          bytes.subarray(a),
        ]);
    }
    // A copy: what follows must not change the sample behind a view.
    bytes = Buffer.from(bytes);
  }
  return bytes;
}
