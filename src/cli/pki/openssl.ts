/** Runs Debian's openssl, which makes keys and certificates; nothing of a key passes through here. */
import { spawnSync } from 'node:child_process';
import { FtError } from '../../common/errors';

/**
 * `words` are handed over as they are, without a shell; `cwd` is where it runs, here if absent. Throws FT_ERR_OPENSSL_MISSING or
 * FT_ERR_OPENSSL with what it said last.
 */
export function openssl(words: readonly string[], cwd?: string): void {
  const { status, signal, stderr, error } = spawnSync('openssl', words, {
    cwd,
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  if (status === 0) return;
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') {
    const message =
      'Certificates are made by openssl, and there is none here; install it (apt install openssl), ' +
      'or make them on a host that has it.';
    throw new FtError('FT_ERR_OPENSSL_MISSING', message, {}, error);
  }
  const said = (stderr ?? '').trim().split('\n').slice(-3).join('; ');
  const how = error?.message ?? (signal === null ? `code ${status}` : `signal ${signal}`);
  const message = `openssl ${words[0]} failed (${how}): ${said}`;
  throw new FtError('FT_ERR_OPENSSL', message, { command: words[0] }, error);
}
