/**
 * A heartbeat in both directions: calls `beat` every interval and feeds what is heard to a failure
 * detector. It knows no connection; the roles send and receive.
 */
import type { Clock, Timer } from './clock';
import { FailureDetector } from './failure-detector';

export interface PulseOptions {
  readonly clock: Clock;
  readonly intervalMs: number;
  readonly suspectAfterMs: number;
  /** Sends one sign of life. */
  readonly beat: () => void;
  readonly onSuspect: (why: 'silence' | 'closed', silentMs: number) => void;
}

export class Pulse {
  readonly detector: FailureDetector;
  private timer: Timer | undefined;

  constructor(private readonly options: PulseOptions) {
    this.detector = new FailureDetector({
      clock: options.clock,
      suspectAfterMs: options.suspectAfterMs,
      stallGraceMs: 2 * options.intervalMs,
      onSuspect: options.onSuspect,
    });
  }

  start(): void {
    this.stop();
    this.timer = this.options.clock.every(this.options.intervalMs, this.options.beat);
    this.detector.start();
  }

  stop(): void {
    this.timer?.cancel();
    this.timer = undefined;
    this.detector.stop();
  }
}
