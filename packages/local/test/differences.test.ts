import { readFileSync } from 'node:fs';

import { KinesisEngine } from '@shardline/local';
import { ManualClock } from '@shardline/shared/testing';
import { describe, expect, it } from 'vitest';

/** Each row of the README's table of differences, shown to be true. */
const DIFFERENCES: Readonly<Record<string, (engine: KinesisEngine) => void>> = {
  UpdateShardCount: (engine) => {
    const input = { StreamName: 'orders', TargetShardCount: 3, ScalingType: 'UNIFORM_SCALING' };
    engine.execute('UpdateShardCount', input);
    const widths = (engine.streams.get('orders')?.openShards ?? []).map(
      ({ birth: { range } }) => range.end - range.start,
    );
    expect(new Set(widths.map((width) => width >> 120n)).size).toBe(2);
  },
  encryption: (engine) => {
    engine.execute('StartStreamEncryption', {
      StreamName: 'orders',
      EncryptionType: 'KMS',
      KeyId: 'no-such-key',
    });
    engine.execute('PutRecord', {
      StreamName: 'orders',
      PartitionKey: 'k',
      Data: Buffer.from('plain'),
    });
    const [record] = [...engine.stored('orders').values()].flat();
    expect(record?.Data.toString()).toBe('plain');
  },
  'policies, monitoring, warm throughput, channels': (engine) => {
    const ResourceARN = engine.streamArn('orders');
    engine.execute('PutResourcePolicy', {
      ResourceARN,
      Policy: '{"Statement":[{"Effect":"Deny"}]}',
    });
    engine.execute('PutRecord', { StreamName: 'orders', PartitionKey: 'k', Data: Buffer.alloc(1) });
  },
  'on-demand streams': (engine) => {
    engine.execute('CreateStream', {
      StreamName: 'auto',
      StreamModeDetails: { StreamMode: 'ON_DEMAND' },
    });
    const Records = Array.from({ length: 500 }, () => ({
      PartitionKey: 'k',
      Data: Buffer.alloc(1),
    }));
    for (let call = 0; call < 3; call += 1)
      engine.execute('PutRecords', { StreamName: 'auto', Records });
    expect(engine.streams.get('auto')?.openShards).toHaveLength(4);
  },
  'a refused record': (engine) => {
    const Records = Array.from({ length: 500 }, () => ({
      PartitionKey: 'k',
      Data: Buffer.alloc(1),
    }));
    const failed = [1, 2, 3].map(
      () => engine.execute('PutRecords', { StreamName: 'orders', Records })['FailedRecordCount'],
    );
    expect(failed).toEqual([0, 0, 500]);
  },
  retention: (engine) => {
    engine.execute('PutRecord', { StreamName: 'orders', PartitionKey: 'k', Data: Buffer.alloc(1) });
    const trimmed = engine.streams.get('orders');
    trimmed?.trim(engine.now() + 25 * 3_600_000);
    expect([...engine.stored('orders').values()].flat()).toEqual([]);
  },
};

describe('the differences the README tells of', () => {
  it.each(Object.entries(DIFFERENCES))('%s', (_, show) => {
    const engine = new KinesisEngine({ clock: new ManualClock() });
    engine.execute('CreateStream', { StreamName: 'orders', ShardCount: 2 });
    show(engine);
    expect(engine.streams.has('orders')).toBe(true);
  });

  it('are all of them', () => {
    const text = readFileSync(new URL('../README.md', import.meta.url), 'utf8');
    const table = /\| Unlike the service \|[^]*?\n\n/.exec(text)?.[0] ?? '';
    const rows = [...table.matchAll(/^\| \*\*(.+?)\*\* /gm)].map((match) => match[1]);
    expect(rows).toEqual([...Object.keys(DIFFERENCES), 'signatures', 'TLS']);
  });
});
