/**
 * The bytes below the frames: a connected socket that is read and written. Two kinds:
 *
 *   NodeStream   over Node's own streams: everywhere
 *   RawStream    by plain system calls in the addon, where it is loaded: one receive buffer for all
 *                reads (large bodies go straight where they belong), one call for all writes of a
 *                turn, no objects in between
 *
 * Either tells its owner the same events, in the same order; what ends a connection comes last.
 */
import type { Socket } from 'node:net';
import { assert } from '../common/assert';

export interface StreamEvents {
  /**
   * Bytes came. They are valid only during the call. Before those of `chunk` there are `placed` that
   * lie in the gap already.
   */
  onData(chunk: Buffer, placed: number): void;
  /** Where the next bytes are wanted; undefined: anywhere. Asked for after each onData. */
  gap(): Buffer | undefined;
  /** The peer's end: nothing more comes. */
  onEnd(): void;
  /** The connection broke. */
  onError(error: Error): void;
  /** The socket is gone: no byte is read from any buffer any more. */
  onGone(): void;
  /** The oldest write that was not settled yet is with the system; writes settle in order. */
  onWritten(): void;
}

export interface ByteStream {
  /** Begins to read. */
  start(): void;
  /** Writes the first `length` bytes of `buffer`, which stays as it is until onWritten. */
  write(buffer: Buffer, length: number): void;
  /** Writes from now on are held back, up to uncork(). */
  cork(): void;
  uncork(): void;
  /** Ends this side once everything is written; what still comes is read and told. */
  end(): void;
  /** Lets go at once; the peer sees a reset, or else an end. onGone follows. */
  destroy(reset: boolean): void;
}

export class NodeStream implements ByteStream {
  /** `raw` is the socket that the bytes leave by: `socket` itself, or the one below its TLS. */
  constructor(
    private readonly socket: Socket,
    private readonly raw: Socket,
    private readonly events: StreamEvents,
  ) {
    socket.on('error', (error) => events.onError(error));
    socket.on('end', () => events.onEnd());
    socket.on('close', () => events.onGone());
    socket.pause();
  }

  start(): void {
    this.socket.on('data', (chunk: Buffer) => this.events.onData(chunk, 0));
    this.socket.resume();
  }

  write(buffer: Buffer, length: number): void {
    this.socket.write(buffer.subarray(0, length), this.written);
  }

  cork(): void {
    this.socket.cork();
  }

  uncork(): void {
    this.socket.uncork();
  }

  end(): void {
    this.socket.resume();
    this.socket.end();
  }

  destroy(reset: boolean): void {
    if (reset) cutOff(this.raw);
    this.socket.destroy();
  }

  private readonly written = (error?: Error | null): void => {
    // A failed write is settled when the socket has let go of all buffers: see onGone.
    if (!error) this.events.onWritten();
  };
}

/** What the addon offers for a socket: native/binding/raw_socket.h. */
export interface RawSocket {
  /** Returns the bytes taken (0: none for now), or −errno. */
  write(
    buffers: readonly Uint8Array[],
    lengths: readonly number[],
    from: number,
    count: number,
    skip: number,
  ): number;
  /** Reads what comes; says when there is room to write. At first neither. */
  watch(readable: boolean, writable: boolean): void;
  /**
   * The next read alone fills `gap` first, and then no more than `roomBytes` of the receive buffer;
   * onReadable is told the sum.
   */
  aim(gap: Uint8Array, roomBytes: number): void;
  close(): void;
}

/** Takes a duplicate of `fd`. `onReadable` is told how many bytes are in `room`; 0: end; < 0: −errno. */
export type OpenRawSocket = (
  fd: number,
  room: Buffer,
  onReadable: (bytes: number) => void,
  onWritable: () => void,
) => RawSocket;

const ROOM_BYTES = 256 * 1024;
/** A smaller gap is not worth a call that names it: its bytes are copied. */
const GAP_BYTES_MIN = 16 * 1024;
/**
 * Where one large body follows the other, no more than this is read behind the end of one: the next
 * one's header is in it, and what little of its body came along is copied.
 */
const HEAD_BYTES = 4 * 1024;
const NO_GAP = new Uint8Array(0);

/**
 *   write ─▶ line ─▶ (corked: waits) ─▶ one call for all ─▶ taken ─▶ onWritten for each whole one
 *                                              ▲  └ not all ─▶ waits for onWritable ─┐
 *                                              └─────────────────────────────────────┘
 */
export class RawStream implements ByteStream {
  private readonly room = Buffer.allocUnsafeSlow(ROOM_BYTES);
  private raw: RawSocket | undefined;
  private reading = false;
  /** So many bytes of the next read go into the gap first. */
  private gapBytes = 0;
  /** The next read is one after a large body, or of one. */
  private aimed = false;
  /** Written and not with the system: from `head` on, the first of them less `skip` bytes. */
  private readonly buffers: Buffer[] = [];
  private readonly lengths: number[] = [];
  private head = 0;
  private skip = 0;
  private corked = false;
  private blocked = false;
  private flushing = false;
  private ending = false;
  private gone = false;

  /** `fd` is that of `socket`, which is never read or written by Node from now on. */
  constructor(
    private readonly socket: Socket,
    fd: number,
    open: OpenRawSocket,
    private readonly events: StreamEvents,
  ) {
    // First: where it throws, the socket is as it was.
    this.raw = open(fd, this.room, this.readable, this.writable);
    socket.on('error', (error) => events.onError(error));
    socket.on('close', () => events.onGone());
    socket.pause();
  }

  start(): void {
    this.reading = true;
    this.raw?.watch(true, this.blocked);
  }

  write(buffer: Buffer, length: number): void {
    this.buffers.push(buffer);
    this.lengths.push(length);
    if (!this.corked) this.flush();
  }

  cork(): void {
    this.corked = true;
  }

  uncork(): void {
    this.corked = false;
    this.flush();
  }

  end(): void {
    this.ending = true;
    this.start();
    this.flush();
  }

  destroy(reset: boolean): void {
    this.gone = true;
    // A reset or an end is sent when the last descriptor of the socket is closed.
    this.raw?.close();
    this.raw = undefined;
    if (reset) cutOff(this.socket);
    else this.socket.destroy();
  }

  private readonly readable = (bytes: number): void => {
    if (this.gone) return;
    if (bytes > 0) this.take(bytes);
    else if (bytes === 0) this.events.onEnd();
    else this.events.onError(systemError(bytes));
  };

  private take(bytes: number): void {
    const placed = Math.min(bytes, this.gapBytes);
    this.events.onData(this.room.subarray(0, bytes - placed), placed);
    const gap = this.gone ? undefined : this.events.gap();
    const large = gap !== undefined && gap.length >= GAP_BYTES_MIN;
    this.gapBytes = large ? gap.length : 0;
    if (large || this.aimed) this.raw?.aim(large ? gap : NO_GAP, HEAD_BYTES);
    this.aimed = large;
  }

  private readonly writable = (): void => {
    if (this.gone) return;
    this.blocked = false;
    this.flush();
    if (!this.blocked) this.raw?.watch(this.reading, false);
  };

  /** What is written from within onWritten() goes to the end of the line, and leaves from here. */
  private flush(): void {
    if (this.flushing || this.blocked || this.gone) return;
    this.flushing = true;
    const error = this.writeLine();
    this.flushing = false;
    if (error !== undefined) this.events.onError(error);
  }

  private writeLine(): Error | undefined {
    while (this.head < this.buffers.length) {
      const count = this.buffers.length - this.head;
      const taken = this.raw?.write(this.buffers, this.lengths, this.head, count, this.skip) ?? 0;
      if (taken < 0) return systemError(taken);
      if (taken === 0) {
        this.blocked = true;
        this.raw?.watch(this.reading, true);
        return undefined;
      }
      this.settle(taken);
      if (this.gone) return undefined;
    }
    if (this.ending) this.socket.end();
    this.ending = false;
    return undefined;
  }

  /** The system took so many bytes from the head of the line. The line is in order again before
   * anybody is told. */
  private settle(taken: number): void {
    let left = taken + this.skip;
    let whole = 0;
    for (; this.head < this.buffers.length; whole += 1) {
      const length = this.lengths[this.head];
      assert(length !== undefined, 'each buffer of the line has its length');
      if (left < length) break;
      left -= length;
      this.head += 1;
    }
    this.skip = left;
    if (this.head === this.buffers.length) {
      this.buffers.length = 0;
      this.lengths.length = 0;
      this.head = 0;
    } else if (this.head >= SETTLED_MAX) {
      this.buffers.splice(0, this.head);
      this.lengths.splice(0, this.head);
      this.head = 0;
    }
    for (; whole > 0; whole -= 1) this.events.onWritten();
  }
}

/** So many settled writes may stand at the head of a line that does not become empty. */
const SETTLED_MAX = 64;

/** What becomes of connections; anything else is said by its number. */
const ERROR_NAMES: Readonly<Record<number, string>> = {
  32: 'EPIPE',
  103: 'ECONNABORTED',
  104: 'ECONNRESET',
  110: 'ETIMEDOUT',
  113: 'EHOSTUNREACH',
};

function systemError(negativeErrno: number): Error {
  const code = ERROR_NAMES[-negativeErrno] ?? `errno ${-negativeErrno}`;
  return Object.assign(new Error(code), { code });
}

/** Of a connected socket; undefined where Node does not tell. */
export function descriptorOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as Socket & { _handle?: { fd?: unknown } };
  return typeof handle?.fd === 'number' && handle.fd >= 0 ? handle.fd : undefined;
}

/**
 * Closes a socket with RST, at once. Node's own resetAndDestroy first waits for what is queued, and
 * for a peer that takes nothing it would wait for ever. The mark it sets makes destroy() reset.
 * A Node that does not know the mark would send FIN instead, which ends the connection as well.
 *
 * A UNIX socket knows no reset, and libuv refuses one while the system is told of an end: Node would
 * then leave the descriptor open, and never say that the socket is closed. Those are just closed.
 */
export function cutOff(socket: Socket): void {
  const ending = socket.writableEnded && !socket.writableFinished && socket.writableLength === 0;
  if (socket.remoteAddress !== undefined && !ending) {
    (socket as Socket & { resetAndClosing?: boolean }).resetAndClosing = true;
  }
  socket.destroy();
}
