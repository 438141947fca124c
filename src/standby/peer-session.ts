/**
 * One session of a primary at this standby: its two connections and the heartbeat between us.
 *
 *   replication welcomed ──▶ half ── heartbeat joins within the deadline ──▶ whole ──▶ closed
 *                              └───────────── it does not ───────────────────────────────▲
 *
 * Only moves frames and signs of life; what they mean is the role's business. What this side may say
 * of itself, and when, is in signs.ts; what the ends of the connections mean, in session-end.ts.
 */
import type { Clock, Timer } from '../common/clock';
import { FtError } from '../common/errors';
import { Pulse } from '../common/pulse';
import type { Connection } from '../transport/connection';
import { FrameBufferPool } from '../wire/buffer-pool';
import { type Frame, FrameType } from '../wire/frame';
import { AUDIT_GFNS_MAX, type Bye, packFrame, unpackBye } from '../wire/messages';
import { SessionEnd } from './session-end';
import { Signs } from './signs';

/** How long the heartbeat connection may take to join. */
const JOIN_MS = 2000;

export interface SessionOptions {
  readonly clock: Clock;
  readonly session: string;
  readonly primaryId: string;
  /** The generation that the primary said it runs in. */
  readonly generation: number;
  readonly heartbeatIntervalMs: number;
  /**
   * Silence after which the primary is suspected. One heartbeat interval is added to it here: the
   * primary suspects without, so that it keeps its guest when nothing but the link is cut.
   */
  readonly suspectAfterMs: number;
  /** The newest epoch held, for heartbeats. */
  readonly epoch: () => number;
}

/** What the image is made of. */
const STREAM_TYPES: ReadonlySet<FrameType> = new Set([
  FrameType.catchUp,
  FrameType.syncPages,
  FrameType.epoch,
  FrameType.guestEnd,
]);

export type SuspicionCause = 'silence' | 'closed';

export interface SessionHandlers {
  /** A catchUp, sync, epoch or guestEnd frame of this session's generation. */
  onFrame(frame: Frame): void;
  /** No frame of what was read is left; bodies handed out since the last call are valid until now. */
  onTurn(): void;
  onBye(bye: Bye): void;
  /** The primary gave up its right to run the guest; `epoch` was its last. */
  onHandOver(epoch: number): void;
  /** The primary broke the protocol; the session is of no use any more. */
  onBroken(error: FtError): void;
  /** A connection ended without a bye. No sign is given from here on; onSuspect follows. */
  onHalf(error: FtError | undefined): void;
  /**
   * The primary is silent, or its process is gone ("closed"): nothing leaves it any more on the
   * strength of what this side said. Once, before watchAgain().
   */
  onSuspect(why: SuspicionCause, silentMs: number): void;
}

/** True for errors that mean "what came is no valid frame", not "the peer is gone". */
function isProtocolError(error: FtError | undefined): error is FtError {
  // A frame cut off in the middle is what a killed process leaves behind.
  if (error === undefined || error.code === 'FT_ERR_FRAME_TRUNCATED') return false;
  return error.code.startsWith('FT_ERR_FRAME');
}

export class PeerSession {
  private readonly acks = new FrameBufferPool(0, 64);
  private readonly signs: Signs;
  private readonly end: SessionEnd;
  private heartbeat: Connection | undefined;
  private joinTimer: Timer | undefined;
  private readonly pulse: Pulse;
  /** Both connections stand. */
  private open = true;
  /** This side closed them. */
  private closedHere = false;
  private readonly ackHeader = { type: FrameType.ack, flags: 0, generation: 0, epoch: 0 };

  constructor(
    readonly options: SessionOptions,
    private readonly replication: Connection,
    private readonly handlers: SessionHandlers,
  ) {
    const { clock } = options;
    this.ackHeader.generation = options.generation;
    this.signs = new Signs(options);
    const silenceMs = options.suspectAfterMs + options.heartbeatIntervalMs;
    this.pulse = new Pulse({
      clock,
      intervalMs: options.heartbeatIntervalMs,
      suspectAfterMs: silenceMs,
      beat: () => this.signs.beat(),
      onSuspect: (why, silentMs) => handlers.onSuspect(why, silentMs),
    });
    this.end = new SessionEnd(clock, silenceMs, {
      onHalf: (error) => handlers.onHalf(error),
      onClosed: () => this.over('closed'),
      onLapsed: () => this.over('silence'),
    });
    this.joinTimer = clock.after(JOIN_MS, () => {
      handlers.onBroken(new FtError('FT_ERR_SESSION', 'The heartbeat connection did not come.'));
    });
    replication.onFrame = (frame) => this.received(frame);
    replication.onTurn = () => handlers.onTurn();
    replication.onClose = (error) => this.closed(error);
  }

  get remote(): string {
    return this.replication.remote;
  }

  get name(): string {
    return this.options.session;
  }

  get primaryId(): string {
    return this.options.primaryId;
  }

  get whole(): boolean {
    return this.heartbeat !== undefined;
  }

  /** Both connections stand, and the primary was heard lately. */
  get alive(): boolean {
    const silentMax = this.options.suspectAfterMs * 1000;
    return this.open && this.whole && this.pulse.detector.silentUs < silentMax;
  }

  /** Heartbeats of the primary that came late. */
  get lateHeartbeats(): number {
    return this.pulse.detector.late;
  }

  /** The second connection of the session. */
  join(heartbeat: Connection): void {
    this.heartbeat = heartbeat;
    this.joinTimer?.cancel();
    this.signs.begin(heartbeat, this.replication);
    heartbeat.onFrame = (frame) => this.heardBeat(frame);
    heartbeat.onClose = (error) => this.closed(error);
    this.pulse.start();
  }

  /** No sign is given from here on: this side may be about to promote. */
  hush(): void {
    this.signs.hush();
  }

  /** Watches again after a suspicion that proved wrong. */
  watchAgain(): void {
    this.signs.speak();
    this.pulse.start();
  }

  ack(epoch: number): void {
    this.signs.checkAck();
    const buffer = this.acks.acquire();
    this.ackHeader.epoch = epoch;
    this.replication.send(this.ackHeader, buffer, 0, () => this.acks.release(buffer));
  }

  reportMismatch(epoch: number, gfns: readonly number[]): void {
    const { generation } = this.options;
    const header = { type: FrameType.auditMismatch, flags: 0, generation, epoch };
    const { buffer, bytes } = packFrame({ gfns: gfns.slice(0, AUDIT_GFNS_MAX) });
    this.replication.send(header, buffer, bytes);
  }

  /**
   * Leaves in order: the primary is told that this side will not promote in this generation, or
   * that it did, or that it could not in the generation that it won. On both connections, since the
   * end of either must not overtake the word.
   */
  leave(reason: string, outcome: Pick<Bye, 'tookOver' | 'gaveUp'> = {}): void {
    const bye: Bye = { reason, ...outcome };
    for (const connection of [this.replication, this.heartbeat]) {
      if (connection === undefined) continue;
      const { generation, epoch } = this.options;
      const header = { type: FrameType.bye, flags: 0, generation, epoch: epoch() };
      const { buffer, bytes } = packFrame(bye);
      connection.send(header, buffer, bytes);
    }
    this.close();
  }

  close(error?: FtError): void {
    this.open = false;
    this.closedHere = true;
    this.joinTimer?.cancel();
    this.pulse.stop();
    this.signs.stop();
    this.end.stop();
    for (const connection of [this.replication, this.heartbeat]) {
      if (connection === undefined) continue;
      connection.onFrame = () => undefined;
      connection.onTurn = () => undefined;
      connection.onClose = () => undefined;
      connection.close(error);
    }
  }

  private received(frame: Frame): void {
    this.pulse.detector.heard();
    if (!this.generationHolds(frame)) return;
    if (STREAM_TYPES.has(frame.type)) {
      // What comes after the end of the other connection is never acknowledged.
      if (this.whole) this.take(frame);
      else this.misplaced(frame);
    } else if (frame.type === FrameType.bye) this.saidBye(frame);
    else if (frame.type === FrameType.handOver) {
      // What came before the word counts as before it.
      this.handlers.onTurn();
      if (this.open) this.handlers.onHandOver(frame.epoch);
    } else this.misplaced(frame);
  }

  private heardBeat(frame: Frame): void {
    this.pulse.detector.heard();
    if (!this.generationHolds(frame)) return;
    if (frame.type === FrameType.bye) this.saidBye(frame);
    else if (frame.type !== FrameType.heartbeat) this.misplaced(frame);
    else if (this.open) this.noteBeat(frame);
  }

  private noteBeat(frame: Frame): void {
    const error = this.signs.heard(frame.body);
    if (error !== undefined) this.handlers.onBroken(error);
  }

  private take(frame: Frame): void {
    if (this.open) this.handlers.onFrame(frame);
  }

  private generationHolds(frame: Frame): boolean {
    const { generation } = this.options;
    if (frame.generation === generation) return true;
    const facts = { theirs: frame.generation, ours: generation };
    const message = `A frame of generation ${facts.theirs} came in generation ${generation}.`;
    this.handlers.onBroken(new FtError('FT_ERR_GENERATION', message, facts));
    return false;
  }

  private misplaced(frame: Frame): void {
    const message = `A frame of type ${frame.type} came from the primary, where it has no place.`;
    this.handlers.onBroken(new FtError('FT_ERR_FRAME_UNEXPECTED', message, { type: frame.type }));
  }

  private saidBye(frame: Frame): void {
    // What came before the word counts as before it.
    this.handlers.onTurn();
    if (this.closedHere) return;
    const bye = unpackBye(frame.body);
    if (bye instanceof FtError) this.handlers.onBroken(bye);
    else this.handlers.onBye(bye);
  }

  private closed(error: FtError | undefined): void {
    if (this.closedHere) return;
    if (isProtocolError(error)) {
      this.handlers.onBroken(error);
      return;
    }
    if (!this.whole) {
      this.handlers.onBroken(new FtError('FT_ERR_SESSION', 'The primary closed the greeting.'));
      return;
    }
    this.open = false;
    this.signs.hush();
    this.pulse.stop();
    this.end.ended(error);
  }

  private over(why: SuspicionCause): void {
    this.handlers.onSuspect(why, this.pulse.detector.silentUs / 1000);
  }
}
