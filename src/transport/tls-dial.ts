/** TLS on a socket that was dialled: the other end is a node of our pair, or nobody. */
import type { Socket } from 'node:net';
import { connect } from 'node:tls';
import type { FtError } from '../common/errors';
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
  const broke = (cause: Error): void => done(handshakeError(where, cause));
  socket.once('error', broke);
  socket.once('secureConnect', () => {
    socket.off('error', broke);
    done(judgePeer(socket, material.owner.pair, where));
  });
}
