import { describe, expect, it } from 'vitest';

import { type LeaseMode, modeOf, startingMode } from '../../src/fleet/lease-mode.js';

const fleet = (layout: 'native' | 'kcl') => ({
  layout,
  leader: undefined,
  changes: 0,
  workerIds: [],
  lagMs: undefined,
});

describe('modeOf', () => {
  it('tells the mode by what is in the table', () => {
    expect(modeOf({ leases: [], fleet: undefined }, undefined)).toBeUndefined();
    expect(modeOf({ leases: [{} as never], fleet: undefined }, undefined)).toBe('kcl2');
    expect(modeOf({ leases: [], fleet: fleet('native') }, undefined)).toBe('native');
    expect(modeOf({ leases: [], fleet: fleet('kcl') }, undefined)).toBe('kcl2');
    expect(modeOf({ leases: [], fleet: undefined }, 'CLIENT_VERSION_3X')).toBe('kcl3');
  });
});

describe('startingMode', () => {
  it.each([
    ['auto', undefined, undefined, 'native'],
    ['auto', 'kcl2', undefined, 'kcl2'],
    ['auto', 'kcl3', 'CLIENT_VERSION_3X', 'kcl3'],
    ['auto', 'native', undefined, 'native'],
    ['native', undefined, undefined, 'native'],
    ['kcl2', undefined, undefined, 'kcl2'],
    ['kcl3', undefined, undefined, 'kcl3'],
    // A KCL 3.x begins as a 2.x on the table of one.
    ['kcl3', 'kcl2', undefined, 'kcl3'],
    ['kcl2', 'kcl3', 'CLIENT_VERSION_2X', 'kcl2'],
  ] as const)(
    'joins with %s a table in mode %s, version %s',
    (wanted, found, version, expected) => {
      expect(startingMode(found, wanted, version)).toBe(expected);
    },
  );

  it.each([
    ['native', 'kcl2', undefined],
    ['native', 'kcl3', 'CLIENT_VERSION_3X'],
    ['kcl2', 'native', undefined],
    ['kcl3', 'native', undefined],
    ['kcl2', 'kcl3', 'CLIENT_VERSION_3X'],
    ['kcl2', 'kcl3', 'CLIENT_VERSION_3X_WITH_ROLLBACK'],
    ['kcl2', 'kcl3', 'CLIENT_VERSION_UPGRADE_FROM_2X'],
  ] as const)('refuses %s on a table in mode %s, and says why', (wanted, found, version) => {
    const start = (): LeaseMode => startingMode(found, wanted, version);
    expect(start).toThrow(
      expect.objectContaining({ code: 'LEASE_MODE_MISMATCH', value: wanted, limit: found }),
    );
    expect(start).toThrow(`is in mode '${found}'`);
  });
});
