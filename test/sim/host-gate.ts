/**
 * A host's grip on time: everything that happens to a host goes through its gate, so a host can be
 * stopped (SIGSTOP: all waits, then comes in order), resumed, or dead (nothing ever happens again).
 */
import type { Clock, Timer } from '../../src/common/clock';
import type { FtError } from '../../src/common/errors';
import type { Connection } from '../../src/transport/connection';
import type { Frame, FrameBuffer, FrameHeader } from '../../src/wire/frame';

export class HostGate {
  private mode: 'running' | 'paused' | 'dead' = 'running';
  private waiting: (() => void)[] = [];

  get running(): boolean {
    return this.mode === 'running';
  }

  /** Runs `fn` now, later, or never. */
  pass(fn: () => void): void {
    if (this.mode === 'running') fn();
    else if (this.mode === 'paused') this.waiting.push(fn);
  }

  pause(): void {
    if (this.mode === 'running') this.mode = 'paused';
  }

  /** Timers first, then input, as an event loop does after a stall. */
  resume(): void {
    if (this.mode !== 'paused') return;
    this.mode = 'running';
    const waiting = this.waiting;
    this.waiting = [];
    for (const fn of waiting) this.pass(fn);
  }

  kill(): void {
    this.mode = 'dead';
    this.waiting = [];
  }

  /** The world's clock as this host sees it. */
  clock(world: Clock): Clock {
    return {
      nowUs: () => world.nowUs(),
      after: (delayMs, fn) => this.timer((pass) => world.after(delayMs, pass), fn),
      every: (intervalMs, fn) => this.timer((pass) => world.every(intervalMs, pass), fn),
      soon: (fn) => world.soon(() => this.pass(fn)),
    };
  }

  private timer(start: (pass: () => void) => Timer, fn: () => void): Timer {
    let cancelled = false;
    // A timer that is repeated during a pause fires once after it.
    let due = false;
    const timer = start(() => {
      if (due) return;
      due = true;
      this.pass(() => {
        due = false;
        if (!cancelled) fn();
      });
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

  get onFrame(): (frame: Frame) => void {
    return this.frameHandler ?? (() => undefined);
  }

  set onFrame(handler: (frame: Frame) => void) {
    const first = this.frameHandler === undefined;
    this.frameHandler = handler;
    if (!first) return;
    this.inner.onFrame = (frame) => {
      const kept = this.gate.running ? frame : { ...frame, body: Buffer.from(frame.body) };
      this.gate.pass(() => this.onFrame(kept));
    };
  }

  send(header: FrameHeader, buffer: FrameBuffer, bodyBytes: number, onFlushed?: () => void): void {
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
    this.inner.close(error);
  }
}
