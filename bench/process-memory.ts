/**
 * What a node takes of its host's memory: what it has mapped, and the guest's memory file, of which
 * a page counts as soon as it is there, mapped or not.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';

const BLOCK_BYTES = 512;

export interface ProcessMemory {
  /** Private memory, and its share of files that others have mapped too. */
  readonly ownBytes: number;
  readonly guestFileBytes: number;
  readonly totalBytes: number;
}

/** Sums the parts of /proc/<pid>/smaps_rollup that are not shared memory files, in bytes. */
export function ownBytesOf(rollup: string): number {
  const kib = (name: string): number => {
    const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(rollup);
    if (match === null) throw new Error(`smaps_rollup tells no ${name}.`);
    return Number(match[1]);
  };
  return (kib('Pss_Anon') + kib('Pss_File')) * 1024;
}

/** Throws when the process is gone. */
export function processMemory(pid: number): ProcessMemory {
  const ownBytes = ownBytesOf(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
  const files = new Map<number, number>();
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const file = `/proc/${pid}/fd/${fd}`;
    try {
      if (!readlinkSync(file).startsWith('/memfd:guest-memory')) continue;
      const { ino, blocks } = statSync(file);
      files.set(ino, blocks * BLOCK_BYTES);
    } catch {
      // It was closed meanwhile.
    }
  }
  const guestFileBytes = [...files.values()].reduce((sum, bytes) => sum + bytes, 0);
  return { ownBytes, guestFileBytes, totalBytes: ownBytes + guestFileBytes };
}
