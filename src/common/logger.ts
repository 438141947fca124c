/** The logger interface; its sink is in observe/. One line per state change, none per epoch. */
import type { Facts } from './errors';

export interface Logger {
  info(message: string, facts?: Facts): void;
  warn(message: string, facts?: Facts): void;
  error(message: string, facts?: Facts): void;
}

export const silentLogger: Logger = { info() {}, warn() {}, error() {} };
