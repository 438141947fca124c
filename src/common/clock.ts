/** Time and timers as an interface, so that the simulator owns both. */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Monotonic microseconds; the zero point has no meaning. */
  nowUs(): number;
  /** Calls `fn` once, not before `delayMs`. */
  after(delayMs: number, fn: () => void): Timer;
  /** Calls `fn` again and again, about every `intervalMs`. */
  every(intervalMs: number, fn: () => void): Timer;
  /** Calls `fn` after other waiting events had their turn (setImmediate). */
  soon(fn: () => void): void;
}

export const systemClock: Clock = {
  nowUs: () => performance.now() * 1000,
  after(delayMs, fn) {
    const handle = setTimeout(fn, delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
  every(intervalMs, fn) {
    const handle = setInterval(fn, intervalMs);
    return { cancel: () => clearInterval(handle) };
  },
  soon(fn) {
    setImmediate(fn);
  },
};
