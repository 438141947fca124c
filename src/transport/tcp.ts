/**
 * Connections over TCP. Frames go out as one write each, those sent between cork and uncork as one
 * for all; what comes in runs through the decoder. Whatever the peer sends or the network does ends in `onClose`, never in an exception.
 *
 *   open ──close()──▶ closing (FIN after the last write) ──▶ closed: onClose(undefined)
 *    ├──close(error) ─────────────── RST ─────────────────▶ closed: onClose(error)
 *    ├──peer's FIN between frames ────────────────────────▶ closed: onClose(undefined)
 *    ├──peer's FIN in a frame · bytes that are no frame ──▶ closed: onClose(FT_ERR_FRAME_…)
 *    └──reset, timeout ───────────────────────────────────▶ closed: onClose(…CONNECTION_LOST)
 */
import { connect, type Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import { type Address, formatAddress } from '../common/address';
import { assert } from '../common/assert';
import { crc32c } from '../common/crc32c';
import { FtError } from '../common/errors';
import { FrameDecoder } from '../wire/decoder';
import { encodeFrame } from '../wire/encoder';
import {
  type Checksum,
  type Frame,
  type FrameBuffer,
  type FrameHeader,
  FrameType,
  PROTOCOL_VERSION,
} from '../wire/frame';
import { packFrame, type Refuse } from '../wire/messages';
import {
  type ByteStream,
  descriptorOf,
  NodeStream,
  type OpenRawSocket,
  RawStream,
  type StreamEvents,
} from './byte-stream';
import type { Connection } from './connection';
import type { TlsMaterial } from './tls';
import { secureDialled } from './tls-dial';

/** bytesQueued falling under this calls onDrain. */
export const LOW_WATER_BYTES = 256 * 1024;
/** How long an orderly close waits for the peer to take what is queued. */
const CLOSE_WAIT_MS = 2000;
const KEEP_ALIVE_MS = 1000;
/** So many bytes are worth a system call of their own: the peer can begin with them. */
const CORKED_BYTES_MAX = 64 * 1024;

export interface TcpOptions {
  /** CRC-32C over bodies; the portable one unless the native one is handed in. */
  readonly checksum?: Checksum;
  /** Opens sockets for RawStream; Node's own streams without. */
  readonly openRaw?: OpenRawSocket | undefined;
  /** Every connection is TLS 1.3, each side known by its certificate; in the clear without. */
  readonly tls?: TlsMaterial | undefined;
}

/** What a secured connection is made of beside the socket that is read and written. */
export interface Secured {
  /** The socket below, which alone can be cut off at once. */
  readonly raw: Socket;
  /** The node named in the peer's certificate. */
  readonly peerNode: string | undefined;
}

interface PendingWrite {
  readonly bytes: number;
  readonly onFlushed: (() => void) | undefined;
}

const noop = (): void => {};

export class TcpConnection implements Connection {
  readonly remote: string;
  readonly peerNode: string | undefined;
  onClose: (error: FtError | undefined) => void = noop;
  onDrain: () => void = noop;
  onTurn: () => void = noop;

  private readonly stream: ByteStream;
  private readonly checksum: Checksum;
  private readonly decoder: FrameDecoder;
  private readonly pending: PendingWrite[] = [];
  private pendingHead = 0;
  private queued = 0;
  private sentBytes = 0;
  private state: 'open' | 'closing' | 'closed' = 'open';
  private corked = false;
  /**
   * Within send() or uncork(), where the system may take all at once: then nobody has waited for a
   * drain, and nobody must be called back into.
   */
  private handingOver = false;
  /** Handed over since cork(), or since the last time that so much was. */
  private corkedBytes = 0;
  /** What onClose is told at the end of an orderly close. */
  private closeReason: FtError | undefined;
  private closeTimer: NodeJS.Timeout | undefined;
  private frameHandler: ((frame: Frame) => void) | undefined;
  private handshakeDone: (done: boolean) => void = noop;

  /** Takes over a connected socket. Reading begins when `onFrame` is set. */
  constructor(socket: Socket, options: TcpOptions = {}, secured?: Secured) {
    this.peerNode = secured?.peerNode;
    this.checksum = options.checksum ?? crc32c;
    this.decoder = new FrameDecoder(this.checksum);
    this.remote = formatAddress({
      host: socket.remoteAddress ?? 'unknown',
      port: socket.remotePort ?? 0,
    });
    const raw = secured?.raw ?? socket;
    raw.setNoDelay(true);
    raw.setKeepAlive(true, KEEP_ALIVE_MS);
    this.stream = openStream(socket, raw, options, {
      onData: (chunk, placed) => this.received(chunk, placed),
      gap: () => this.decoder.gap,
      onEnd: () => this.ended(),
      onError: (error) => this.closed(this.lost(error)),
      onGone: () => {
        this.closed(this.lost(undefined));
        this.flushAll();
      },
      onWritten: () => this.settleOldest(),
    });
  }

  get bytesQueued(): number {
    return this.queued;
  }

  get bytesSent(): number {
    return this.sentBytes;
  }

  get bytesReceived(): number {
    return this.decoder.bytesTaken;
  }

  get onFrame(): (frame: Frame) => void {
    return this.frameHandler ?? noop;
  }

  /** The first handler starts the reading, so no frame comes before somebody takes it. */
  set onFrame(handler: (frame: Frame) => void) {
    const first = this.frameHandler === undefined;
    this.frameHandler = handler;
    if (!first) return;
    this.stream.start();
  }

  send(header: FrameHeader, buffer: FrameBuffer, bodyBytes: number, onFlushed?: () => void): void {
    if (this.state !== 'open') {
      if (onFlushed !== undefined) queueMicrotask(onFlushed);
      return;
    }
    const frameBytes = encodeFrame(header, buffer, bodyBytes, this.checksum);
    this.queued += frameBytes;
    this.sentBytes += frameBytes;
    this.pending.push({ bytes: frameBytes, onFlushed });
    this.handingOver = true;
    this.stream.write(buffer.bytes, frameBytes);
    this.handingOver = false;
    if (!this.corked) return;
    this.corkedBytes += frameBytes;
    if (this.corkedBytes < CORKED_BYTES_MAX) return;
    this.uncork();
    this.cork();
  }

  cork(): void {
    if (this.corked || this.state !== 'open') return;
    this.corked = true;
    this.corkedBytes = 0;
    this.stream.cork();
  }

  uncork(): void {
    if (!this.corked) return;
    this.corked = false;
    this.handingOver = true;
    this.stream.uncork();
    this.handingOver = false;
  }

  setMaxBodyBytes(bytes: number): void {
    this.decoder.setMaxBodyBytes(bytes);
    this.handshakeDone(true);
  }

  close(error?: FtError): void {
    if (this.state === 'closed') return;
    if (error !== undefined) {
      this.closed(error);
      return;
    }
    if (this.state === 'closing') return;
    this.uncork();
    this.state = 'closing';
    this.decoder.stop();
    this.stream.end();
    this.closeTimer = setTimeout(() => this.closed(this.closeReason), CLOSE_WAIT_MS);
    this.closeTimer.unref();
  }

  /** For the listener: called with true at each setMaxBodyBytes, with false at the end. */
  whenHandshakeDone(call: (done: boolean) => void): void {
    this.handshakeDone = call;
  }

  private settleOldest(): void {
    const write = this.pending[this.pendingHead];
    assert(write !== undefined, 'a write that completed was pending');
    this.pendingHead++;
    if (this.pendingHead === this.pending.length || this.pendingHead >= 1024) this.forgetSettled();
    const before = this.queued;
    this.queued -= write.bytes;
    write.onFlushed?.();
    const drained = before >= LOW_WATER_BYTES && this.queued < LOW_WATER_BYTES;
    if (drained && !this.handingOver && this.state === 'open') this.onDrain();
  }

  private forgetSettled(): void {
    if (this.pendingHead === this.pending.length) this.pending.length = 0;
    else this.pending.splice(0, this.pendingHead);
    this.pendingHead = 0;
  }

  /** The socket is gone: no byte is read from any buffer any more. */
  private flushAll(): void {
    while (this.pendingHead < this.pending.length) this.settleOldest();
  }

  private received(chunk: Buffer, placed: number): void {
    if (this.state !== 'open') return;
    const error = this.decoder.push(chunk, this.dispatch, placed);
    this.onTurn();
    if (error === undefined) return;
    if (error.code === 'FT_ERR_FRAME_VERSION' && this.decoder.frames === 0) {
      this.refuseVersion(error);
    } else {
      this.closed(error);
    }
  }

  /** Looks the handler up for each frame: it may be replaced between two frames of one chunk. */
  private readonly dispatch = (frame: Frame): void => {
    this.frameHandler?.(frame);
  };

  private ended(): void {
    if (this.state === 'closing') this.closed(this.closeReason);
    else this.closed(this.decoder.end());
  }

  /** Tells a peer of another protocol version why it is turned away, then closes. */
  private refuseVersion(error: FtError): void {
    const refuse: Refuse = {
      code: 'FT_ERR_PROTOCOL_VERSION',
      field: 'protocolVersion',
      ours: String(PROTOCOL_VERSION),
      theirs: String(error.facts['theirs']),
      message: 'The nodes speak different protocol versions. Run the same release on both nodes.',
    };
    const header = { type: FrameType.refuse, flags: 0, generation: 0, epoch: 0 };
    const { buffer, bytes } = packFrame(refuse);
    this.send(header, buffer, bytes);
    this.closeReason = error;
    this.close();
  }

  private lost(cause: Error | undefined): FtError | undefined {
    if (this.state === 'closing') return this.closeReason;
    const code = (cause as { code?: string } | undefined)?.code ?? 'closed';
    return new FtError(
      'FT_ERR_CONNECTION_LOST',
      `The connection to ${this.remote} broke (${code}).`,
      { remote: this.remote, cause: code },
      cause,
    );
  }

  /** The one way to `closed`; what was sent is settled when the socket has let go of it. */
  private closed(error: FtError | undefined): void {
    if (this.state === 'closed') return;
    // A socket whose FIN is under way cannot be reset any more (libuv would refuse and keep it).
    const ending = this.state === 'closing';
    this.state = 'closed';
    this.decoder.stop();
    if (this.closeTimer !== undefined) clearTimeout(this.closeTimer);
    this.stream.destroy(error !== undefined && !ending);
    this.handshakeDone(false);
    // On a turn of its own, so that nobody is called back from within close() or send().
    queueMicrotask(() => this.onClose(error));
  }
}

function openStream(
  socket: Socket,
  raw: Socket,
  options: TcpOptions,
  events: StreamEvents,
): ByteStream {
  // A TLS socket tells the descriptor of the socket below it, where only ciphertext passes.
  const plain = options.openRaw !== undefined && !(socket instanceof TLSSocket);
  const fd = plain ? descriptorOf(socket) : undefined;
  if (options.openRaw === undefined || fd === undefined) return new NodeStream(socket, raw, events);
  try {
    return new RawStream(socket, fd, options.openRaw, events);
  } catch {
    // The process has no descriptor to spare; Node's own stream needs none.
    return new NodeStream(socket, raw, events);
  }
}

/**
 * Connects to `address`, and with TLS makes sure who is there. Rejects with FT_ERR_DIAL_REFUSED
 * (nobody listens there), FT_ERR_DIAL_TIMEOUT, FT_ERR_DIAL with the system's reason, or an
 * FT_ERR_TLS_… that says why the peer is none of ours.
 */
export function dial(
  address: Address,
  timeoutMs: number,
  options: TcpOptions = {},
): Promise<TcpConnection> {
  const where = formatAddress(address);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address.host, port: address.port, noDelay: true });
    const timer = setTimeout(() => {
      const message = `${where} did not answer within ${timeoutMs} ms.`;
      failed(new FtError('FT_ERR_DIAL_TIMEOUT', message, { address: where }));
    }, timeoutMs);
    const failed = (error: FtError): void => {
      clearTimeout(timer);
      socket.removeAllListeners('error');
      socket.on('error', noop);
      socket.destroy();
      reject(error);
    };
    socket.once('error', (error: NodeJS.ErrnoException) => failed(dialError(where, error)));
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      if (options.tls === undefined) {
        clearTimeout(timer);
        resolve(new TcpConnection(socket, options));
        return;
      }
      secureDialled(socket, options.tls, where, (outcome) => {
        if (outcome instanceof FtError) {
          failed(outcome);
          return;
        }
        clearTimeout(timer);
        const secured = { raw: socket, peerNode: outcome.node };
        resolve(new TcpConnection(outcome.socket, options, secured));
      });
    });
  });
}

function dialError(where: string, error: NodeJS.ErrnoException): FtError {
  const facts = { address: where };
  if (error.code === 'ECONNREFUSED') {
    return new FtError('FT_ERR_DIAL_REFUSED', `Nobody listens at ${where}.`, facts, error);
  }
  const message = `Cannot connect to ${where}: ${error.message}.`;
  return new FtError('FT_ERR_DIAL', message, facts, error);
}
