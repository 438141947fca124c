/** The logger interface; its sink is in observe/. One line per state change, none per epoch. */
import type { Facts } from './errors';

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
