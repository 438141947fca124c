/**
 * What a socket may send within its TLS handshake. Nothing of a stranger reaches TLS before its
 * ClientHello is whole; after it, node:tls reads the socket by itself and tells nobody how much of
 * what is not finished, so what came is looked at every few milliseconds.
 *
 *   watch ─▶ ClientHello ── whole ──▶ begins() ─▶ bytes looked at ── done(), or closed ─▶ no more
 *                └ none, too long ──▶ breaks()              └ too many ─▶ breaks()
 */
import type { Socket } from 'node:net';
import { FtError } from '../common/errors';
import { awaitClientHello } from './client-hello';

/**
 * What may be sent before a proof: a ClientHello, then a certificate with what stands between it and
 * the authority, a signature and a closing word; two kilobytes as a rule.
 */
export const BYTES_BEFORE_PROOF_MAX = 32 * 1024;
const LOOK_MS = 10;
const NOTHING = Buffer.alloc(0);

/** One socket's handshake, and who is told of it. */
export interface WatchedHandshake {
  /** For the words of an error. */
  readonly remote: string;
  /** The ClientHello is whole, and back in the socket. */
  begins(): void;
  /** The socket sent something else, which is `bytes`, or too much. Nothing is looked at any more. */
  breaks(fault: FtError, bytes: Buffer): void;
}

/** The handshakes of one port. Their time is the caller's to bound. */
export class HandshakeBounds {
  private readonly begun = new Map<Socket, WatchedHandshake>();
  private timer: NodeJS.Timeout | undefined;

  /** Reads from `raw`, which nobody else may do before begins(). */
  watch(raw: Socket, handshake: WatchedHandshake): void {
    raw.once('close', () => this.done(raw));
    awaitClientHello(raw, handshake.remote, (fault, bytes) => {
      if (fault !== undefined) {
        handshake.breaks(fault, bytes);
        return;
      }
      this.begun.set(raw, handshake);
      this.timer ??= setInterval(() => this.look(), LOOK_MS);
      handshake.begins();
    });
  }

  /** The handshake is over, well or not. */
  done(raw: Socket): void {
    this.begun.delete(raw);
    if (this.begun.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  private look(): void {
    for (const [raw, handshake] of this.begun) {
      const { bytesRead } = raw;
      if (bytesRead <= BYTES_BEFORE_PROOF_MAX) continue;
      this.done(raw);
      const { remote } = handshake;
      const message = `${remote} sent ${bytesRead} bytes within its TLS handshake.`;
      const facts = { remote, bytesMax: BYTES_BEFORE_PROOF_MAX };
      handshake.breaks(new FtError('FT_ERR_TLS_TOO_MUCH', message, facts), NOTHING);
    }
  }
}
