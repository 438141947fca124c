/**
 * A host's grip on time: everything that happens to a host goes through its gate, so a host can be
 * stopped (SIGSTOP: all waits, then comes in order), suspended (with all of its host: its monotonic
 * clock stands still, too, and its timers are as far off as before), resumed, or dead (nothing ever
 * happens again).
 *
 *   what happens to it    pass()    a timer, a frame, an answer of the witness: an event
 *   what it does          effect()  a frame sent, a claim made, an answer of the guest that leaves
 *
 * A fault can be armed for the n-th event or the n-th effect from now. So a host dies at every point
 * that others can tell apart: between two events, and between any two deeds inside one.
 */
import type { Clock, Timer } from '../../src/common/clock';
import type { FtError } from '../../src/common/errors';
import type { Connection } from '../../src/transport/connection';
import type { Frame, FrameBuffer, FrameHeader } from '../../src/wire/frame';

export type FaultPoint = 'event' | 'effect';

interface Armed {
  readonly at: FaultPoint;
  left: number;
  readonly act: () => void;
}

export class HostGate {
  private mode: 'running' | 'paused' | 'dead' = 'running';
  private timers: (() => void)[] = [];
  private waiting: (() => void)[] = [];
  private armed: Armed | undefined;
  /** Since when the host is suspended, and how long it was before, by the world's clock. */
  private suspendedAtUs: number | undefined;
  private lostUs = 0;
  /** How many so far. */
  readonly counts = { event: 0, effect: 0 };
  /** What is thrown inside an event: a broken invariant, which ends a process. */
  onThrow: (thrown: unknown) => void = (thrown) => {
    throw thrown;
  };

  constructor(private readonly world: Clock) {}

  get running(): boolean {
    return this.mode === 'running';
  }

  /** True when the next event is certain to run at once. */
  get steady(): boolean {
    return this.mode === 'running' && this.armed === undefined;
  }

  /** Runs `fn` now, later, or never. */
  pass(fn: () => void): void {
    if (this.mode === 'running') this.run(fn, this.waiting);
    else if (this.mode === 'paused') this.waiting.push(fn);
  }

  private passTimer(fn: () => void): void {
    if (this.mode === 'running') this.run(fn, this.timers);
    else if (this.mode === 'paused') this.timers.push(fn);
  }

  /** Calls `act` before the event, or instead of the effect, that comes after `left` more. */
  arm(at: FaultPoint, left: number, act: () => void): void {
    this.armed = { at, left, act };
  }

  /** What was armed strikes no more. */
  disarm(): void {
    this.armed = undefined;
  }

  /** The host is about to do something that others notice; false when it does not come to it. */
  effect(): boolean {
    if (this.mode === 'dead') return false;
    this.counts.effect += 1;
    this.strike('effect');
    return this.running || this.mode === 'paused';
  }

  pause(): void {
    if (this.mode === 'running') this.mode = 'paused';
  }

  /** Until resume() the host's monotonic clock stands still. */
  suspend(): void {
    if (this.mode !== 'running') return;
    this.mode = 'paused';
    this.suspendedAtUs = this.world.nowUs();
  }

  private hostNowUs(): number {
    return (this.suspendedAtUs ?? this.world.nowUs()) - this.lostUs;
  }

  /** Timers first, then input, as an event loop does after a stall. */
  resume(): void {
    if (this.mode !== 'paused') return;
    this.mode = 'running';
    if (this.suspendedAtUs !== undefined) this.lostUs += this.world.nowUs() - this.suspendedAtUs;
    this.suspendedAtUs = undefined;
    const missed = [...this.timers, ...this.waiting];
    this.timers = [];
    this.waiting = [];
    for (const fn of missed) this.pass(fn);
  }

  kill(): void {
    this.mode = 'dead';
    this.armed = undefined;
    this.timers = [];
    this.waiting = [];
  }

  /** The world's clock as this host sees it. */
  clock(): Clock {
    const { world } = this;
    return {
      nowUs: () => this.hostNowUs(),
      after: (delayMs, fn) => this.once(delayMs, fn),
      every: (intervalMs, fn) => this.timer((pass) => world.every(intervalMs, pass), fn),
      soon: (fn) => world.soon(() => this.pass(fn)),
    };
  }

  private strike(at: FaultPoint): void {
    const { armed } = this;
    if (armed === undefined || armed.at !== at) return;
    armed.left -= 1;
    if (armed.left >= 0) return;
    this.armed = undefined;
    armed.act();
  }

  private run(fn: () => void, queue: (() => void)[]): void {
    this.counts.event += 1;
    if (this.armed !== undefined) {
      this.strike('event');
      if (this.mode === 'dead') return;
      if (this.mode === 'paused') {
        queue.push(fn);
        return;
      }
    }
    try {
      fn();
    } catch (thrown) {
      this.onThrow(thrown);
    }
  }

  /** A timer that was under way in a suspended host is due as much later as that took. */
  private once(delayMs: number, fn: () => void): Timer {
    const dueUs = this.hostNowUs() + Math.max(delayMs, 0) * 1000;
    const start = (pass: () => void): Timer => this.world.after(delayMs, pass);
    let later: Timer | undefined;
    const timer = this.timer(start, () => {
      const leftUs = dueUs - this.hostNowUs();
      if (leftUs < 1) fn();
      else later = this.once(leftUs / 1000, fn);
    });
    return {
      cancel: () => {
        timer.cancel();
        later?.cancel();
      },
    };
  }

  private timer(start: (pass: () => void) => Timer, fn: () => void): Timer {
    let cancelled = false;
    // A timer that is repeated during a pause fires once after it.
    let due = false;
    const fire = (): void => {
      due = false;
      if (!cancelled) fn();
    };
    const timer = start(() => {
      if (due) return;
      due = true;
      this.passTimer(fire);
    });
    return {
      cancel: () => {
        cancelled = true;
        timer.cancel();
      },
    };
  }
}

/** A connection whose events go through the host's gate. Frames are copied while they wait. */
export class GatedConnection implements Connection {
  private frameHandler: ((frame: Frame) => void) | undefined;
  onClose: (error: FtError | undefined) => void = () => undefined;
  onDrain: () => void = () => undefined;
  onTurn: () => void = () => undefined;

  constructor(
    private readonly inner: Connection,
    private readonly gate: HostGate,
    /** Told before each frame is handed on. */
    private readonly onSpeaker: () => void = () => undefined,
  ) {
    inner.onClose = (error) => gate.pass(() => this.onClose(error));
    inner.onDrain = () => gate.pass(() => this.onDrain());
    inner.onTurn = () => gate.pass(() => this.onTurn());
  }

  get remote(): string {
    return this.inner.remote;
  }

  get bytesQueued(): number {
    return this.inner.bytesQueued;
  }

  get bytesSent(): number {
    return this.inner.bytesSent;
  }

  get bytesReceived(): number {
    return this.inner.bytesReceived;
  }

  get onFrame(): (frame: Frame) => void {
    return this.frameHandler ?? (() => undefined);
  }

  set onFrame(handler: (frame: Frame) => void) {
    const first = this.frameHandler === undefined;
    this.frameHandler = handler;
    if (!first) return;
    this.inner.onFrame = (frame) => {
      const kept = this.gate.steady ? frame : { ...frame, body: Buffer.from(frame.body) };
      this.gate.pass(() => {
        this.onSpeaker();
        this.onFrame(kept);
      });
    };
  }

  send(header: FrameHeader, buffer: FrameBuffer, bodyBytes: number, onFlushed?: () => void): void {
    if (!this.gate.effect()) return;
    const flushed = onFlushed === undefined ? undefined : () => this.gate.pass(onFlushed);
    this.inner.send(header, buffer, bodyBytes, flushed);
  }

  cork(): void {
    this.inner.cork();
  }

  uncork(): void {
    this.inner.uncork();
  }

  setMaxBodyBytes(bytes: number): void {
    this.inner.setMaxBodyBytes(bytes);
  }

  close(error?: FtError): void {
    // A dead host's connections end as its death had it.
    if (this.gate.effect()) this.inner.close(error);
  }
}
