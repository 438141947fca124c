/**
 * A host that lacks something: each is refused with exit code 3 and words that say what to do, and
 * whatever already runs is not disturbed.
 */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { GUEST_ADDRESS, NetworkNamespace } from '../../src/drill/lan/netns';
import { beaconPath } from '../../src/drill/pair/pair';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';
import { type CommandFlags, commandLine, expectRefusal, runCommand } from './command';

/** The fixture guest as a bzImage. */
const bzImagePath = path.join(projectRoot, 'build/guest/beacon.bz');

/** A /dev without kvm, private to one process. */
const WITHOUT_KVM = [
  'unshare',
  '-m',
  'sh',
  '-c',
  'mount -t tmpfs none /dev && mkdir /dev/net && mknod /dev/net/tun c 10 200 && ' +
    'mknod /dev/null c 1 3 && mknod /dev/urandom c 1 9 && mknod /dev/random c 1 8 && exec "$@"',
  'sh',
];
const AS_NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

/** Where the headers of an ELF image's loadable segments are. */
function segments(image: Buffer): number[] {
  const first = Number(image.readBigUInt64LE(32));
  const all = Array.from(
    { length: image.readUInt16LE(56) },
    (_, n) => first + n * image.readUInt16LE(54),
  );
  return all.filter((at) => image.readUInt32LE(at) === 1);
}

kvmDescribe('a host that lacks something', () => {
  let netns: NetworkNamespace;
  let folder = '';
  let primary: CommandFlags = {};
  let standby: CommandFlags = {};
  const helpers: WatchedProcess[] = [];

  beforeAll(() => {
    netns = NetworkNamespace.make(2);
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-environment-'));
  });

  beforeEach(() => {
    const witness = mkdtempSync(path.join(folder, 'witness-'));
    // Somebody without rights shall fail at what the test is about, not here.
    chmodSync(folder, 0o755);
    chmodSync(witness, 0o777);
    const common = { witness: `file:${witness}`, pair: 'environment', tap: 'tap0' };
    primary = { ...common, kernel: beaconPath, cmdline: `ip=${GUEST_ADDRESS}` };
    standby = { ...common, listen: '127.0.0.1:7001' };
  });

  afterEach(async () => {
    await Promise.all(helpers.splice(0).map((helper) => helper.stop()));
  });

  afterAll(() => {
    netns.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const refused = async (
    command: 'ft-primary' | 'ft-standby',
    flags: CommandFlags,
    words: RegExp,
    wrap: readonly string[] = [],
  ): Promise<void> => {
    expectRefusal(await runCommand(command, flags, { netns: netns.name, wrap }), 3, words);
  };

  /** A copy of the fixture guest (or of another image) with something wrong in it. */
  const spoiled = (
    name: string,
    spoil: (image: Buffer) => Buffer,
    original = beaconPath,
  ): string => {
    const file = path.join(folder, name);
    writeFileSync(file, spoil(readFileSync(original)));
    return file;
  };

  const start = (name: string, words: readonly string[]): WatchedProcess => {
    const [command = '', ...args] = words;
    const helper = new WatchedProcess({ name, command, args, netns: netns.name });
    helpers.push(helper);
    return helper;
  };

  test('/dev/kvm is missing', async () => {
    await refused('ft-primary', primary, /\/dev\/kvm/, WITHOUT_KVM);
    await refused('ft-standby', standby, /\/dev\/kvm/, WITHOUT_KVM);
  });

  test('/dev/kvm is not permitted', async () => {
    await refused('ft-primary', primary, /\/dev\/kvm.*permi|permi.*\/dev\/kvm/i, AS_NOBODY);
    await refused('ft-standby', standby, /\/dev\/kvm.*permi|permi.*\/dev\/kvm/i, AS_NOBODY);
  });

  test('the TAP is missing', async () => {
    await refused('ft-primary', { ...primary, tap: 'tap77' }, /tap77/);
    await refused('ft-standby', { ...standby, tap: 'tap77' }, /tap77/);
  });

  test('the TAP is a device of another kind', async () => {
    await refused('ft-primary', { ...primary, tap: 'br0' }, /br0/);
  });

  test('the TAP is taken, and its owner is not disturbed', async () => {
    const words = [...commandLine('ft-primary', primary), '--status-interval-ms', '100'];
    const owner = start('owner', words);
    await owner.waitFor('solo', (line) => line.fields['state'] === 'solo', 8000);
    const other = { ...primary, pair: 'another' };
    await refused('ft-primary', other, /tap0/);
    expect(owner.exit).toBeUndefined();
    expect(netns.run('ping', '-c', '2', '-i', '0.2', '-W', '1', GUEST_ADDRESS)).toMatch(
      / 0% packet loss/,
    );
  });

  test('the kernel is not there, or a folder', async () => {
    await refused('ft-primary', { ...primary, kernel: '/nonexistent.elf' }, /nonexistent\.elf/);
    await refused('ft-primary', { ...primary, kernel: folder }, /ft-environment/);
  });

  test('the kernel is none', async () => {
    const text = spoiled('text.elf', () => Buffer.from('#!/bin/sh\necho no kernel\n'.repeat(100)));
    await refused('ft-primary', { ...primary, kernel: text }, /it is a script; give a bzImage/);
    const empty = spoiled('empty.elf', () => Buffer.alloc(0));
    await refused('ft-primary', { ...primary, kernel: empty }, /empty\.elf: it is empty/);
    const packed = spoiled('packed.gz', (image) => gzipSync(image));
    await refused('ft-primary', { ...primary, kernel: packed }, /compressed with gzip/);
    const narrow = spoiled('elf32.elf', (image) => {
      image[4] = 1;
      return image;
    });
    await refused('ft-primary', { ...primary, kernel: narrow }, /ELF|64-bit/);
  });

  test('the kernel is for another processor', async () => {
    const arm = spoiled('arm.elf', (image) => {
      image.writeUInt16LE(183, 18);
      return image;
    });
    await refused(
      'ft-primary',
      { ...primary, kernel: arm },
      /ELF image for aarch64.*x86-64 kernel/,
    );
    const image = spoiled('Image', () => {
      const bytes = Buffer.alloc(4096);
      bytes.write('ARM\x64', 56, 'latin1');
      return bytes;
    });
    await refused('ft-primary', { ...primary, kernel: image }, /this is an aarch64 kernel/);
    const narrow = spoiled(
      'narrow.bz',
      (bytes) => {
        bytes.writeUInt16LE(0, 0x236); // xloadflags
        return bytes;
      },
      bzImagePath,
    );
    await refused('ft-primary', { ...primary, kernel: narrow }, /32-bit x86 kernel/);
  });

  test.each([0x206, 0x230, 0x3ff, 0x500])('the bzImage is truncated to %d bytes', async (bytes) => {
    const file = spoiled(`truncated-${bytes}.bz`, (image) => image.subarray(0, bytes), bzImagePath);
    await refused('ft-primary', { ...primary, kernel: file }, /past the end of the file/);
  });

  test('the bzImage speaks a boot protocol of old', async () => {
    const old = spoiled(
      'old.bz',
      (image) => {
        image.writeUInt16LE(0x0206, 0x206);
        return image;
      },
      bzImagePath,
    );
    await refused('ft-primary', { ...primary, kernel: old }, /boot protocol 2\.6; 2\.12/);
  });

  test('the bzImage needs more memory, or its initrd does', async () => {
    const bz = { ...primary, kernel: bzImagePath };
    await refused('ft-primary', { ...bz, memory: '2M' }, /needs \d+ bytes.*has 2097152/);
    const large = path.join(folder, 'large-bz.cpio');
    writeFileSync(large, Buffer.alloc(9 * 1024 ** 2));
    const flags = { ...bz, memory: '12M', initrd: large };
    await refused('ft-primary', flags, /initrd.*needs 9437184 bytes/);
  });

  test('the command line is too long', async () => {
    const long = { ...primary, cmdline: 'x'.repeat(2048) };
    await refused('ft-primary', long, /command line.* at most 2047.*--cmdline/);
    const shorter = { ...primary, kernel: bzImagePath, cmdline: 'x'.repeat(1024) };
    await refused('ft-primary', shorter, /command line.* at most 1023.*--cmdline/);
  });

  test.each([20, 64, 100])('the kernel is truncated to %d bytes', async (bytes) => {
    const file = spoiled(`truncated-${bytes}.elf`, (image) => image.subarray(0, bytes));
    await refused('ft-primary', { ...primary, kernel: file }, /truncated|short|end|ELF/i);
  });

  test.each([0.5, 1])(
    'the kernel is truncated inside its segments, at %d of them',
    async (part) => {
      const file = spoiled(`truncated-${part}.elf`, (image) => {
        const ends = segments(image).map((at) =>
          Number(image.readBigUInt64LE(at + 8) + image.readBigUInt64LE(at + 32)),
        );
        return image.subarray(0, Math.max(...ends) * part - 1);
      });
      await refused('ft-primary', { ...primary, kernel: file }, /truncated|short|end|ELF/i);
    },
  );

  test('the kernel has no PVH note', async () => {
    const file = spoiled('no-note.elf', (image) => {
      // Note type 18 (XEN_ELFNOTE_PHYS32_ENTRY), name "Xen".
      const at = image.indexOf(Buffer.from([18, 0, 0, 0, 0x58, 0x65, 0x6e, 0]));
      expect(at).toBeGreaterThan(0);
      image[at] = 99;
      return image;
    });
    await refused('ft-primary', { ...primary, kernel: file }, /PVH/);
  });

  test('the kernel is larger than memory', async () => {
    await refused('ft-primary', { ...primary, memory: '1M' }, /memory/);
    const file = spoiled('huge.elf', (image) => {
      for (const at of segments(image)) image.writeBigUInt64LE(1n << 40n, at + 40);
      return image;
    });
    await refused('ft-primary', { ...primary, kernel: file }, /memory/);
  });

  test('the initrd is not there, empty, or larger than memory', async () => {
    await refused('ft-primary', { ...primary, initrd: '/nonexistent.cpio' }, /nonexistent\.cpio/);
    const empty = path.join(folder, 'empty.cpio');
    writeFileSync(empty, '');
    await refused('ft-primary', { ...primary, initrd: empty }, /initrd.*empty\.cpio.*empty/);
    const large = path.join(folder, 'large.cpio');
    writeFileSync(large, Buffer.alloc(5 * 1024 ** 2));
    const flags = { ...primary, memory: '8M', initrd: large };
    await refused('ft-primary', flags, /initrd.*5242880 bytes/);
  });

  test('memory is beyond the host', async () => {
    await refused('ft-primary', { ...primary, memory: '1024G' }, /memory/i);
    await refused('ft-standby', { ...standby, memory: '1024G' }, /memory/i);
  });

  test('the port is taken', async () => {
    const stranger = path.join(projectRoot, 'dist/test/support/pair-stranger.js');
    const holder = start('holder', [process.execPath, stranger, 'proxy', '7001', '1', '{}']);
    await holder.waitFor('ready', (line) => line.fields['event'] === 'ready', 8000);
    await refused('ft-standby', standby, /7001/);
    await refused('ft-primary', { ...primary, http: '127.0.0.1:7001' }, /7001/);
  });

  test('the witness folder is missing', async () => {
    const missing = { witness: `file:${folder}/not/there` };
    await refused('ft-primary', { ...primary, ...missing }, /not\/there/);
  });

  test('the witness folder is not permitted', async () => {
    const closed = mkdtempSync(path.join(folder, 'closed-'));
    const flags = { ...standby, machine: 'simulated', tap: undefined, 'sim-port': '7999' };
    await refused('ft-standby', { ...flags, witness: `file:${closed}/in` }, /closed-/, AS_NOBODY);
  });

  test('nothing of all that is left behind', async () => {
    const left = (): string[] =>
      netns.pids().map((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' '));
    await until('an empty namespace', () => left().length === 0, 3000).catch(() => undefined);
    expect(left()).toEqual([]);
  });
});
