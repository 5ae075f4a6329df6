import { existsSync } from 'node:fs';

import { consumerBench } from './consumer.js';
import { costBench } from './cost.js';
import { decoderBench } from './decoder.js';
import { dynamodbBench } from './dynamodb.js';
import { failoverBench } from './failover.js';
import { fanOutBench } from './fan-out.js';
import { growthBench } from './growth.js';
import { environment, writeResults } from './harness.js';
import { idleShardsBench } from './idle-shards.js';
import { latencyBench } from './latency.js';
import { localBench } from './local.js';
import { memoryBench } from './memory.js';
import { pausesBench } from './pauses.js';
import { producerBench } from './producer.js';
import { putPathBench } from './put-path.js';
import { wireBench } from './wire.js';

/** Arguments that are files are log lines for the benches that want some. */
const files = process.argv.slice(2).filter((argument) => existsSync(argument));

const BENCHES: Readonly<Record<string, () => Promise<void>>> = {
  'put-path': putPathBench,
  producer: producerBench,
  decoder: decoderBench,
  consumer: consumerBench,
  'fan-out': fanOutBench,
  memory: memoryBench,
  growth: growthBench,
  'idle-shards': idleShardsBench,
  pauses: pausesBench,
  latency: latencyBench,
  failover: failoverBench,
  dynamodb: dynamodbBench,
  cost: () => costBench(files),
  wire: wireBench,
  local: localBench,
};

const named = process.argv.slice(2).filter((argument) => !files.includes(argument));
const unknown = named.filter((name) => !Object.hasOwn(BENCHES, name));
if (unknown.length > 0) {
  console.error(`no bench ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}`);
  process.exit(2);
}

console.log(environment());
for (const name of named.length > 0 ? named : Object.keys(BENCHES)) await BENCHES[name]?.();
writeResults('bench/results.json');
console.log('\nAs JSON: bench/results.json');
process.exit(0);
