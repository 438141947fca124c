/** TLS on a socket that was dialled: the other end is a node of our pair, or nobody. */
import type { Socket } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import { defectError, type FtError } from '../common/errors';
import type { TlsMaterial } from './tls';
import { handshakeError, judgePeer, type TlsPeer } from './tls-accept';

/** Calls `done` once, unless the socket is destroyed before. */
export function secureDialled(
  raw: Socket,
  material: TlsMaterial,
  where: string,
  done: (outcome: TlsPeer | FtError) => void,
): void {
  const socket = connect({
    socket: raw,
    secureContext: material.secureContext(),
    minVersion: 'TLSv1.3',
    // Both are judged in judgePeer: the chain by OpenSSL's verdict, the identity by the pair's name.
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
  let over = false;
  const broke = (cause: Error): void => {
    over = true;
    done(handshakeError(where, cause));
  };
  socket.once('error', broke);
  socket.once('secureConnect', () => {
    // A turn later: Node does not survive it when a socket is destroyed within this event.
    setImmediate(() => {
      if (over || raw.destroyed) return;
      socket.off('error', broke);
      done(judged(socket, material.owner.pair, where));
    });
  });
}

/** Thrown here, an error would be nobody's, and end the process. */
function judged(socket: TLSSocket, pair: string, where: string): TlsPeer | FtError {
  try {
    return judgePeer(socket, pair, where);
  } catch (thrown) {
    return defectError(where, thrown);
  }
}
