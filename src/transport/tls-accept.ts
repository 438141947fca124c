/**
 * TLS on an accepted socket, up to a peer that has proved who it is:
 *
 *   socket ─▶ ClientHello looked at ─▶ node:tls ─▶ certificate: chain, time, pair ─▶ peer
 *               │ no TLS, too long      │ fails, too many bytes    │ not good enough
 *               ▼                       ▼                          ▼
 *             cut off                 cut off                    told why, closed
 *
 * How long that may take is the caller's to say. Sessions are never resumed: each connection shows
 * its certificate again, so a peer whose certificate ran out does not come back by an old ticket.
 */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { type SecureContextOptions, Server, type TLSSocket } from 'node:tls';
import { formatAddress } from '../common/address';
import { assert } from '../common/assert';
import { defectError, FtError } from '../common/errors';
import { FRAME_MAGIC } from '../wire/frame';
import { HandshakeBounds } from './handshake-bounds';
import type { TlsMaterial } from './tls';
import { namesOf, peerFault } from './tls-names';

export interface TlsPeer {
  readonly socket: TLSSocket;
  /** The node named in its certificate, if one is. */
  readonly node: string | undefined;
}

/** Why a connection is not let in, and what it may be told. */
export interface TlsRefusal {
  readonly error: FtError;
  /** Where a word can be sent: the encrypted socket, or the plain one of a peer that speaks frames. */
  readonly tell: Socket | undefined;
  /** Its certificate is of an authority of ours, so it may hear the whole story. */
  readonly trusted: boolean;
}

export type TlsOutcome = { readonly peer: TlsPeer } | { readonly refusal: TlsRefusal };

interface Attempt {
  readonly raw: Socket;
  readonly remote: string;
  readonly done: (outcome: TlsOutcome) => void;
}

export class TlsAcceptor {
  private readonly server: Server;
  /**
   * By the peer's address, which no two open sockets of a listener share. A socket's own events may
   * come late, when a new one has its address already: only its own attempt is its to end.
   */
  private readonly attempts = new Map<string, Attempt>();
  private readonly bounds = new HandshakeBounds();

  constructor(private readonly material: TlsMaterial) {
    this.server = new Server({
      ...this.options(),
      requestCert: true,
      // Judged below, so that whoever must act hears what is wrong; OpenSSL's verdict counts.
      rejectUnauthorized: false,
    });
    this.server.on('secureConnection', (socket) => this.secured(socket));
    this.server.on('tlsClientError', (error, socket) => this.broke(error, socket));
    material.onReload(() => this.server.setSecureContext(this.options()));
  }

  /** Calls `done` once, unless the socket is destroyed before; nobody else may read it meanwhile. */
  accept(raw: Socket, done: (outcome: TlsOutcome) => void): void {
    const remote = remoteOf(raw);
    const attempt = { raw, remote, done };
    this.attempts.set(remote, attempt);
    raw.once('close', () => this.end(attempt));
    this.bounds.watch(raw, {
      remote,
      begins: () => this.server.emit('connection', raw),
      breaks: (fault, bytes) => {
        if (!speaksFrames(bytes)) this.refuse(attempt, fault);
        else this.refuse(attempt, plaintextError(remote), raw);
      },
    });
  }

  private options(): SecureContextOptions {
    return { ...this.material.contextOptions(), secureOptions: constants.SSL_OP_NO_TICKET };
  }

  private secured(socket: TLSSocket): void {
    const attempt = this.attempts.get(remoteOf(socket));
    if (attempt === undefined) {
      socket.destroy();
      return;
    }
    this.guarded(attempt, () => this.judge(attempt, socket));
  }

  private judge(attempt: Attempt, socket: TLSSocket): void {
    const judged = judgePeer(socket, this.material.owner.pair, attempt.remote);
    if (judged instanceof FtError) {
      this.refuse(attempt, judged, socket, socket.authorized);
      return;
    }
    this.end(attempt);
    attempt.done({ peer: judged });
  }

  private broke(cause: Error, socket: TLSSocket): void {
    const attempt = this.attempts.get(remoteOf(socket));
    if (attempt === undefined) return;
    this.guarded(attempt, () => this.refuse(attempt, handshakeError(attempt.remote, cause)));
  }

  /** Thrown out of an event, an error would be nobody's, and end the process. */
  private guarded(attempt: Attempt, step: () => void): void {
    try {
      step();
    } catch (thrown) {
      this.refuse(attempt, defectError(attempt.remote, thrown));
    }
  }

  private refuse(attempt: Attempt, error: FtError, tell?: Socket, trusted = false): void {
    if (this.end(attempt)) attempt.done({ refusal: { error, tell, trusted } });
  }

  /** False: it was at an end before. */
  private end(attempt: Attempt): boolean {
    if (this.attempts.get(attempt.remote) !== attempt) return false;
    this.bounds.done(attempt.raw);
    return this.attempts.delete(attempt.remote);
  }
}

/** Who is at the other end of a finished handshake, or why it is nobody for us. */
export function judgePeer(socket: TLSSocket, pair: string, remote: string): TlsPeer | FtError {
  const certificate = socket.getPeerX509Certificate();
  // Declared as an Error; it is OpenSSL's word for one.
  const verdict = socket.authorized ? undefined : String(socket.authorizationError ?? 'unknown');
  const fault = peerFault(certificate, verdict, pair, remote);
  if (fault !== undefined) return fault;
  assert(certificate !== undefined, 'a peer without a certificate was refused');
  return { socket, node: namesOf(certificate).node };
}

export function handshakeError(remote: string, cause: Error): FtError {
  const { code = 'closed' } = cause as { code?: string };
  const message =
    `The TLS handshake with ${remote} failed (${code}). Both nodes need --tls-ca, --tls-cert and ` +
    "--tls-key; the other node's log says more.";
  return new FtError('FT_ERR_TLS_HANDSHAKE', message, { remote, cause: code }, cause);
}

function plaintextError(remote: string): FtError {
  const message =
    `${remote} speaks in the clear, and this node only by TLS. Start both nodes with --tls-ca, ` +
    '--tls-cert and --tls-key.';
  return new FtError('FT_ERR_TLS_PLAINTEXT', message, { remote });
}

function speaksFrames(bytes: Buffer): boolean {
  return bytes.length >= 4 && bytes.readUInt32LE(0) === FRAME_MAGIC;
}

function remoteOf(socket: Socket): string {
  return formatAddress({ host: socket.remoteAddress ?? 'unknown', port: socket.remotePort ?? 0 });
}
