/** The control sockets of this host's nodes, where the units put them: DIR/PAIR/control.sock. */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';

export const CONTROL_FOLDER = '/run/romulus';

/** Those that are there, sorted; also those that only their own user may see. */
export function controlSockets(folder: string = CONTROL_FOLDER): string[] {
  return foldersOf(folder)
    .map((pair) => path.join(folder, pair, 'control.sock'))
    .filter(isThere);
}

/**
 * The socket to ask where none is named: DIR/control.sock, or, where that is not there, the only one
 * of a pair. Of several none is taken: a command must not go to a node by chance.
 */
export function likelySocket(folder: string = CONTROL_FOLDER): string {
  const usual = path.join(folder, 'control.sock');
  if (isThere(usual)) return usual;
  const [only, ...others] = controlSockets(folder);
  return only === undefined || others.length > 0 ? usual : only;
}

function foldersOf(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function isThere(file: string): boolean {
  try {
    return statSync(file).isSocket();
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'EACCES';
  }
}
