/** How long the event loop of this process was away from its work: for status lines. */
import { monitorEventLoopDelay } from 'node:perf_hooks';

/** How often the loop is expected back; what it comes later counts. */
const RESOLUTION_MS = 2;

/** Watches from its construction on, at the price of a timer that runs no JavaScript. */
export class EventLoopWatch {
  private readonly delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });

  constructor() {
    this.delays.enable();
  }

  /** The longest that it was away since the last call, µs. */
  takeMaxUs(): number {
    // The monitor records the time from one look to the next, its own period included. Nothing has
    // been recorded when the loop was away all the time up to now.
    const us = this.delays.max / 1000 - RESOLUTION_MS * 1000;
    this.delays.reset();
    return Math.max(0, us);
  }
}
