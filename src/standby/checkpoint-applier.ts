/**
 * Turns the stream of sync pieces and epoch pieces into the standby's image, each epoch whole or
 * not at all.
 *
 *   frame ─▶ order checked ─▶ decompressed ─▶ machine.verify ─┬─ a whole epoch, nothing queued:
 *                                                            │    ack, then apply at once
 *                                                            └─ else copied and held
 *              last piece of an epoch ─▶ ack (all of it is held and verified) ─▶ into the queue
 *              queue ─▶ machine.apply in order, SLICE_US per turn of the loop ─▶ image
 *
 * An ack means that nothing but memory already held is needed to reach that epoch, so an ack may
 * precede the applying: `drain` finishes it, synchronously, before a promotion. Only the images of
 * the disks may be behind by then; the machine writes them in order while the guest runs already.
 *
 * Acks wait while more than DISK_BACKLOG_BYTES_MAX is on its way into the images. So a disk that is
 * slower than the primary's slows the primary down, and memory does not fill up here:
 *
 *   held ──▶ backlog small ──────────────────────────────▶ ack
 *              └ large ─▶ looked at every BACKLOG_POLL_MS ─┤ (the newest epoch held, once)
 *                            └ not smaller in BACKLOG_STUCK_MS of looks ──▶ onDisksStuck, no ack
 *
 * A disk that hangs for good (a network mount whose server is gone) returns no error, and a healthy
 * primary's guest would wait for its acks for ever; so it counts as one that failed. Looks are
 * counted, not time: a process that was stopped for a while has not seen its disks hang.
 *
 * The word that the guest ends itself comes before the epoch in which it does; it counts from the
 * moment that epoch is held, in which case nothing is ever resumed from here.
 *
 * freeze(): later frames are kept as they came: no ack, no epoch. thaw(): they are taken as usual.
 */
import { assert } from '../common/assert';
import type { Clock, Timer } from '../common/clock';
import { FtError } from '../common/errors';
import type { GuestEnd, Machine } from '../machine/machine';
import { type Frame, FrameFlag, FrameType } from '../wire/frame';
import { unpackGuestEnd } from '../wire/messages';
import type { StandbyStats } from './standby-stats';

/** Undoes compression. The result is valid until the next call. */
export interface BodyDecompressor {
  decompress(body: Uint8Array, rawBytes: number): Uint8Array | FtError;
}

export interface ApplierHandlers {
  /** `epoch` is complete and verified here: it may be acknowledged. */
  onHeld(epoch: number): void;
  /** The base epoch is held: from now on this image can be promoted. */
  onRestorable(epoch: number): void;
  onMismatch(epoch: number, gfns: readonly number[]): void;
  /** The guest ended itself, and the epoch in which it did is held. */
  onGuestEnd(end: GuestEnd): void;
  /**
   * FT_ERR_DISK_STUCK: acks wait for the disks, and nothing reaches the images. Said once; no ack
   * follows before begin() or the next epoch.
   */
  onDisksStuck(error: FtError): void;
}

const SLICE_US = 2000;
const HELD_SLACK_BYTES = 64 * 1024 * 1024;
const DISK_BACKLOG_BYTES_MAX = 16 * 1024 * 1024;
const BACKLOG_POLL_MS = 1;
const BACKLOG_STUCK_MS = 10_000;

interface HeldBody {
  readonly epoch: number;
  readonly body: Uint8Array;
  /** True for the piece that completes its epoch. */
  readonly last: boolean;
}

interface KeptFrame extends Frame {
  readonly body: Uint8Array;
}

export class CheckpointApplier {
  private scanDone = false;
  private baseEpoch = 0;
  private heldEpoch = 0;
  private heldUs = 0;
  private appliedEpoch = 0;
  /** The epoch whose pieces are coming in; 0 between epochs. */
  private openEpoch = 0;
  private openIsBase = false;
  private openPieces: HeldBody[] = [];
  /** The guest's last epoch, once announced. */
  private final: { readonly epoch: number; readonly end: GuestEnd } | undefined;
  private queue: HeldBody[] = [];
  private queueHead = 0;
  private heldBytes = 0;
  private stepAsked = false;
  private frozen = false;
  /** As of the body applied last, or of the last look. */
  private diskBacklogBytes = 0;
  /** The newest epoch whose ack waits for the disks; 0 for none. */
  private ackDue = 0;
  private backlogTimer: Timer | undefined;
  /** Looks in a row that found the backlog no smaller than it was before. */
  private looksInVain = 0;
  private kept: KeptFrame[] = [];
  private readonly heldBytesMax: number;

  constructor(
    private readonly clock: Clock,
    private readonly machine: Machine,
    private readonly decompressor: BodyDecompressor,
    private readonly stats: StandbyStats,
    private readonly handlers: ApplierHandlers,
  ) {
    this.heldBytesMax = machine.description.memoryBytes + HELD_SLACK_BYTES;
  }

  /** The newest epoch held whole: what a promotion would resume from. */
  get held(): number {
    return this.heldEpoch;
  }

  /** How long ago that epoch was complete, µs. */
  get heldAgoUs(): number {
    return this.clock.nowUs() - this.heldUs;
  }

  get restorable(): boolean {
    return this.baseEpoch !== 0;
  }

  /**
   * Forgets everything; the machine's image is cleared for a sync from its beginning. Returns what
   * the machine's beginSync() says of the disks, and throws what it throws.
   */
  begin(peerSyncIds: readonly string[]): readonly (Uint8Array | undefined)[] {
    this.stop();
    this.scanDone = false;
    this.baseEpoch = 0;
    this.heldEpoch = 0;
    this.appliedEpoch = 0;
    this.final = undefined;
    this.stats.epochHeld = 0;
    this.stats.epochApplied = 0;
    this.diskBacklogBytes = 0;
    return this.machine.beginSync(peerSyncIds);
  }

  /** Forgets what is held; nothing more is applied. */
  stop(): void {
    this.openEpoch = 0;
    this.openPieces = [];
    this.queue = [];
    this.queueHead = 0;
    this.heldBytes = 0;
    this.frozen = false;
    this.kept = [];
    this.ackDue = 0;
    this.stopPolling();
  }

  freeze(): void {
    this.frozen = true;
    this.stopPolling();
  }

  /** Takes what came since freeze(). Errors as for `take`. */
  thaw(): FtError | undefined {
    const frames = this.kept;
    this.frozen = false;
    this.kept = [];
    if (this.ackDue !== 0) this.ack(this.ackDue);
    for (const frame of frames) {
      this.heldBytes -= frame.body.length;
      const error = this.take(frame);
      if (error !== undefined) return error;
    }
    return undefined;
  }

  /**
   * Takes a syncPages, epoch or guestEnd frame. Returns FT_ERR_EPOCH_ORDER, FT_ERR_EPOCH_BODY (or
   * the machine's own code), FT_ERR_HELD_BYTES, FT_ERR_MESSAGE, or the decompressor's error; the
   * session is then over.
   */
  take(frame: Frame): FtError | undefined {
    if (this.frozen) return this.keep(frame);
    if (frame.type === FrameType.guestEnd) return this.takeGuestEnd(frame);
    const disorder = frame.type === FrameType.syncPages ? this.scanOrder() : this.epochOrder(frame);
    if (disorder !== undefined) return disorder;
    let body = frame.body;
    if ((frame.flags & FrameFlag.lz4) !== 0) {
      const raw = this.decompressor.decompress(body, frame.rawBytes);
      if (raw instanceof FtError) return raw;
      body = raw;
    }
    this.stats.bodyBytes += frame.body.length;
    this.stats.rawBytes += body.length;
    const damaged = this.machine.verify(body);
    if (damaged !== undefined) return damaged;
    const last = (frame.flags & FrameFlag.last) !== 0;
    return frame.type === FrameType.syncPages
      ? this.takeScan(body, last)
      : this.takeEpoch(frame, body, last);
  }

  /** Applies everything that is held whole; pieces of an unfinished epoch are dropped. */
  drain(): void {
    this.openEpoch = 0;
    this.openPieces = [];
    while (this.applyOne());
    assert(this.appliedEpoch === this.heldEpoch, 'what was acknowledged is in the image');
  }

  // ── order ──────────────────────────────────────────────────────────────────────────────────────

  private scanOrder(): FtError | undefined {
    if (!this.scanDone) return undefined;
    return new FtError('FT_ERR_EPOCH_ORDER', 'A sync piece came after the scan was done.');
  }

  private epochOrder(frame: Frame): FtError | undefined {
    const { epoch } = frame;
    const base = (frame.flags & FrameFlag.base) !== 0;
    if (this.openEpoch !== 0) {
      if (epoch === this.openEpoch && base === this.openIsBase) return undefined;
      const message = `A piece of epoch ${epoch} came inside epoch ${this.openEpoch}.`;
      return new FtError('FT_ERR_EPOCH_ORDER', message, { epoch, expected: this.openEpoch });
    }
    if (this.final !== undefined && epoch !== this.final.epoch) {
      const message = `Epoch ${epoch} came, and the guest ended in epoch ${this.final.epoch}.`;
      return new FtError('FT_ERR_EPOCH_ORDER', message, { epoch, expected: this.final.epoch });
    }
    const first = this.heldEpoch === 0;
    if (epoch === 0 || (!first && epoch !== this.heldEpoch + 1)) {
      const expected = this.heldEpoch + 1;
      const message = `Epoch ${epoch} came where ${expected} was due.`;
      return new FtError('FT_ERR_EPOCH_ORDER', message, { epoch, expected });
    }
    if (base && (!this.scanDone || this.baseEpoch !== 0)) {
      const message =
        `Epoch ${epoch} claims to be the base, ` +
        `${this.scanDone ? 'a second one' : 'before the scan was done'}.`;
      return new FtError('FT_ERR_EPOCH_ORDER', message, { epoch });
    }
    this.openEpoch = epoch;
    this.openIsBase = base;
    return undefined;
  }

  private takeGuestEnd(frame: Frame): FtError | undefined {
    const end = unpackGuestEnd(frame.body);
    if (end instanceof FtError) return end;
    const { epoch } = frame;
    const next = epoch === this.heldEpoch + 1 || (this.heldEpoch === 0 && epoch > 0);
    if (this.final !== undefined || this.openEpoch !== 0 || !next) {
      const message = `The end of the guest was announced for epoch ${epoch}, which cannot be.`;
      return new FtError('FT_ERR_EPOCH_ORDER', message, { epoch, held: this.heldEpoch });
    }
    this.final = { epoch, end };
    return undefined;
  }

  // ── taking ─────────────────────────────────────────────────────────────────────────────────────

  private takeScan(body: Uint8Array, last: boolean): FtError | undefined {
    this.stats.syncBytes += body.length;
    if (last) this.scanDone = true;
    if (this.queueHead === this.queue.length) {
      this.applyBody(0, body);
      return undefined;
    }
    const piece = this.hold(0, body, false);
    if (piece instanceof FtError) return piece;
    this.queue.push(piece);
    return undefined;
  }

  private takeEpoch(frame: Frame, body: Uint8Array, last: boolean): FtError | undefined {
    const { epoch } = frame;
    const atOnce = last && this.openPieces.length === 0 && this.queueHead === this.queue.length;
    if (atOnce) {
      this.complete(epoch);
      this.applyBody(epoch, body);
      this.applied(epoch);
      return undefined;
    }
    const piece = this.hold(epoch, body, last);
    if (piece instanceof FtError) return piece;
    this.openPieces.push(piece);
    if (!last) return undefined;
    for (const one of this.openPieces) this.queue.push(one);
    this.openPieces = [];
    this.complete(epoch);
    this.stepSoon();
    return undefined;
  }

  /** All of `epoch` is here and verified: from now on it will be in the image, come what may. */
  private complete(epoch: number): void {
    const isBase = this.openIsBase;
    this.openEpoch = 0;
    this.openIsBase = false;
    this.heldEpoch = epoch;
    this.heldUs = this.clock.nowUs();
    this.stats.epochHeld = epoch;
    this.stats.epochsHeld += 1;
    if (isBase) this.baseEpoch = epoch;
    if (isBase) this.handlers.onRestorable(epoch);
    this.ack(epoch);
    if (this.final?.epoch === epoch) this.handlers.onGuestEnd(this.final.end);
  }

  /** Acknowledges now, or when the disks have caught up; acks are cumulative. */
  private ack(epoch: number): void {
    if (this.diskBacklogBytes <= DISK_BACKLOG_BYTES_MAX) {
      this.ackDue = 0;
      this.stopPolling();
      this.handlers.onHeld(epoch);
      return;
    }
    if (this.ackDue === 0) this.stats.acksDeferred += 1;
    this.ackDue = epoch;
    this.backlogTimer ??= this.clock.after(BACKLOG_POLL_MS, this.lookAtBacklog);
  }

  private readonly lookAtBacklog = (): void => {
    this.backlogTimer = undefined;
    const before = this.diskBacklogBytes;
    this.diskBacklogBytes = this.machine.diskBacklogBytes();
    this.looksInVain = this.diskBacklogBytes < before ? 0 : this.looksInVain + 1;
    if (this.looksInVain * BACKLOG_POLL_MS < BACKLOG_STUCK_MS) {
      this.ack(this.ackDue);
      return;
    }
    this.stopPolling();
    this.handlers.onDisksStuck(this.stuck());
  };

  private stuck(): FtError {
    const backlogBytes = this.diskBacklogBytes;
    const message =
      `Nothing of ${backlogBytes} bytes has reached the disk images here for ` +
      `${BACKLOG_STUCK_MS / 1000} s: their storage hangs. See to the device, mount or network ` +
      'that they lie on.';
    return new FtError('FT_ERR_DISK_STUCK', message, { backlogBytes });
  }

  private stopPolling(): void {
    this.backlogTimer?.cancel();
    this.backlogTimer = undefined;
    this.looksInVain = 0;
  }

  private hold(epoch: number, body: Uint8Array, last: boolean): HeldBody | FtError {
    const error = this.account(body.length);
    return error ?? { epoch, body: Buffer.from(body), last };
  }

  private keep(frame: Frame): FtError | undefined {
    const error = this.account(frame.body.length);
    if (error !== undefined) return error;
    this.kept.push({ ...frame, body: Buffer.from(frame.body) });
    return undefined;
  }

  private account(bytes: number): FtError | undefined {
    if (this.heldBytes + bytes > this.heldBytesMax) {
      const message = `The primary sent more than the ${this.heldBytesMax} bytes that fit here.`;
      const facts = { heldBytes: this.heldBytes, heldBytesMax: this.heldBytesMax };
      return new FtError('FT_ERR_HELD_BYTES', message, facts);
    }
    this.heldBytes += bytes;
    if (this.heldBytes > this.stats.heldBytesMax) this.stats.heldBytesMax = this.heldBytes;
    return undefined;
  }

  // ── applying ───────────────────────────────────────────────────────────────────────────────────

  private stepSoon(): void {
    if (this.stepAsked) return;
    this.stepAsked = true;
    this.clock.soon(this.step);
  }

  private readonly step = (): void => {
    this.stepAsked = false;
    const endUs = this.clock.nowUs() + SLICE_US;
    while (this.applyOne()) {
      if (this.clock.nowUs() < endUs) continue;
      this.stepSoon();
      return;
    }
  };

  /** Applies the oldest held piece; false when there is none. */
  private applyOne(): boolean {
    const piece = this.queue[this.queueHead];
    if (piece === undefined) return false;
    this.queueHead += 1;
    if (this.queueHead === this.queue.length) {
      this.queue = [];
      this.queueHead = 0;
    }
    this.heldBytes -= piece.body.length;
    this.applyBody(piece.epoch, piece.body);
    if (piece.last) this.applied(piece.epoch);
    return true;
  }

  private applyBody(epoch: number, body: Uint8Array): void {
    const startUs = this.clock.nowUs();
    const result = this.machine.apply(body);
    this.stats.applyUs.record(this.clock.nowUs() - startUs);
    this.stats.pagesApplied += result.pages;
    if (result.diskBacklogBytes < this.diskBacklogBytes) this.looksInVain = 0;
    this.diskBacklogBytes = result.diskBacklogBytes;
    // Before the base epoch the image is not meant to match: pages and epochs are still crossing.
    const whole = this.baseEpoch !== 0 && epoch >= this.baseEpoch;
    if (result.auditMismatches.length > 0 && whole) {
      this.stats.auditMismatches += result.auditMismatches.length;
      this.handlers.onMismatch(epoch, result.auditMismatches);
    }
  }

  private applied(epoch: number): void {
    this.appliedEpoch = epoch;
    this.stats.epochApplied = epoch;
  }
}
