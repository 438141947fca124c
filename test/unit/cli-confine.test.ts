/** Where a node may write and listen, as its settings have it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { confinementOf } from '../../src/cli/confine';
import { readPrimaryConfig } from '../../src/config/config';
import type { Confinement } from '../../src/machine/native';

const KVM = ['--kernel', 'k', '--tap', 'tap0'];
const DEVICES = ['/dev/kvm', '/dev/net/tun', '/dev/null'];

function confinement(...words: string[]): Confinement {
  const request = readPrimaryConfig([...KVM, ...words]);
  if (request.kind !== 'run') throw new Error('no command');
  return confinementOf(request.config);
}

describe('what a node may write', () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-confine-'));
  const image = path.join(folder, 'disk.img');
  beforeAll(() => writeFileSync(image, Buffer.alloc(4096)));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('nothing but its devices, when its settings name nothing', () => {
    expect(confinement('--witness', 'none')).toEqual({ writable: DEVICES, bindPorts: [] });
  });

  test('the directories of witness and sockets, and the ports it listens at', () => {
    const words = [
      ...['--witness', 'file:/srv/witness', '--control', '/run/romulus/web/control.sock'],
      ...['--console', 'unix:/run/romulus/web/console.sock', '--listen', '127.0.0.1:7001'],
      ...['--http', '127.0.0.1:0', '--standby', '127.0.0.1:7002'],
    ];
    expect(confinement(...words)).toEqual({
      writable: [...DEVICES, '/srv/witness', '/run/romulus/web', '/run/romulus/web'],
      bindPorts: [7001, 0],
    });
  });

  test('a disk, and where its map is: beside a file, or where it is said', () => {
    const none = ['--witness', 'none'];
    const writable = (...words: string[]): readonly string[] =>
      confinement(...none, ...words).writable.slice(DEVICES.length);
    expect(writable('--disk', image)).toEqual([image, folder]);
    expect(writable('--disk', image, '--disk-map-dir', '/srv/maps')).toEqual([image, '/srv/maps']);
    // A block device: never the directory of all devices.
    expect(writable('--disk', '/dev/null')).toEqual(['/dev/null']);
  });

  test('a console’s file, or the directory that it will be made in', () => {
    const none = ['--witness', 'none'];
    const last = (...words: string[]): string | undefined =>
      confinement(...none, ...words).writable.at(-1);
    expect(last('--console', `file:${image}`)).toBe(image);
    expect(last('--console', `file:${folder}/new`)).toBe(folder);
  });
});
