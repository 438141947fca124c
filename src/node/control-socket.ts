/**
 * The control socket's file: made with its mode from the first moment on, taken over from a process
 * that was killed, never from one that lives.
 */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { FtError, toFtError } from '../common/errors';

/** How long another process may take to accept at a socket that is in the way. */
const PROBE_MS = 1000;
const MODE = 0o600;

/**
 * Binds `server` to a UNIX socket at `path`, for this user alone. Rejects with FT_ERR_CONTROL_TAKEN
 * (another process serves there, or what is there is no socket), or FT_ERR_CONTROL with the system's
 * reason.
 */
export async function listenAtPath(server: Server, path: string): Promise<void> {
  await makeWay(path);
  await bind(server, path);
}

/** Listens with the mode that the socket shall have from its first moment on. */
function bind(server: Server, path: string): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(path, error)));
    const before = process.umask(0o777 & ~MODE);
    try {
      // The name is made within this call.
      server.listen(path, () => {
        server.removeAllListeners('error');
        resolve();
      });
    } finally {
      process.umask(before);
    }
  }).then(() => chmodSync(path, MODE));
}

/** Removes a socket that nobody serves any more. */
async function makeWay(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    const message = `${path} is there already and is no socket; name another path with --control.`;
    throw new FtError('FT_ERR_CONTROL_TAKEN', message, { path });
  }
  if (await isServed(path)) {
    const message =
      `Another process serves the control socket ${path}. End it, or give this node a --control ` +
      'of its own.';
    throw new FtError('FT_ERR_CONTROL_TAKEN', message, { path });
  }
  try {
    unlinkSync(path);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw listenError(path, thrown);
  }
}

/** Whether a process has the socket open; one that is there and silent counts. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (served: boolean): void => {
      socket.destroy();
      resolve(served);
    };
    socket.setTimeout(PROBE_MS, () => done(true));
    socket.on('connect', () => done(true));
    socket.on('error', (error: NodeJS.ErrnoException) => done(error.code !== 'ECONNREFUSED'));
  });
}

function listenError(path: string, thrown: unknown): FtError {
  const { message } = toFtError(thrown);
  const text =
    `The control socket ${path} cannot be made (${message}). Its folder must exist, and this user ` +
    'must be allowed to write there.';
  return new FtError('FT_ERR_CONTROL', text, { path }, thrown);
}
