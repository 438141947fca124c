/**
 * Notices that a standby shows itself alive and is of no use all the same: the replication connection
 * brings nothing any more, or no heartbeat of ours is echoed.
 *
 * Something on the way (a firewall that forgot a connection, a path that drops large packets) may
 * swallow one connection of the two and leave the other alone. The kernels repeat what is not
 * acknowledged for some fifteen minutes before they give up, and for that long a protected guest's
 * output would wait for acks that never come, with a standby that shows itself alive.
 *
 *   each of our beats ─┬─ no beat of theirs since the last look: that is silence, judged elsewhere
 *                      ├─ all that was sent that way has arrived, or more has than before ─▶ count = 0
 *   (each way by itself) └─ something is under way, and nothing of it has arrived ──────▶ count + 1
 *                                               count is looksMax ──▶ FT_ERR_LINK_STUCK: link lost
 *   likewise: beats of ours, and no new echo of them, looksMax times ──▶ FT_ERR_PEER_MUTE: link lost
 *
 * What counts is bytes that reached the process at the other end, as its heartbeats tell, whatever it
 * does with them. So neither a standby that acknowledges nothing while its disks are behind, nor one
 * that has just enough link for the first sync, looks stuck: their bytes arrive. A standby whose
 * process stands still sends no heartbeats either. Both directions are watched from here, since here
 * the output waits.
 *
 * And echoes: a standby that doubts gives no sign that output could leave by, until the witness has
 * told it that nobody claimed (standby/signs.ts). One that cannot reach the witness stays like that,
 * beating, although its doubt may have been over a moment later. This side may well reach it.
 *
 * Looks are counted, not time: a process that was stopped finds old heartbeats in its socket when it
 * goes on, and takes them for one look.
 *
 * A link that is ended by this is a link that was lost, with all that follows from that: whoever may
 * run the guest is asked of the witness. So no wrong guess can break a promise; it costs a catch-up.
 * Why so, and not with TCP_USER_TIMEOUT: docs/adr/036-a-link-that-brings-nothing.md.
 */
import { FtError } from '../common/errors';
import type { Connection } from '../transport/connection';
import type { Heartbeat } from '../wire/heartbeat';

/** A link is given up when it is stuck for so many times the silence after which it would be. */
const PATIENCE = 20;
/** … and, where that is long already, for no longer than this above it. */
const STUCK_MS_MORE_MAX = 10_000;
/** TCP repeats a lost segment 0.2, 0.6 and 1.4 s after it: the first repetition may be lost, too. */
const STUCK_MS_MIN = 1000;

export interface LinkWatchOptions {
  readonly heartbeatIntervalMs: number;
  readonly suspectAfterMs: number;
}

/** How long nothing may arrive of what is under way, ms. */
export function stuckMsOf(suspectAfterMs: number): number {
  const patienceMs = Math.min(PATIENCE * suspectAfterMs, suspectAfterMs + STUCK_MS_MORE_MAX);
  return Math.max(STUCK_MS_MIN, patienceMs);
}

/** One direction: what had arrived at the last look, and how often in a row it was no more. */
class Way {
  private arrived = 0;
  private looks = 0;

  begin(): void {
    this.arrived = 0;
    this.looks = 0;
  }

  /** So often in a row something was under way of which nothing had arrived. */
  look(sent: number, arrived: number): number {
    this.looks = sent > arrived && arrived === this.arrived ? this.looks + 1 : 0;
    this.arrived = arrived;
    return this.looks;
  }
}

export class LinkWatch {
  private readonly looksMax: number;
  private readonly stuckMs: number;
  private heardSince = false;
  private readonly out = new Way();
  private readonly back = new Way();
  private readonly echoes = new Way();
  /** The guest was handed over: the standby claims it, and gives no sign meanwhile. */
  private handedOver = false;

  constructor(options: LinkWatchOptions) {
    this.stuckMs = stuckMsOf(options.suspectAfterMs);
    this.looksMax = Math.ceil(this.stuckMs / options.heartbeatIntervalMs);
  }

  /** A link is up. */
  begin(): void {
    this.heardSince = false;
    this.handedOver = false;
    this.out.begin();
    this.back.begin();
    this.echoes.begin();
  }

  /** From here on no echo is due; how long the word of the standby may take is judged elsewhere. */
  noEchoes(): void {
    this.handedOver = true;
  }

  /** A heartbeat of the standby was read. */
  heard(): void {
    this.heardSince = true;
  }

  /**
   * At each of our beats, of which the newest before was `beat`; `theirs` is the newest that was
   * heard. The error ends the link.
   */
  look(
    ours: Pick<Connection, 'bytesSent' | 'bytesReceived'>,
    beat: number,
    theirs: Heartbeat,
  ): FtError | undefined {
    if (!this.heardSince) return undefined;
    this.heardSince = false;
    const { bytesSent, bytesReceived } = ours;
    const outLooks = this.out.look(bytesSent, theirs.received);
    const backLooks = this.back.look(theirs.sent, bytesReceived);
    const echoLooks = this.handedOver ? 0 : this.echoes.look(beat, theirs.echo);
    if (outLooks >= this.looksMax) return this.stuck(bytesSent - theirs.received, 'to');
    if (backLooks >= this.looksMax) return this.stuck(theirs.sent - bytesReceived, 'from');
    return echoLooks >= this.looksMax ? this.mute() : undefined;
  }

  private mute(): FtError {
    const message =
      `The standby shows itself, and has echoed no heartbeat for ${this.stuckMs} ms: it doubts, and ` +
      'the witness gives it no answer. The link is given up, so that output need not wait for it; ' +
      'see that the standby reaches the witness.';
    return new FtError('FT_ERR_PEER_MUTE', message, { stuckMs: this.stuckMs });
  }

  private stuck(bytes: number, way: 'to' | 'from'): FtError {
    const message =
      `Of ${bytes} bytes on their way ${way} the standby none has arrived for ${this.stuckMs} ms, ` +
      'while its heartbeats pass: something between the hosts swallows the replication connection. ' +
      'It is made anew; if this comes again, look at firewalls and at the MTU of the path.';
    return new FtError('FT_ERR_LINK_STUCK', message, { bytes, way, stuckMs: this.stuckMs });
  }
}
