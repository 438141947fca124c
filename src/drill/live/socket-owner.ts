/**
 * Which process of this host serves a UNIX socket: the socket's inode is in the kernel's list, and the
 * process has a descriptor of it.
 *
 *   /proc/net/unix   … 00010000 0001 01 INODE PATH      a socket that listens (flag 00010000)
 *   /proc/PID/fd/N   ─▶ socket:[INODE]
 */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { FtError } from '../../common/errors';

const LISTENS = '00010000';

/** Throws FT_ERR_DRILL_PROCESS when no process of this host, that we may look into, serves it. */
export function ownerOfSocket(socketPath: string): number {
  const wanted = new Set([socketPath, path.resolve(socketPath), real(socketPath)]);
  for (const line of readFileSync('/proc/net/unix', 'latin1').split('\n')) {
    const [, , , flags, , , inode, ...name] = line.split(/\s+/);
    if (flags !== LISTENS || inode === undefined || !wanted.has(name.join(' '))) continue;
    const pid = processWith(`socket:[${inode}]`);
    if (pid !== undefined) return pid;
  }
  const message =
    `No process of this host serves ${socketPath}, or it may not be looked into. A node can only ` +
    'be killed from its own host, by root or its own user.';
  throw new FtError('FT_ERR_DRILL_PROCESS', message, { path: socketPath });
}

function real(socketPath: string): string {
  try {
    return realpathSync(socketPath);
  } catch {
    return socketPath;
  }
}

function processWith(link: string): number | undefined {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).find((pid) => {
    try {
      const folder = `/proc/${pid}/fd`;
      return readdirSync(folder).some((fd) => linkAt(`${folder}/${fd}`) === link);
    } catch {
      return false;
    }
  });
}

function linkAt(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}
