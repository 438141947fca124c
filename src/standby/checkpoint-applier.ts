/**
 * Turns the stream of sync pieces and epoch pieces into the standby's image, each epoch whole or
 * not at all. What comes together is handled together: a turn is all frames of one read.
 *
 *   take      frame ─▶ order checked ─▶ decompressed ─▶ machine.verify ─▶ in line
 *               └ again for each frame of the turn            last piece of an epoch: it is held
 *   endTurn   newest epoch held ─▶ one ack for all ─▶ line ─▶ machine.apply in order ─▶ image
 *                                                      └ SLICE_US are over: what is left is copied,
 *                                                        and applied in later turns, in order
 *
 *   line      ┌ scan ┬ 7 ┬ 8 a ┬ 8 b (last) ┬ 9 a ┬ scan ┐
 *             └──────┴───┴─────┴────────────┴─────┴──────┘   applied up to here: an epoch that is
 *                                       ready ▲              not whole stops all behind it, since
 *                                                            each piece builds on those before it
 *
 * An ack means that nothing but memory already held is needed to reach that epoch, so an ack may
 * precede the applying: `drain` finishes it, synchronously, before a promotion. A body that is not
 * applied by the end of its turn is copied then, before its receive buffer is used again; no event
 * comes between. Only the images of the disks may be behind when a promotion happens; the machine
 * writes them in order while the guest runs already. See ack-gate.ts for acks that wait for them.
 *
 * The word that the guest ends itself comes before the epoch in which it does; it counts from the
 * moment that epoch is held, in which case nothing is ever resumed from here.
 *
 * freeze(): later frames are kept as they came: no ack, no epoch. thaw(): they are taken as usual.
 */
import { assert } from '../common/assert';
import type { Clock } from '../common/clock';
import { FtError, toFtError } from '../common/errors';
import { pageMapFault } from '../common/page-map';
import type { GuestEnd, Machine } from '../machine/machine';
import { type Frame, FrameFlag, FrameType } from '../wire/frame';
import { type CatchUpFrom, unpackGuestEnd } from '../wire/messages';
import { AckGate } from './ack-gate';
import { HeldBodies } from './held-bodies';
import { KeptImage } from './kept-image';
import type { StandbyStats } from './standby-stats';

/** Undoes compression. The result is the caller's. */
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

const SLICE_US = 1000;
const HELD_SLACK_BYTES = 64 * 1024 * 1024;
/** So many applied bodies may stand at the head of a line that does not become empty. */
const LINE_DONE_MAX = 64;

interface HeldBody {
  /** 0: a piece of the scan. */
  readonly epoch: number;
  /** Until the end of its turn a view of the receive buffer, then a copy. */
  body: Uint8Array;
  /** True for the piece that completes its epoch. */
  readonly last: boolean;
  /** The body is a copy, and counts as held. */
  owned: boolean;
  /** Where the copy lies, if that is to be given back. */
  room: Buffer | undefined;
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
  /** The guest's last epoch, once announced. */
  private final: { readonly epoch: number; readonly end: GuestEnd } | undefined;
  private line: HeldBody[] = [];
  /** The line's next one to apply, and where the part ends that may be applied. */
  private lineHead = 0;
  private lineReady = 0;
  private heldBytes = 0;
  /** The newest epoch held and not yet handed to the gate; 0 for none. */
  private ackDue = 0;
  /** Something was taken, and endTurn() was not called yet. */
  private inTurn = false;
  /** Where the stage that goes on now began. */
  private stageUs = 0;
  private readonly bodies = new HeldBodies();
  private readonly gate: AckGate;
  private stepAsked = false;
  private frozen = false;
  private kept: KeptFrame[] = [];
  private readonly heldBytesMax: number;
  private readonly image = new KeptImage();
  /** The image of an earlier session is here, and a catchUp frame must come first. */
  private mapDue = false;
  /** The audit found pages that differ. */
  private mismatched = false;

  constructor(
    private readonly clock: Clock,
    private readonly machine: Machine,
    private readonly decompressor: BodyDecompressor,
    private readonly stats: StandbyStats,
    private readonly handlers: ApplierHandlers,
  ) {
    this.heldBytesMax = machine.description.memoryBytes + HELD_SLACK_BYTES;
    this.gate = new AckGate(clock, machine, stats, handlers);
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
   * Forgets everything; the machine's image is cleared for a sync from its beginning, unless it is
   * the one that `from` names. Returns what the machine says of the disks, and throws what its
   * beginSync() and beginCatchUp() throw.
   */
  begin(
    peerSyncIds: readonly string[],
    from?: CatchUpFrom,
  ): { diskMaps: readonly (Uint8Array | undefined)[]; catchUp: boolean } {
    this.stop();
    const catchUp = this.image.fits(from);
    if (!catchUp) this.image.forget();
    this.mapDue = catchUp;
    this.mismatched = false;
    this.scanDone = false;
    this.baseEpoch = 0;
    this.heldEpoch = 0;
    this.appliedEpoch = 0;
    this.final = undefined;
    this.stats.epochHeld = 0;
    this.stats.epochApplied = 0;
    this.gate.begin();
    const { machine } = this;
    if (catchUp) return { diskMaps: machine.beginCatchUp(peerSyncIds), catchUp };
    return { diskMaps: machine.beginSync(peerSyncIds), catchUp };
  }

  /** The session is over, and nothing will be resumed from it: its image stays as it is, if it is
   * one. */
  keepImage(session: string): void {
    if (!this.restorable) return;
    // What is applied only now may be what the audit finds fault with.
    this.drain();
    if (this.mismatched) return;
    this.image.keep(session, this.heldEpoch);
  }

  /** Forgets what is held; nothing more is applied. */
  stop(): void {
    this.openEpoch = 0;
    this.clearLine();
    this.heldBytes = 0;
    this.frozen = false;
    this.kept = [];
    this.ackDue = 0;
    this.inTurn = false;
    this.gate.forget();
  }

  freeze(): void {
    this.frozen = true;
    this.gate.rest();
  }

  /** Takes what came since freeze(). Errors as for `take`. */
  thaw(): FtError | undefined {
    const frames = this.kept;
    this.frozen = false;
    this.kept = [];
    this.gate.resume();
    for (const frame of frames) {
      this.heldBytes -= frame.body.length;
      const error = this.take(frame);
      if (error !== undefined) return error;
    }
    return this.endTurn();
  }

  /**
   * Takes a catchUp, syncPages, epoch or guestEnd frame, whose body stays as it is until endTurn(). Returns
   * FT_ERR_EPOCH_ORDER, FT_ERR_EPOCH_BODY (or the machine's own code), FT_ERR_HELD_BYTES,
   * FT_ERR_PAGE_MAP, FT_ERR_MESSAGE, or the decompressor's error; the session is then over.
   */
  take(frame: Frame): FtError | undefined {
    if (this.frozen) return this.keep(frame);
    if (!this.inTurn) this.stageUs = this.clock.nowUs();
    this.inTurn = true;
    if (this.mapDue || frame.type === FrameType.catchUp) return this.takeCatchUp(frame);
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
    if (frame.type === FrameType.syncPages) this.takeScan(body, last);
    else this.takeEpoch(frame.epoch, body, last);
    const nowUs = this.clock.nowUs();
    this.stats.stages.decode.record(nowUs - this.stageUs);
    this.stageUs = nowUs;
    return undefined;
  }

  /**
   * No frame of this read is left: acknowledges what is held whole now, once, and then applies it.
   * Error: FT_ERR_HELD_BYTES; the session is then over.
   */
  endTurn(): FtError | undefined {
    if (!this.inTurn) return undefined;
    if (this.ackDue !== 0) this.acknowledge();
    this.applyReady(this.stageUs + SLICE_US);
    this.inTurn = false;
    return this.own();
  }

  /** Applies everything that is held whole; pieces of an unfinished epoch are dropped. */
  drain(): void {
    this.openEpoch = 0;
    this.ackDue = 0;
    this.applyReady(Number.POSITIVE_INFINITY);
    this.clearLine();
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

  /** What may differ in the kept image is cleared; from here on it is a sync like any other. */
  private takeCatchUp(frame: Frame): FtError | undefined {
    if (!this.mapDue || frame.type !== FrameType.catchUp) {
      const message =
        `A frame of type ${frame.type} came ` +
        `${this.mapDue ? 'before the map of a catch-up' : 'where no catch-up begins'}.`;
      return new FtError('FT_ERR_EPOCH_ORDER', message, { type: frame.type });
    }
    const fault = pageMapFault(frame.body, this.machine.description.memoryBytes);
    if (fault !== undefined) return fault;
    this.mapDue = false;
    this.image.forget();
    try {
      this.machine.clearPages(frame.body);
    } catch (thrown) {
      return toFtError(thrown, 'FT_ERR_MACHINE');
    }
    return undefined;
  }

  // ── taking ─────────────────────────────────────────────────────────────────────────────────────

  private takeScan(body: Uint8Array, last: boolean): void {
    this.stats.syncBytes += body.length;
    if (last) this.scanDone = true;
    this.line.push({ epoch: 0, body, last: false, owned: false, room: undefined });
    // Inside an open epoch it waits for the end of that: it was written on top of those pieces.
    if (this.openEpoch === 0) this.lineReady = this.line.length;
  }

  private takeEpoch(epoch: number, body: Uint8Array, last: boolean): void {
    this.line.push({ epoch, body, last, owned: false, room: undefined });
    if (!last) return;
    this.lineReady = this.line.length;
    this.complete(epoch);
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
    this.ackDue = epoch;
  }

  /** One ack for every epoch that became whole in this turn. */
  private acknowledge(): void {
    const epoch = this.ackDue;
    this.ackDue = 0;
    this.gate.ack(epoch);
    const nowUs = this.clock.nowUs();
    this.stats.stages.ack.record(nowUs - this.stageUs);
    this.stageUs = nowUs;
    if (this.final?.epoch === epoch) this.handlers.onGuestEnd(this.final.end);
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
    // A turn that is not over will go on with the line by itself.
    if (this.inTurn) return;
    this.stageUs = this.clock.nowUs();
    this.applyReady(this.stageUs + SLICE_US);
  };

  /** Applies what is ready, in order, until the clock stands at `endUs`; the rest soon. */
  private applyReady(endUs: number): void {
    while (this.lineHead < this.lineReady) {
      if (this.stageUs >= endUs) {
        this.stepSoon();
        break;
      }
      const piece = this.line[this.lineHead];
      assert(piece !== undefined, 'what is ready is in the line');
      this.lineHead += 1;
      if (piece.owned) this.heldBytes -= piece.body.length;
      this.applyBody(piece.epoch, piece.body);
      if (piece.room !== undefined) this.bodies.release(piece.room);
      if (piece.last) this.applied(piece.epoch);
      // A handler may have ended all this.
      if (this.line.length === 0) return;
    }
    if (this.lineHead === this.line.length) this.clearLine();
    else if (this.lineHead >= LINE_DONE_MAX) this.forgetDone();
  }

  /** Lets go of what was applied, when the line has not been empty for long. */
  private forgetDone(): void {
    this.line.splice(0, this.lineHead);
    this.lineReady -= this.lineHead;
    this.lineHead = 0;
  }

  private clearLine(): void {
    this.line.length = 0;
    this.lineHead = 0;
    this.lineReady = 0;
  }

  /** The receive buffer is about to be used again: what is still in line becomes ours. */
  private own(): FtError | undefined {
    for (let at = this.line.length - 1; at >= this.lineHead; at -= 1) {
      const piece = this.line[at];
      if (piece === undefined || piece.owned) return undefined;
      const error = this.account(piece.body.length);
      if (error !== undefined) return error;
      const { body, room } = this.bodies.hold(piece.body);
      piece.body = body;
      piece.room = room;
      piece.owned = true;
    }
    return undefined;
  }

  private applyBody(epoch: number, body: Uint8Array): void {
    const result = this.machine.apply(body);
    const nowUs = this.clock.nowUs();
    this.stats.stages.apply.record(nowUs - this.stageUs);
    this.stageUs = nowUs;
    this.stats.pagesApplied += result.pages;
    this.gate.noteBacklog(result.diskBacklogBytes);
    // Before the base epoch the image is not meant to match: pages and epochs are still crossing.
    const whole = this.baseEpoch !== 0 && epoch >= this.baseEpoch;
    if (result.auditMismatches.length > 0 && whole) {
      this.mismatched = true;
      this.stats.auditMismatches += result.auditMismatches.length;
      this.handlers.onMismatch(epoch, result.auditMismatches);
    }
  }

  private applied(epoch: number): void {
    this.appliedEpoch = epoch;
    this.stats.epochApplied = epoch;
  }
}
