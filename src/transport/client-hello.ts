/**
 * The first bytes of a connection that must become TLS, looked at before TLS is set to work: whoever
 * does not begin with a ClientHello of sensible size costs no key exchange and no TLS state.
 *
 *   0        1        3            5        6          9
 *   ┌────────┬────────┬────────────┬────────┬──────────┬───────
 *   │ 0x16   │ 03 01… │ record len │ 0x01   │ length   │ …          one record, one ClientHello
 *   └────────┴────────┴────────────┴────────┴──────────┴───────
 */
import type { Socket } from 'node:net';
import { FtError } from '../common/errors';

/** A ClientHello of ours has some 230 bytes; one with post-quantum key shares has 1.5 KB. */
export const CLIENT_HELLO_BYTES_MAX = 4096;
const RECORD_HEAD_BYTES = 5;
const HANDSHAKE_RECORD = 0x16;
const CLIENT_HELLO = 1;

/** `more`: not all here yet. */
export type HelloVerdict = 'whole' | 'more' | FtError;

export function judgeClientHello(bytes: Buffer, remote: string): HelloVerdict {
  if (bytes.length === 0) return 'more';
  const looksLikeTls =
    bytes[0] === HANDSHAKE_RECORD &&
    (bytes.length < 2 || bytes[1] === 3) &&
    (bytes.length < 6 || bytes[5] === CLIENT_HELLO);
  if (!looksLikeTls) {
    const message = `${remote} sent bytes that do not begin a TLS handshake.`;
    return new FtError('FT_ERR_TLS_GARBAGE', message, { remote });
  }
  if (bytes.length < RECORD_HEAD_BYTES) return 'more';
  const total = RECORD_HEAD_BYTES + bytes.readUInt16BE(3);
  // Nothing may follow: the client has no keys until it is answered.
  if (total > CLIENT_HELLO_BYTES_MAX || bytes.length > total) {
    const message = `${remote} begins with more bytes than a TLS handshake does.`;
    return new FtError('FT_ERR_TLS_TOO_MUCH', message, {
      remote,
      bytesMax: CLIENT_HELLO_BYTES_MAX,
    });
  }
  return bytes.length === total ? 'whole' : 'more';
}

/**
 * Reads from a paused socket until its ClientHello is whole, puts the bytes back and calls `done`
 * with what it found, once. Stops listening when `done` was called; errors and the end of the socket
 * are the caller's, by 'close'.
 */
export function awaitClientHello(
  socket: Socket,
  remote: string,
  done: (fault: FtError | undefined, bytes: Buffer) => void,
): void {
  let bytes: Buffer = Buffer.alloc(0);
  const readable = (): void => {
    const more = socket.read() as Buffer | null;
    if (more === null) return;
    bytes = bytes.length === 0 ? more : Buffer.concat([bytes, more]);
    const verdict = judgeClientHello(bytes, remote);
    if (verdict === 'more') return;
    socket.off('readable', readable);
    if (verdict === 'whole') socket.unshift(bytes);
    done(verdict === 'whole' ? undefined : verdict, bytes);
  };
  socket.on('readable', readable);
}
