import { subscribe, unsubscribe } from 'node:diagnostics_channel';

import { publishDiagnostics } from '@shardline/shared';
import { describe, expect, it } from 'vitest';

describe('publishDiagnostics', () => {
  it('builds a message only while somebody listens', () => {
    let built = 0;
    const heard: unknown[] = [];
    const build = () => {
      built += 1;
      return { workerId: 'w', leaseKey: 'k', change: 'taken' as const };
    };
    publishDiagnostics('shardline:consumer:lease', build);
    expect(built).toBe(0);
    const listener = (message: unknown): void => void heard.push(message);
    subscribe('shardline:consumer:lease', listener);
    publishDiagnostics('shardline:consumer:lease', build);
    unsubscribe('shardline:consumer:lease', listener);
    publishDiagnostics('shardline:consumer:lease', build);
    expect(built).toBe(1);
    expect(heard).toEqual([{ workerId: 'w', leaseKey: 'k', change: 'taken' }]);
  });
});
