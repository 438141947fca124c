/**
 * Two linked connections inside one process, over a Clock: for the simulator and for unit tests.
 * Frames run through the production encoder and decoder, bodies are copied, and the owner can delay
 * the link, cut it one way or both (nothing passes, nothing is lost, as TCP behaves in a partition)
 * and break it.
 *
 *   a.send ─▶ encode ─▶ copy ─▶ [ due time, bytes ] … ─▶ decode ─▶ b.onFrame
 *                                 └ held while the link is cut
 */

import type { Clock } from '../common/clock';
import { crc32c } from '../common/crc32c';
import { FtError } from '../common/errors';
import { FrameDecoder } from '../wire/decoder';
import { encodeFrame } from '../wire/encoder';
import type { Checksum, Frame, FrameBuffer, FrameHeader } from '../wire/frame';
import type { Connection } from './connection';
import { LOW_WATER_BYTES } from './tcp';

export interface MemoryLinkOptions {
  readonly nameA?: string;
  readonly nameB?: string;
  /** From send to arrival; 0: as soon as other waiting events had their turn. */
  readonly delayMs?: number;
  /** Drawn for each frame and added to the delay; frames of a connection keep their order. */
  readonly jitterMs?: () => number;
  readonly checksum?: Checksum;
}

interface Parcel {
  readonly dueUs: number;
  /** A frame's bytes, or undefined for the end of the stream. */
  readonly bytes: Buffer | undefined;
  readonly onFlushed: (() => void) | undefined;
}

/** Which frames a cut stops: those that leave one end, or all. */
export type LinkWay = 'both' | 'fromA' | 'fromB';

const noJitter = (): number => 0;

/** A link with an end for each node. */
export class MemoryLink {
  readonly a: MemoryConnection;
  readonly b: MemoryConnection;
  private delay: number;
  private readonly jitter: () => number;
  private readonly cuts = { fromA: false, fromB: false };

  constructor(clock: Clock, options: MemoryLinkOptions = {}) {
    this.delay = options.delayMs ?? 0;
    this.jitter = options.jitterMs ?? noJitter;
    const checksum = options.checksum ?? crc32c;
    this.a = new MemoryConnection(this, clock, options.nameB ?? 'memory:b', checksum);
    this.b = new MemoryConnection(this, clock, options.nameA ?? 'memory:a', checksum);
    this.a.join(this.b);
    this.b.join(this.a);
  }

  get delayMs(): number {
    return this.delay;
  }

  /** What is sent now is under way for so long. */
  drawDelayMs(): number {
    return this.delay + this.jitter();
  }

  /** True when nothing that leaves `end` gets through. */
  cutFrom(end: MemoryConnection): boolean {
    return end === this.a ? this.cuts.fromA : this.cuts.fromB;
  }

  /** Holds for frames sent from now on; frames keep their order. */
  setDelayMs(delayMs: number): void {
    this.delay = delayMs;
  }

  /** From now on nothing passes that way, and neither side is told. */
  cut(way: LinkWay = 'both'): void {
    if (way !== 'fromB') this.cuts.fromA = true;
    if (way !== 'fromA') this.cuts.fromB = true;
  }

  /** What was held arrives, in order. */
  heal(): void {
    this.cuts.fromA = false;
    this.cuts.fromB = false;
    this.a.pump();
    this.b.pump();
  }

  /**
   * The connection breaks: frames under way are lost and both sides get FT_ERR_CONNECTION_LOST, by
   * default as if the other's kernel had reset it.
   */
  reset(cause = 'ECONNRESET'): void {
    this.a.broken(cause);
    this.b.broken(cause);
  }
}

/** No read of a socket brings more at a time, so that pieces come in several turns here, too. */
const READ_BYTES_MAX = 256 * 1024;

const noop = (): void => {};

/** One end of a MemoryLink. */
export class MemoryConnection implements Connection {
  readonly remote: string;
  onClose: (error: FtError | undefined) => void = noop;
  onDrain: () => void = noop;
  onTurn: () => void = noop;

  private readonly link: MemoryLink;
  private readonly clock: Clock;
  private readonly checksum: Checksum;
  private readonly decoder: FrameDecoder;
  private peer: MemoryConnection | undefined;
  /** Parcels on their way from here to the peer. */
  private outgoing: Parcel[] = [];
  private timerSet = false;
  private queued = 0;
  private sentBytes = 0;
  private isClosed = false;
  /** Closed with an error: whoever still sends to this end learns that it is gone. */
  private isReset = false;
  private frameHandler: ((frame: Frame) => void) | undefined;

  constructor(link: MemoryLink, clock: Clock, remote: string, checksum: Checksum) {
    this.link = link;
    this.clock = clock;
    this.remote = remote;
    this.checksum = checksum;
    this.decoder = new FrameDecoder(checksum);
  }

  /** Called once, by the link. */
  join(peer: MemoryConnection): void {
    this.peer = peer;
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

  /** As with TCP, frames wait until the first handler is set. */
  set onFrame(handler: (frame: Frame) => void) {
    const first = this.frameHandler === undefined;
    this.frameHandler = handler;
    if (first) this.clock.soon(() => this.peer?.pump());
  }

  send(header: FrameHeader, buffer: FrameBuffer, bodyBytes: number, onFlushed?: () => void): void {
    if (this.isClosed) {
      if (onFlushed !== undefined) this.clock.soon(onFlushed);
      return;
    }
    const frameBytes = encodeFrame(header, buffer, bodyBytes, this.checksum);
    this.queued += frameBytes;
    this.sentBytes += frameBytes;
    this.post(Buffer.from(buffer.bytes.subarray(0, frameBytes)), onFlushed);
  }

  /** Nothing to gather here: what is due at one moment arrives together, as from one read. */
  cork(): void {}
  uncork(): void {}

  setMaxBodyBytes(bytes: number): void {
    this.decoder.setMaxBodyBytes(bytes);
  }

  close(error?: FtError): void {
    if (this.isClosed) return;
    if (error === undefined) {
      this.post(undefined, undefined);
    } else {
      // A reset overtakes what is under way, in both directions, unless the link is cut.
      const peer = this.peer;
      this.clock.after(this.link.delayMs, () => {
        if (!this.link.cutFrom(this)) peer?.broken('ECONNRESET');
      });
      this.dropOutgoing();
    }
    this.end(error);
  }

  /** The link broke under this end. */
  broken(cause: string): void {
    if (this.isClosed) return;
    this.dropOutgoing();
    this.end(
      new FtError('FT_ERR_CONNECTION_LOST', `The connection to ${this.remote} broke (${cause}).`, {
        remote: this.remote,
        cause,
      }),
    );
  }

  /**
   * Hands over to the peer what is due, as one read; called by timers, by heal and by a new handler.
   */
  pump(): void {
    this.deliverDue();
    this.peer?.turnOver();
  }

  private deliverDue(): void {
    let turnBytes = 0;
    while (!this.link.cutFrom(this)) {
      const parcel = this.outgoing[0];
      if (parcel === undefined) return;
      if (parcel.dueUs > this.clock.nowUs()) {
        this.pumpAt(parcel.dueUs);
        return;
      }
      if (parcel.bytes !== undefined && this.peer?.waitsForHandler()) return;
      this.outgoing.shift();
      if (parcel.bytes === undefined) {
        this.peer?.turnOver();
        this.peer?.finished();
        continue;
      }
      this.settle(parcel);
      this.peer?.received(parcel.bytes);
      turnBytes += parcel.bytes.length;
      if (turnBytes < READ_BYTES_MAX) continue;
      this.peer?.turnOver();
      turnBytes = 0;
    }
  }

  private waitsForHandler(): boolean {
    return this.frameHandler === undefined && !this.isClosed;
  }

  private post(bytes: Buffer | undefined, onFlushed: (() => void) | undefined): void {
    const newest = this.outgoing[this.outgoing.length - 1]?.dueUs ?? 0;
    const dueUs = Math.max(newest, this.clock.nowUs() + this.link.drawDelayMs() * 1000);
    this.outgoing.push({ dueUs, bytes, onFlushed });
    if (dueUs <= this.clock.nowUs()) this.clock.soon(() => this.pump());
    else this.pumpAt(dueUs);
  }

  private readonly dispatch = (frame: Frame): void => {
    this.frameHandler?.(frame);
  };

  /** One timer at a time serves all parcels: it is set again while some are not due. */
  private pumpAt(dueUs: number): void {
    if (this.timerSet) return;
    this.timerSet = true;
    // A timer may come a little early, and a time in µs is a fraction: aim just behind it.
    this.clock.after((dueUs - this.clock.nowUs()) / 1000 + 0.001, () => {
      this.timerSet = false;
      this.pump();
    });
  }

  private received(bytes: Buffer): void {
    if (this.isReset && !this.link.cutFrom(this)) this.peer?.broken('ECONNRESET');
    if (this.isClosed) return;
    const error = this.decoder.push(bytes, this.dispatch);
    if (error === undefined) return;
    this.turnOver();
    this.close(error);
  }

  private turnOver(): void {
    if (!this.isClosed) this.onTurn();
  }

  /** The peer's orderly end arrived. */
  private finished(): void {
    if (this.isClosed) return;
    this.dropOutgoing();
    this.end(undefined);
  }

  private end(error: FtError | undefined): void {
    this.isClosed = true;
    this.isReset = error !== undefined;
    this.decoder.stop();
    this.clock.soon(() => this.onClose(error));
  }

  private settle(parcel: Parcel): void {
    const before = this.queued;
    this.queued -= parcel.bytes?.length ?? 0;
    parcel.onFlushed?.();
    if (before >= LOW_WATER_BYTES && this.queued < LOW_WATER_BYTES && !this.isClosed) {
      this.onDrain();
    }
  }

  private dropOutgoing(): void {
    const dropped = this.outgoing;
    this.outgoing = [];
    for (const parcel of dropped) this.clock.soon(() => this.settle(parcel));
  }
}
