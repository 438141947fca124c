/** Where a node may write and listen, as its settings have it. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { confinementOf, tellConfined, witnessPlaces } from '../../src/cli/confine';
import { readPrimaryConfig } from '../../src/config/config';
import type { Confinement } from '../../src/machine/native';
import { lineLogger } from '../../src/observe/logger';

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
    const maps = path.join(folder, 'maps');
    expect(writable('--disk', image, '--disk-map-dir', maps)).toEqual([]);
    mkdirSync(maps);
    expect(writable('--disk', image, '--disk-map-dir', maps)).toEqual([image, maps]);
    expect(writable('--disk', `${image},ro`)).toEqual([]);
    expect(writable('--disk', path.join(folder, 'none.img'))).toEqual([]);
  });

  test('a disk by a link: its map lies beside what the link names', () => {
    const links = path.join(folder, 'links');
    mkdirSync(links);
    const link = path.join(links, 'disk.img');
    symlinkSync(image, link);
    const { writable } = confinement('--witness', 'none', '--disk', link);
    expect(writable.slice(DEVICES.length)).toEqual([link, folder]);
  });

  test('a witness’s directory, and what the mount that it is on lies in', () => {
    const web = path.join(folder, 'mnt', 'witness', 'web');
    mkdirSync(web, { recursive: true });
    const onAnother = (mount: string) => (place: string) =>
      `${place}/`.startsWith(`${mount}/`) ? 2 : 1;
    const mount = path.dirname(web);
    expect(witnessPlaces(web, onAnother(mount))).toEqual([web, path.dirname(mount)]);
    expect(witnessPlaces(web, onAnother(web))).toEqual([web, mount]);
    // On the root file system, or on one that is mounted in the root directory: no more than it.
    expect(witnessPlaces(web, () => 1)).toEqual([web]);
    expect(witnessPlaces(web, onAnother(`/${web.split('/')[1]}`))).toEqual([web]);
    expect(witnessPlaces('/no/such/witness')).toEqual(['/no/such/witness']);
  });

  test('a console’s file, or the directory that it will be made in', () => {
    const none = ['--witness', 'none'];
    const last = (...words: string[]): string | undefined =>
      confinement(...none, ...words).writable.at(-1);
    expect(last('--console', `file:${image}`)).toBe(image);
    expect(last('--console', `file:${folder}/new`)).toBe(folder);
  });
});

describe('what is said of it', () => {
  const said = (landlock: number, forbidden = false): string => {
    let text = '';
    const log = lineLogger((line) => {
      text += line.slice('2026-01-02T03:04:05.678Z '.length);
    });
    tellConfined({ landlock, forbidden }, log);
    return text;
  };

  test('who forbids Landlock is not mistaken for a kernel without it', () => {
    expect(said(0, true)).toMatch(
      /^warn {2}Landlock is forbidden here, .*landlock_restrict_self\n$/,
    );
    expect(said(0)).toMatch(/^info {2}this kernel has no Landlock/);
  });

  test('that it holds, and how much of it', () => {
    expect(said(4)).toMatch(/^info {2}this kernel has an old Landlock: .* landlock=4\n$/);
    expect(said(5)).toBe('info  this process is confined by Landlock landlock=5\n');
  });
});
