/** The flags about disks, and where the map of each image is kept. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { diskFiles } from '../../src/cli/disk-files';
import { exitCodeOfEnd, exitCodeOfStart, exitCodeOfStop } from '../../src/cli/exit-codes';
import { FtError } from '../../src/common/errors';
import type { DiskConfig } from '../../src/config/compound-values';
import { readPrimaryConfig, readStandbyConfig } from '../../src/config/config';
import { ExitCode, helpText } from '../../src/config/help';

const KVM = ['--kernel', 'k.elf', '--tap', 'tap0', '--witness', 'none'];

function disksOf(...words: string[]): readonly DiskConfig[] {
  const request = readPrimaryConfig([...KVM, ...words]);
  if (request.kind !== 'run') throw new Error('expected a run');
  return request.config.guest.disks;
}

function errorOf(act: () => unknown): FtError {
  try {
    act();
  } catch (thrown) {
    if (thrown instanceof FtError) return thrown;
  }
  throw new Error('nothing was refused');
}

describe('--disk', () => {
  test('none, one, four in order, read-only ones', () => {
    expect(disksOf()).toEqual([]);
    expect(disksOf('--disk', 'a.img')).toEqual([{ path: 'a.img', readOnly: false }]);
    const four = ['a', '/dev/sdb', 'c.iso,ro', 'x=y'].flatMap((text) => ['--disk', text]);
    expect(disksOf(...four)).toEqual([
      { path: 'a', readOnly: false },
      { path: '/dev/sdb', readOnly: false },
      { path: 'c.iso', readOnly: true },
      { path: 'x=y', readOnly: false },
    ]);
  });

  test('a standby takes it as well', () => {
    const words = ['--tap', 't', '--witness', 'none', '--listen', '127.0.0.1:1', '--disk', 'a'];
    const request = readStandbyConfig([...words, '--disk-map-dir', '/maps']);
    expect(request.kind).toBe('run');
    if (request.kind !== 'run') return;
    expect(request.config.guest.disks).toEqual([{ path: 'a', readOnly: false }]);
    expect(request.config.guest.diskMapDir).toBe('/maps');
  });

  test.each<[string, string[], string]>([
    ['nothing', [''], 'PATH'],
    ['only a suffix', [',ro'], 'PATH'],
    ['an unknown suffix', ['a.img,rw'], 'PATH,ro'],
    ['an empty suffix', ['a.img,'], 'PATH,ro'],
    ['two suffixes', ['a.img,ro,ro'], 'PATH,ro'],
    ['a fifth', ['a', 'b', 'c', 'd', 'e'], 'at most 4'],
    ['one twice', ['a', 'b', 'a'], 'another image'],
    ['one twice, written in two ways', ['a', './b/../a'], 'another image'],
    ['one twice, once read-only', ['a', 'a,ro'], 'another image'],
  ])('%s is refused by the flag', (_name, texts, words) => {
    const error = errorOf(() => disksOf(...texts.flatMap((text) => [`--disk=${text}`])));
    expect(error.code).toBe('FT_ERR_CONFIG');
    expect(error.message).toContain('--disk');
    expect(error.message).toContain(words);
    expect(exitCodeOfStart(error)).toBe(2);
  });

  test('not for a simulated guest', () => {
    const words = ['--machine', 'simulated', '--sim-port', '7', '--witness', 'none'];
    expect(errorOf(() => readPrimaryConfig([...words, '--disk', 'a'])).message).toContain('kvm');
  });

  test('both commands tell of it', () => {
    expect(helpText('ft-primary')).toContain('--disk PATH[,ro]');
    expect(helpText('ft-standby')).toContain('--disk PATH[,ro]');
    expect(helpText('ft-standby')).toContain('--disk-map-dir DIR');
  });
});

describe('where the map is kept', () => {
  let folder = '';
  const at = (name: string): string => path.join(folder, name);
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'romulus-disks-'));
    writeFileSync(at('a.img'), 'image');
    mkdirSync(at('maps'));
    mkdirSync(at('other'));
    writeFileSync(at('other/a.img'), 'image');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const mapOf = (name: string, dir?: string, readOnly = false): string | undefined =>
    diskFiles([{ path: at(name), readOnly }], dir)[0]?.mapPath;

  test('beside an image that is a file, whatever link leads to it', () => {
    expect(mapOf('a.img')).toBe(at('a.img.ftmap'));
    symlinkSync(at('a.img'), at('link'));
    expect(mapOf('link')).toBe(at('a.img.ftmap'));
  });

  test('in the directory given; images of one name do not meet there', () => {
    const [one, two] = [mapOf('a.img', at('maps')), mapOf('other/a.img', at('maps'))];
    expect(path.dirname(one ?? '')).toBe(at('maps'));
    expect(one).toMatch(/\/a\.img\.[0-9a-f]{8}\.ftmap$/);
    expect(two).not.toBe(one);
    symlinkSync(at('a.img'), at('link'));
    expect(mapOf('link', at('maps'))).toBe(one);
  });

  test('nowhere for a read-only image', () => {
    expect(mapOf('a.img', undefined, true)).toBe('');
    expect(mapOf('a.img', at('maps'), true)).toBe('');
  });

  test('an image or a directory that is not there is this host’s fault, and said so', () => {
    const image = errorOf(() => mapOf('no.img'));
    expect(image.code).toBe('FT_ERR_DISK_OPEN');
    expect(image.message).toContain(at('no.img'));
    const directory = errorOf(() => mapOf('a.img', at('a.img')));
    expect(directory.code).toBe('FT_ERR_DISK_MAP');
    expect([image, directory].map(exitCodeOfStart)).toEqual([3, 3]);
  });
});

test('a disk that ends the node is this host’s fault, not a defect', () => {
  const error = new FtError('FT_ERR_DISK_IO', 'The disk is broken.');
  expect(exitCodeOfEnd({ kind: 'machine-error', error })).toBe(3);
  expect(exitCodeOfEnd({ kind: 'promotion-failed', error })).toBe(3);
  expect(exitCodeOfEnd({ kind: 'promotion-failed', error: new FtError('FT_ERR_X', '') })).toBe(70);
});

test('an end whose disks could not be closed is not in order', () => {
  const error = new FtError('FT_ERR_DISK_STUCK', 'Nothing is written.');
  const codes = [ExitCode.ok, ExitCode.guestOff, ExitCode.guestReset, ExitCode.fenced];
  expect(codes.map((code) => exitCodeOfStop(code, error))).toEqual([3, 3, 3, 4]);
  expect(codes.map((code) => exitCodeOfStop(code, undefined))).toEqual(codes);
});
