/**
 * A disk that a Linux kernel keeps writing to by itself: an ext4 file system whose inode tables were
 * left blank when it was made, so that the kernel's own thread blanks them for a minute or so after
 * it was mounted. And the judges of such an image afterwards.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Large enough for a minute of writing; it is all holes but for a few megabytes. */
export const EXT4_BYTES = 3 * 1024 ** 3;

/**
 * Between two groups of tables the thread rests for as long as one took (by default ten times that,
 * which would leave next to no writing in a test).
 */
export const EXT4_ROOT = 'root=/dev/vda rw rootflags=init_itable=1 init=/init';

/** mkfs, e2fsck and cmp live in sbin, which is not on everybody's path. */
const ENV = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };

/** Makes the image anew: a root file system with `init` and nothing else that a boot needs. */
export function makeExt4Image(image: string, init: string): void {
  const root = mkdtempSync(path.join(os.tmpdir(), 'ft-ext4-'));
  try {
    for (const folder of ['dev', 'proc']) mkdirSync(path.join(root, folder));
    copyFileSync(init, path.join(root, 'init'));
    rmSync(image, { force: true });
    writeFileSync(image, '');
    truncateSync(image, EXT4_BYTES);
    // What is discarded reads as zeroes and would need no blanking.
    const lazily = 'nodiscard,lazy_itable_init=1,lazy_journal_init=1';
    run('mkfs.ext4', '-q', '-E', lazily, '-d', root, image);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/**
 * What e2fsck finds wrong with the image: empty when it is clean. A file system that was not
 * unmounted is judged as a mount would find it, after its journal was replayed; that is done in a
 * copy, so the image itself stays as the guest left it.
 */
export function ext4Faults(image: string): string {
  const copy = `${image}.copy`;
  try {
    run('cp', '--sparse=always', image, copy);
    // Exit code 1: something was done, which is what a replayed journal is.
    run('e2fsck', '-y', '-E', 'journal_only', copy);
    const { status, stdout, stderr } = spawnSync('e2fsck', ['-fn', copy], {
      encoding: 'utf8',
      env: ENV,
    });
    return status === 0 ? '' : `e2fsck -fn ended with ${status}:\n${stdout}${stderr}`;
  } finally {
    rmSync(copy, { force: true });
  }
}

/** Where two images differ first; empty when they are equal, byte for byte. */
export function firstDifference(one: string, other: string): string {
  const { status, stdout, stderr } = spawnSync('cmp', [one, other], { encoding: 'utf8', env: ENV });
  return status === 0 ? '' : `${stdout}${stderr}`;
}

function run(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8', env: ENV });
  if (status === 0 || (command === 'e2fsck' && status === 1)) return;
  throw new Error(`${command} ${args.join(' ')} failed (${status}): ${error?.message ?? stderr}`);
}
