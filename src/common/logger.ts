/**
 * The logger interface; its sink is in observe/. One line per state change, none per epoch. What
 * each level means: docs/logs.md.
 */
import type { Facts } from './errors';

/** From the least to the most pressing. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'fatal'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Logger {
  info(message: string, facts?: Facts): void;
  warn(message: string, facts?: Facts): void;
  error(message: string, facts?: Facts): void;
}

export const silentLogger: Logger = { info() {}, warn() {}, error() {} };

/** Says yes at most once per interval: for lines that could otherwise come with every epoch. */
export class Seldom {
  private nextUs = Number.NEGATIVE_INFINITY;

  constructor(private readonly intervalMs: number) {}

  due(nowUs: number): boolean {
    if (nowUs < this.nextUs) return false;
    this.nextUs = nowUs + this.intervalMs * 1000;
    return true;
  }
}

/**
 * Lines that strangers can cause, as many as they like: some at once, then one an interval. How many
 * were left out is told with the next one.
 */
export class LineBudget {
  private left: number;
  private filledUs = Number.NEGATIVE_INFINITY;
  private unsaid = 0;

  /** `burst` lines at once; each comes back after `intervalMs`. */
  constructor(
    private readonly burst: number,
    private readonly intervalMs: number,
  ) {
    this.left = burst;
  }

  /** How many lines were left out since the last one that was said, or undefined: leave it out. */
  take(nowUs: number): number | undefined {
    const intervalUs = this.intervalMs * 1000;
    const back = Math.floor(Math.min(this.burst, (nowUs - this.filledUs) / intervalUs));
    if (back > 0) {
      this.left = Math.min(this.burst, this.left + back);
      this.filledUs = nowUs;
    }
    if (this.left === 0) {
      this.unsaid += 1;
      return undefined;
    }
    this.left -= 1;
    const { unsaid } = this;
    this.unsaid = 0;
    return unsaid;
  }
}
