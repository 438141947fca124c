/** A packet of many requests, and what the process that gets it does at a stretch. */
import type { Duplex } from 'node:stream';

/** So many requests as one write. */
export function pipelined(count: number, host: string, where = '/livez'): string {
  return `GET ${where} HTTP/1.1\r\nHost:${host}\r\n\r\n`.repeat(count);
}

export interface Stretch {
  /** The most processor time between two turns of the event loop, in milliseconds. */
  readonly longestMs: number;
  /** What came back until the connection was closed. */
  readonly got: string;
}

/**
 * The longest that one packet of requests may keep the event loop, on a machine that has other things
 * to do. All of them in one go would take over a tenth of a second.
 */
export const STRETCH_MS_MAX = 60;

/** Sends text, and watches this process, in which the server runs too, until it hangs up. */
export function stretchOf(socket: Duplex, text: string): Promise<Stretch> {
  return new Promise((resolve) => {
    let got = '';
    let longestMs = 0;
    let isOpen = true;
    socket.on('data', (piece: Buffer) => {
      got += piece.toString('latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      isOpen = false;
    });
    socket.write(text);
    let before = process.cpuUsage();
    const turn = (): void => {
      const { user, system } = process.cpuUsage(before);
      before = process.cpuUsage();
      longestMs = Math.max(longestMs, (user + system) / 1000);
      if (isOpen) setImmediate(turn);
      else resolve({ longestMs, got });
    };
    setImmediate(turn);
  });
}
