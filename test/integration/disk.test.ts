/** Disks of a real pair: images that cannot be used, images that differ, disks that are full. */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { GUEST_ADDRESS, NetworkNamespace } from '../../src/drill/lan/netns';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { beaconPath, Pair, type PairNode, type PairOptions } from '../../src/drill/pair/pair';
import { type Line, WatchedProcess } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';
import { type CommandFlags, commandLine, expectRefusal, runCommand } from './command';

const MIB = 1024 ** 2;
/** The guest writes to this many blocks of 4 KiB in turn: twice what a small disk takes. */
const LOAD = { disk: 0, underWayMax: 4, writesPerSecond: 2000, firstBlock: 1024, blocks: 2048 };
const CLIENTS = {
  clients: 8,
  ratePerSecond: 300,
  disk: { disk: 0, shares: [1, 1, 0], firstBlock: 0, blocksPerClient: 8 },
} as const;

/** A mount namespace of its own, in which `folder` is as `mount` says. */
function inMountNamespace(mount: string): readonly string[] {
  return ['unshare', '-m', 'sh', '-c', `${mount} && exec "$@"`, 'sh'];
}

function readOnly(folder: string): readonly string[] {
  return inMountNamespace(`mount --bind ${folder} ${folder} && mount -o remount,ro,bind ${folder}`);
}

kvmDescribe('an image that cannot be used', () => {
  let netns: NetworkNamespace;
  let folder = '';
  let primary: CommandFlags = {};
  let standby: CommandFlags = {};

  beforeAll(() => {
    netns = NetworkNamespace.make(2);
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-disk-'));
    const witness = mkdtempSync(path.join(folder, 'witness-'));
    const common = { witness: `file:${witness}`, pair: 'disk', tap: 'tap0' };
    primary = { ...common, kernel: beaconPath, cmdline: `ip=${GUEST_ADDRESS}` };
    standby = { ...common, listen: '127.0.0.1:7001' };
  });

  afterAll(() => {
    netns.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const image = (name: string, bytes: number): string => {
    const file = path.join(folder, name);
    writeFileSync(file, '');
    truncateSync(file, bytes);
    return file;
  };

  const refused = async (
    more: CommandFlags,
    words: RegExp,
    wrap: readonly string[] = [],
  ): Promise<void> => {
    const options = { netns: netns.name, wrap };
    expectRefusal(await runCommand('ft-primary', { ...primary, ...more }, options), 3, words);
    expectRefusal(await runCommand('ft-standby', { ...standby, ...more }, options), 3, words);
  };

  test('is not there', async () => {
    await refused({ disk: '/nonexistent.img' }, /\/nonexistent\.img/);
  });

  test('is a folder', async () => {
    await refused({ disk: folder }, /neither a regular file nor a block device/);
  });

  test('is empty, or ends within a sector', async () => {
    await refused({ disk: image('empty.img', 0) }, /empty\.img has 0 bytes/);
    await refused({ disk: image('odd.img', 1000) }, /odd\.img has 1000 bytes.*multiple of 512/);
  });

  test('cannot be written', async () => {
    const sealed = path.join(folder, 'sealed');
    mkdirSync(sealed);
    const file = image('sealed/disk.img', MIB);
    const words = /sealed\/disk\.img.*[Rr]ead-only file system/;
    await refused({ disk: file }, words, readOnly(sealed));
  });

  test('has a map that cannot be written, or no directory for it', async () => {
    const maps = path.join(folder, 'maps');
    mkdirSync(maps);
    const file = image('mapped.img', MIB);
    await refused({ disk: file, 'disk-map-dir': `${maps}/none` }, /maps\/none is no directory/);
    const flags = { disk: file, 'disk-map-dir': maps };
    await refused(flags, /region map .*mapped\.img\.[0-9a-f]+\.ftmap/, readOnly(maps));
  });

  test('is in use by another node, which is not disturbed', async () => {
    const file = image('shared.img', MIB);
    const words = commandLine('ft-primary', { ...primary, disk: file, pair: 'owner' });
    const [command = '', ...args] = [...words, '--status-interval-ms', '100'];
    const owner = new WatchedProcess({ name: 'disk-owner', command, args, netns: netns.name });
    try {
      await owner.waitFor('solo', (line) => line.fields['state'] === 'solo', 8000);
      const other = { disk: file, tap: 'tap1', pair: 'another' };
      await refused(other, /shared\.img is in use by another process/);
      expect(owner.exit).toBeUndefined();
    } finally {
      await owner.stop();
    }
  });
});

kvmDescribe('a pair with disks', () => {
  let pair: Pair;
  let oracle: OracleProcess | undefined;
  let folder = '';

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-disk-'));
  });

  afterEach(async () => {
    await oracle?.close();
    oracle = undefined;
    await pair.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const makePair = (more: Partial<PairOptions>): void => {
    pair = new Pair({ machine: 'kvm', name: 'disk', statusIntervalMs: 50, ...more });
  };

  /** One side's disk is 64 MiB on a file system of 4: it is full soon. */
  const makePairWithSmallDisk = (small: 'a' | 'b'): void => {
    const mountPoint = path.join(folder, 'small');
    mkdirSync(mountPoint);
    const large = path.join(folder, 'large.img');
    writeFileSync(large, '');
    truncateSync(large, 64 * MIB);
    const file = path.join(mountPoint, 'disk.img');
    const mount = `mount -t tmpfs -o size=4m none ${mountPoint} && truncate -s 64M ${file}`;
    makePair({
      wrap: (slot) => (slot.name === small ? inMountNamespace(mount) : []),
      slotFlags: (slot) => ['--disk', slot.name === small ? file : large],
    });
  };

  /** What the primary says when it is refused; a failure tells both sides' stories. */
  const refusalBy = async (primary: PairNode, from = 0): Promise<Line> => {
    const isRefusal = (line: Line): boolean => line.fields['event'] === 'refused';
    try {
      return await primary.process.waitFor('the refusal', isRefusal, 20_000, from);
    } catch {
      throw new Error(`The primary was never refused.\n${pair.story()}`);
    }
  };

  const startOracle = async (): Promise<OracleProcess> => {
    oracle = await OracleProcess.start({ ...pair.guest, ...CLIENTS }, pair.netns?.name);
    await oracle.start();
    return oracle;
  };

  const answersGoOn = async (clients: OracleProcess): Promise<void> => {
    const { answered } = await clients.sample();
    const more = async (): Promise<boolean> => (await clients.sample()).answered > answered + 50;
    await until('more answers', more, 8000);
  };

  const both = (): { active: PairNode; standby: PairNode } => {
    const { active, standby } = pair;
    if (active === undefined || standby === undefined) throw new Error('The pair is not whole.');
    return { active, standby };
  };

  test('keeps every answered write over two failovers, the second by resync', async () => {
    makePair({ diskBytes: 64 * MIB });
    await pair.start();
    const clients = await startOracle();
    await answersGoOn(clients);
    await pair.killActive();
    await answersGoOn(clients);
    await pair.rejoin();
    const { active } = both();
    const isProtected = (f: Readonly<Record<string, unknown>>): boolean =>
      f['state'] === 'protected';
    const line = await active.waitStatus('a line of the protected pair', isProtected, 3000);
    const sent = Number(line.fields['diskSyncBytes']);
    expect(sent).toBeGreaterThan(0);
    expect(sent).toBeLessThan(32 * MIB);
    await answersGoOn(clients);
    await pair.killActive();
    await answersGoOn(clients);
    expect(await clients.finish()).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
    expect(await clients.judgeDisk()).toMatchObject({ lost: 0, torn: 0, damaged: 0, stories: [] });
  });

  test('becomes a copy, byte for byte, though the first standby dies in the midst of it', async () => {
    makePair({ diskBytes: 192 * MIB });
    const images = pair.slots.map((slot) => pair.imagePath(slot));
    // Noise behind the clients' blocks, then holes; the standby's is full of something else.
    const noise = (image: string | undefined, ...words: string[]): void => {
      execFileSync('dd', ['if=/dev/urandom', `of=${image}`, 'bs=1M', 'conv=notrunc', ...words]);
    };
    noise(images[0], 'seek=1', 'count=96');
    noise(images[1], 'count=192');
    const primary = pair.startPrimary();
    await primary.waitState(['solo'], 8000);
    const clients = await startOracle();
    const first = pair.startStandby();
    const isUnderWay = (f: Readonly<Record<string, unknown>>): boolean =>
      f['state'] === 'syncing' && Number(f['diskSyncBytes']) > 8 * MIB;
    await primary.waitStatus('the midst of the sync', isUnderWay, 15_000);
    const from = primary.process.lines.length;
    first.process.kill('SIGKILL');
    await first.process.waitExit(5000);
    await primary.waitState(['solo'], 8000, from);
    await answersGoOn(clients);
    const second = pair.startStandby();
    await primary.waitState(['protected'], 30_000, from);
    await answersGoOn(clients);
    expect(await clients.finish()).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
    const isQuiet = (f: Readonly<Record<string, unknown>>): boolean => f['diskBacklogBytes'] === 0;
    await primary.waitStatus('all written', isQuiet, 8000);
    await second.waitStatus('all written', isQuiet, 8000);
    const same = spawnSync('cmp', [images[0] ?? '', images[1] ?? ''], { encoding: 'utf8' });
    expect([same.status, same.stdout]).toEqual([0, '']);
    expect(await clients.judgeDisk()).toMatchObject({ lost: 0, torn: 0, damaged: 0 });
  });

  test('is none when the images differ in length, until they are mended', async () => {
    makePair({ diskBytes: 8 * MIB });
    truncateSync(pair.imagePath(pair.slots[1]), 4 * MIB);
    const standby = pair.startStandby();
    const primary = pair.startPrimary();
    const refusal = await refusalBy(primary);
    expect(refusal.fields['code']).toBe('FT_ERR_MACHINE_DIFFERS');
    expect(refusal.fields['message']).toMatch(
      /machine\.disks\[0\]\.bytes: here 4194304, there 8388608/,
    );
    expect(primary.state).toBe('solo');
    await standby.process.stop();
    truncateSync(pair.imagePath(pair.slots[1]), 8 * MIB);
    pair.startStandby();
    await primary.waitState(['protected'], 15_000);
  });

  test('is none any more when an image has shrunk meanwhile', async () => {
    makePair({ diskBytes: 8 * MIB });
    await pair.start();
    const { active, standby } = both();
    await standby.process.stop();
    await active.waitState(['solo'], 5000);
    truncateSync(pair.imagePath(pair.slots[1]), 6 * MIB);
    pair.startStandby();
    const { fields } = await refusalBy(active);
    expect(fields['message']).toMatch(/disks\[0\]\.bytes/);
    expect(active.state).toBe('solo');
  });

  test('with a read-only disk is one when both hosts hold the same, and only then', async () => {
    const file = (slot: { readonly name: string }): string => path.join(folder, `${slot.name}.iso`);
    makePair({
      diskBytes: 4 * MIB,
      slotFlags: (slot) => ['--disk', `${file(slot)},ro`],
    });
    for (const slot of pair.slots) writeFileSync(file(slot), Buffer.alloc(MIB, slot.name));
    const standby = pair.startStandby();
    const primary = pair.startPrimary();
    const refusal = await refusalBy(primary);
    expect(refusal.fields['code']).toBe('FT_ERR_MACHINE_DIFFERS');
    expect(refusal.fields['message']).toMatch(/machine\.disks\[1\]\.fingerprint: here 0x/);
    await standby.process.stop();
    writeFileSync(file(pair.slots[1]), Buffer.alloc(MIB, 'a'));
    pair.startStandby();
    await primary.waitState(['protected'], 15_000);
    const clients = await startOracle();
    await answersGoOn(clients);
    await clients.diskLoad({
      disk: 1,
      underWayMax: 1,
      writesPerSecond: 100,
      firstBlock: 0,
      blocks: 8,
    });
    const failed = async (): Promise<boolean> => (await clients.diskFigures()).errors > 0;
    await until('a write that is refused to the guest', failed, 5000);
    await pair.killActive();
    await answersGoOn(clients);
    expect(readFileSync(file(pair.slots[1])).equals(Buffer.alloc(MIB, 'a'))).toBe(true);
    expect(await clients.finish()).toMatchObject({ unanswered: 0, lost: 0 });
  });

  test('goes on alone, and says why, when the standby’s disk is full', async () => {
    makePairWithSmallDisk('b');
    await pair.start();
    const { active, standby } = both();
    const clients = await startOracle();
    await answersGoOn(clients);
    const from = active.process.lines.length;
    await clients.diskLoad(LOAD);
    await active.waitState(['solo'], 15_000, from);
    const refusal = await refusalBy(active, from);
    expect(refusal.fields['code']).toMatch(/^FT_ERR_DISK_/);
    expect(refusal.fields['message']).toMatch(/No space left on device/);
    await answersGoOn(clients);
    const figures = await clients.diskFigures();
    expect(figures).toMatchObject({ errors: 0, broken: 0 });
    expect(active.process.exit).toBeUndefined();
    expect(standby.process.exit).toBeUndefined();
    expect(standby.figure('diskErrors')).toBeGreaterThan(0);
    expect(active.figure('generation')).toBe(1);
    await clients.diskLoad({ ...LOAD, underWayMax: 0 });
    expect(await clients.finish()).toMatchObject({ unanswered: 0, lost: 0 });
  });

  test('stays one when the primary’s disk is full: the guest sees an I/O error', async () => {
    makePairWithSmallDisk('a');
    await pair.start();
    const { active } = both();
    const clients = await startOracle();
    await answersGoOn(clients);
    await clients.diskLoad(LOAD);
    const failed = async (): Promise<boolean> => (await clients.diskFigures()).errors > 0;
    await until('an I/O error in the guest', failed, 15_000);
    await active.waitStatus('the error', (f) => Number(f['diskErrors']) > 0, 3000);
    expect(active.state).toBe('protected');
    await clients.diskLoad({ ...LOAD, underWayMax: 0 });
    await answersGoOn(clients);
    await pair.killActive();
    await answersGoOn(clients);
    expect(statSync(path.join(folder, 'large.img')).size).toBe(64 * MIB);
    expect(await clients.finish()).toMatchObject({ unanswered: 0, lost: 0 });
  });
});
