import { startLocal } from '@shardline/local';

import { childConfig, STREAM, tell } from './messages.js';

const { ports, dataFolder } = childConfig();
const local = await startLocal({
  streams: [{ name: STREAM, shards: 4 }],
  port: ports.kinesis,
  dynamodbPort: ports.dynamodb,
  dataFolder,
  limits: { resubscribePauseMs: 1_000 },
});
process.once('SIGTERM', () => void local.close().then(() => process.disconnect()));
await tell({ kind: 'ready' });
