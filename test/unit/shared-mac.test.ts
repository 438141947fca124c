/** A guest with the default address on a bridge is warned of, and no other. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { warnOfSharedMac } from '../../src/cli/shared-mac';
import { type Logger, silentLogger } from '../../src/common/logger';
import { readPrimaryConfig } from '../../src/config/config';

describe('a guest with the default address', () => {
  let devices = '';

  beforeEach(() => {
    devices = mkdtempSync(path.join(os.tmpdir(), 'ft-devices-'));
    mkdirSync(path.join(devices, 'br0'));
    mkdirSync(path.join(devices, 'alone'));
    mkdirSync(path.join(devices, 'tap-web', 'brport'), { recursive: true });
    symlinkSync('../../br0', path.join(devices, 'tap-web', 'brport', 'bridge'));
  });

  afterEach(() => {
    rmSync(devices, { recursive: true });
  });

  const warnings = (...words: string[]): unknown[] => {
    const request = readPrimaryConfig([...words, '--witness', 'none', '--kernel', 'k'], {});
    if (request.kind !== 'run') throw new Error('These words run a node.');
    const facts: unknown[] = [];
    const warn: Logger['warn'] = (_message, fact) => facts.push(fact);
    warnOfSharedMac(request.config.guest, { ...silentLogger, warn }, devices);
    return facts;
  };

  test('is warned of where its TAP is on a bridge', () => {
    const facts = { mac: '52:54:00:12:34:56', bridge: 'br0' };
    expect(warnings('--tap', 'tap-web')).toEqual([facts]);
  });

  test('is not where it is alone, elsewhere, or has an address of its own', () => {
    expect(warnings('--tap', 'alone')).toEqual([]);
    expect(warnings('--tap', 'absent')).toEqual([]);
    expect(warnings('--tap', 'tap-web', '--netns', 'there')).toEqual([]);
    expect(warnings('--tap', 'tap-web', '--mac', '52:54:00:00:00:02')).toEqual([]);
    expect(warnings('--machine', 'simulated', '--sim-port', '7000')).toEqual([]);
  });
});
