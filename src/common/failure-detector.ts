/**
 * Notices that a peer has fallen silent. Pure: it knows a clock and what it is told, no connection.
 * A suspicion starts a claim at the witness; it never promotes anybody by itself.
 *
 *            heard ─┐                                    ┌─ heard ─▶ listening
 *                   ▼        deadline passes             │
 *   idle ─start▶ listening ───────────────────▶ second look ── still silent ─▶ suspected
 *                   ▲                                    │
 *                   └──────────── stop: idle ────────────┘         closed() ─▶ suspected at once
 *
 * Why the second look: timers run before waiting input is read. When this very process was held up
 * (a long turn, the host's scheduler, SIGSTOP), its timer fires late while the peer's heartbeats
 * wait unread in the socket, and a stall of our own would look like a silent peer. So a deadline
 * that passes on time gives waiting input one turn of the loop, and one that passes late gives the
 * peer a fresh moment (`stallGraceMs`), since the peer may have been held up by the same host.
 */
import type { Clock, Timer } from './clock';

export interface FailureDetectorOptions {
  readonly clock: Clock;
  /** Silence after which the peer is suspected. */
  readonly suspectAfterMs: number;
  /** What a late deadline grants; two heartbeat intervals fit. */
  readonly stallGraceMs: number;
  /** Called once per start(). */
  readonly onSuspect: (why: 'silence' | 'closed', silentMs: number) => void;
}

export class FailureDetector {
  private heardAtUs = 0;
  private timer: Timer | undefined;
  private running = false;
  /** Tells a second look that was asked for before stop() or a new start() that it is stale. */
  private round = 0;
  private stallCount = 0;
  private lateCount = 0;

  constructor(private readonly options: FailureDetectorOptions) {}

  /** Deadlines that passed so late that this process must have stalled. */
  get stalls(): number {
    return this.stallCount;
  }

  start(): void {
    this.stop();
    this.running = true;
    this.heardAtUs = this.options.clock.nowUs();
    this.waitUntil(this.heardAtUs + this.options.suspectAfterMs * 1000);
  }

  stop(): void {
    this.running = false;
    this.round += 1;
    this.timer?.cancel();
    this.timer = undefined;
  }

  /** Signs of life that came after more than `stallGraceMs` of silence. */
  get late(): number {
    return this.lateCount;
  }

  /** The peer gave a sign of life. Cheap: the deadline is looked up when its timer fires. */
  heard(): void {
    const nowUs = this.options.clock.nowUs();
    if (nowUs - this.heardAtUs > this.options.stallGraceMs * 1000) this.lateCount += 1;
    this.heardAtUs = nowUs;
  }

  /** µs since the last sign of life. */
  get silentUs(): number {
    return this.options.clock.nowUs() - this.heardAtUs;
  }

  /** A connection of the peer was closed or reset: nothing more will be heard. */
  closed(): void {
    if (this.running) this.suspect('closed');
  }

  private waitUntil(dueUs: number): void {
    const { clock } = this.options;
    const delayMs = Math.max(0, (dueUs - clock.nowUs()) / 1000);
    this.timer = clock.after(delayMs, () => this.deadline(dueUs));
  }

  private deadline(dueUs: number): void {
    const { clock, suspectAfterMs, stallGraceMs } = this.options;
    const nextUs = this.heardAtUs + suspectAfterMs * 1000;
    if (nextUs > clock.nowUs()) {
      this.waitUntil(nextUs);
      return;
    }
    const late = clock.nowUs() - dueUs > stallGraceMs * 1000;
    if (late) this.stallCount += 1;
    const round = this.round;
    const look = (): void => this.secondLook(round);
    if (late) this.timer = clock.after(stallGraceMs, () => clock.soon(look));
    else clock.soon(look);
  }

  private secondLook(round: number): void {
    if (round !== this.round) return;
    const dueUs = this.heardAtUs + this.options.suspectAfterMs * 1000;
    if (dueUs > this.options.clock.nowUs()) this.waitUntil(dueUs);
    else this.suspect('silence');
  }

  private suspect(why: 'silence' | 'closed'): void {
    const silentMs = this.silentUs / 1000;
    this.stop();
    this.options.onSuspect(why, silentMs);
  }
}
