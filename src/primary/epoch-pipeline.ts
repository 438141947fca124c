/**
 * From cuts to frames: takes waiting cuts from the machine in order, has each encoded in pieces,
 * compresses a piece where that pays, and sends it.
 *
 *   onCut ─▶ pump ─▶ cork ─▶ nextCut, with its first piece ─▶ compress? ─▶ send ─┐   ┌▶ uncork
 *             ▲              ▲   encodeCut ─▶ compress? ─▶ send                    │   │ none waits
 *             │              │       ▲ piece not the last                          │   │
 *             │              │       └─────────────────────────────────────────────┤   │
 *             │              └──────────────────── last: noteSent, next cut ───────┴───┤
 *             │        the turn's time is used up: clock.soon   ◀──────────────────────┤
 *             └──────── queue of the link is full: onDrain  ◀──────────────────────────┘
 *
 * All cuts that wait are taken in one turn and leave in one system call: the more the machine cuts,
 * the less each cut costs. A lone cut finds nobody to wait for and leaves at once. A turn of the
 * event loop is held for about SLICE_US at most, however large the epoch. When the connection does not take more, encoding stops too; then cuts wait for commits, and at last the
 * guest waits: nothing grows without bound.
 */
import type { Clock } from '../common/clock';
import type { Cut, EncodedChunk, GuestEnd, Machine } from '../machine/machine';
import type { Connection } from '../transport/connection';
import { FrameFlag, FrameType } from '../wire/frame';
import { packFrame } from '../wire/messages';
import type { FrameSender } from './frame-sender';
import type { OutputCommit } from './output-commit';
import type { PrimaryStats } from './primary-stats';

/** How long one turn may encode. */
const SLICE_US = 1000;
/** Bytes handed to the connection beyond which encoding waits for it to drain. */
const QUEUED_BYTES_MAX = 8 * 1024 * 1024;

export interface PipelineHandlers {
  /** The last piece of the base epoch was sent. */
  onBaseSent(epoch: number): void;
  /** This epoch, about to be sent, is the guest's last. */
  onFinal(epoch: number, end: GuestEnd): void;
  /** All of the epoch that restAtHalt() asked for was sent, and nothing follows. */
  onResting(epoch: number): void;
  /** The machine could not be sure of its dirty set; the epoch is all of memory. */
  onOverrun(epoch: number): void;
}

export class EpochPipeline {
  private connection: Connection | undefined;
  private generation = 0;
  private encoding = false;
  private epoch = 0;
  private base = false;
  /** The epoch is cut of a halted guest that is still halted. */
  private halted = false;
  /** After the next epoch of a halted guest, nothing more is sent. */
  private restAsked = false;
  private resting = false;
  private pumpAsked = false;
  /** Where the stage that goes on now began. */
  private stageUs = 0;
  /** What the epoch's pieces took so far, summed. */
  private encodeUs = 0;
  private compressUs = 0;
  private frameUs = 0;
  private epochBytes = 0;

  constructor(
    private readonly clock: Clock,
    private readonly machine: Machine,
    private readonly sender: FrameSender,
    private readonly commit: OutputCommit,
    private readonly stats: PrimaryStats,
    private readonly handlers: PipelineHandlers,
  ) {}

  start(connection: Connection, generation: number, firstEpoch: number): void {
    this.connection = connection;
    this.generation = generation;
    this.encoding = false;
    this.epoch = firstEpoch - 1;
    this.restAsked = false;
    this.resting = false;
    this.commit.begin(firstEpoch);
  }

  /** The next epoch that was cut of a halted guest is the last that is sent, until goOn(). */
  restAtHalt(): void {
    this.restAsked = true;
    // An epoch that is half sent now was cut before this halt, of an earlier one at best.
    this.halted = false;
  }

  /** Cuts that were left waiting are sent after all. */
  goOn(): void {
    this.restAsked = false;
    this.resting = false;
    this.pumpSoon();
  }

  /** Forgets a half-encoded epoch; the machine forgets its cuts with endReplication. */
  stop(): void {
    this.connection = undefined;
    this.encoding = false;
  }

  /** The machine has cuts waiting, or the connection has room again. */
  pump(): void {
    const { connection } = this;
    if (connection === undefined || connection.bytesQueued >= QUEUED_BYTES_MAX) return;
    this.stageUs = this.clock.nowUs();
    const endUs = this.stageUs + SLICE_US;
    connection.cork();
    while (this.connection === connection && connection.bytesQueued < QUEUED_BYTES_MAX) {
      if (this.encoding) this.sendPiece(connection, this.machine.encodeCut(this.sender.scratch));
      else if (!this.takeCut(connection)) break;
      if (this.stageUs < endUs) continue;
      this.pumpSoon();
      break;
    }
    connection.uncork();
    if (this.connection === connection) this.commit.noteFlushed(this.clock.nowUs());
  }

  /** pump(), in a turn of its own. */
  pumpSoon(): void {
    if (this.pumpAsked) return;
    this.pumpAsked = true;
    this.clock.soon(this.pumpNow);
  }

  private readonly pumpNow = (): void => {
    this.pumpAsked = false;
    this.pump();
  };

  private takeCut(connection: Connection): boolean {
    if (this.resting) return false;
    const cut = this.machine.nextCut(this.sender.scratch);
    if (cut === undefined) return false;
    this.encoding = true;
    this.epoch = cut.epoch;
    this.base = cut.base;
    this.halted = cut.halted;
    this.encodeUs = 0;
    this.compressUs = 0;
    this.frameUs = 0;
    this.epochBytes = 0;
    this.count(cut);
    this.commit.noteCut(cut, this.stageUs);
    if (cut.guestEnd !== undefined) this.sendGuestEnd(connection, cut.epoch, cut.guestEnd);
    this.sendPiece(connection, cut.chunk);
    return true;
  }

  /**
   * Says that the guest ended itself in `epoch`. Before the epoch, so that whoever holds the epoch
   * whole also knows that there is nothing to resume.
   */
  private sendGuestEnd(connection: Connection, epoch: number, end: GuestEnd): void {
    const header = { type: FrameType.guestEnd, flags: 0, generation: this.generation, epoch };
    const { buffer, bytes } = packFrame({ kind: end.kind, cause: end.cause });
    connection.send(header, buffer, bytes);
    this.handlers.onFinal(epoch, end);
  }

  private count(cut: Cut): void {
    const stats = this.stats;
    stats.epochCut = cut.epoch;
    stats.epochsCut += 1;
    stats.dirtyPages += cut.dirtyPages;
    stats.outputFrames += cut.outputFrames;
    if (cut.overrun) {
      stats.overruns += 1;
      this.handlers.onOverrun(cut.epoch);
    }
    stats.pauseUs.record(cut.pauseUs);
    stats.dirtyPagesPerEpoch.record(cut.dirtyPages);
    const { stages } = stats;
    // Where nobody had to ask there was no kick, which is not a short one.
    if (cut.kickUs > 0) stages.kick.record(cut.kickUs);
    stages.barrier.record(cut.barrierUs);
    stages.harvest.record(cut.harvestUs);
    stages.copy.record(cut.copyUs);
    stages.state.record(cut.stateUs);
    stages.reset.record(cut.resetUs);
    stages.wake.record(cut.wakeUs);
  }

  /** Sends a piece that was just encoded into the sender's scratch. */
  private sendPiece(connection: Connection, chunk: EncodedChunk): void {
    const encodedUs = this.clock.nowUs();
    this.encodeUs += encodedUs - this.stageUs;
    const { last } = chunk;
    this.stats.rawBytes += chunk.rawBytes;
    const flags = (last ? FrameFlag.last : 0) | (this.base ? FrameFlag.base : 0);
    const { epoch, sender } = this;
    this.epochBytes += sender.send(
      connection,
      FrameType.epoch,
      flags,
      this.generation,
      epoch,
      chunk,
    );
    this.stageUs = this.clock.nowUs();
    this.compressUs += sender.compressUs;
    this.frameUs += this.stageUs - encodedUs - sender.compressUs;
    if (!last) return;
    this.encoding = false;
    const { stages } = this.stats;
    stages.encode.record(this.encodeUs);
    stages.compress.record(this.compressUs);
    stages.frame.record(this.frameUs);
    this.commit.noteSent(epoch, this.epochBytes, this.stageUs);
    if (this.base) this.handlers.onBaseSent(epoch);
    if (!this.restAsked || !this.halted) return;
    this.restAsked = false;
    this.resting = true;
    this.handlers.onResting(epoch);
  }
}
