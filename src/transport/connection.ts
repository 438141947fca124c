/**
 * A connection that carries wire frames, as the roles see it: no sockets here, so the simulator can
 * hand in its own. The TCP one is in tcp.ts.
 */
import type { FtError } from '../common/errors';
import type { Frame, FrameBuffer, FrameHeader } from '../wire/frame';

/**
 * Whether an end, as onClose tells it, is the doing of the peer's kernel: it sent a FIN (in the midst
 * of a frame, too: a killed process leaves just that) or a reset. EPIPE is a reset that came after
 * its FIN. Anything else (a time-out, no route, this side's own doing) says nothing about the peer's
 * process.
 */
export function closedByPeer(error: FtError | undefined): boolean {
  if (error === undefined || error.code === 'FT_ERR_FRAME_TRUNCATED') return true;
  const { cause } = error.facts;
  return error.code === 'FT_ERR_CONNECTION_LOST' && (cause === 'ECONNRESET' || cause === 'EPIPE');
}

export interface Connection {
  /** "127.0.0.1:7001", for messages. */
  readonly remote: string;
  /** The node that the peer's certificate names; undefined without one, or when it names none. */
  readonly peerNode?: string | undefined;
  /** Bytes handed over with send and not yet taken by the system. */
  readonly bytesQueued: number;
  /** Bytes of frames handed over with send so far, whether or not they have left. */
  readonly bytesSent: number;
  /** Bytes that the peer sent and that were read here so far; in the end its bytesSent. */
  readonly bytesReceived: number;

  /**
   * Sends one frame. `buffer` holds the body at FRAME_HEADER_BYTES (see FrameBuffer); the header is
   * written in front of it, checksums included. The connection owns the buffer until `onFlushed` is
   * called (also when the connection closes). Sending on a closed connection is a no-op that still
   * calls `onFlushed`.
   */
  send(header: FrameHeader, buffer: FrameBuffer, bodyBytes: number, onFlushed?: () => void): void;

  /** Frames sent from now on leave together, in as few system calls as it takes. */
  cork(): void;
  /** Hands over what was sent since cork(), and what is sent later at once. */
  uncork(): void;

  /**
   * Set by the owner; nothing is read before the first handler is set, and a new one holds from the
   * next frame on. `frame` is valid only during the call, `frame.body` until onTurn; frames come in
   * order.
   */
  onFrame: (frame: Frame) => void;
  /** Called after the last frame of what was read in one go, so that they can be answered as one. */
  onTurn: () => void;
  /**
   * Called once. `error` is undefined for an orderly end by either side. An end proves no intent: a
   * killed process's sockets end in order too, and the system may report a reset as an end when
   * data came with it. Only a bye frame says that the peer meant it.
   */
  onClose: (error: FtError | undefined) => void;
  /** Called when bytesQueued falls back under the low-water mark. */
  onDrain: () => void;

  /**
   * Raises the largest body accepted (small until the handshake is done). A listener takes the call
   * as the end of the handshake: until then the connection counts among the few that may wait, so
   * call it on every connection, heartbeats included.
   */
  setMaxBodyBytes(bytes: number): void;
  /** Closes; `onClose` follows. With an error the peer is cut off at once (RST), else FIN. */
  close(error?: FtError): void;
}
