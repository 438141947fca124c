/**
 * Writes lines to a file descriptor without ever blocking the event loop: on Linux, process.stdout
 * on a pipe is written synchronously, and a reader that stalls would stall the heartbeats with it.
 * What cannot be written is dropped beyond a bound; a reader that is gone is nobody's loss.
 */
import { write, writeSync } from 'node:fs';

const WAITING_CHARS_MAX = 1024 * 1024;

export class LineWriter {
  private waiting = '';
  private busy = false;
  private broken = false;

  constructor(private readonly fd: number) {}

  put(line: string): void {
    if (this.broken || this.waiting.length > WAITING_CHARS_MAX) return;
    this.waiting += line;
    this.pump();
  }

  /** Writes what waits, synchronously: for the moment before the process ends. */
  flush(): void {
    const text = this.waiting;
    this.waiting = '';
    if (this.broken || text === '') return;
    try {
      writeSync(this.fd, text);
    } catch {
      this.broken = true;
    }
  }

  private pump(): void {
    if (this.busy || this.waiting === '') return;
    const bytes = Buffer.from(this.waiting);
    this.waiting = '';
    this.busy = true;
    this.writeAll(bytes, 0);
  }

  private writeAll(bytes: Buffer, at: number): void {
    write(this.fd, bytes, at, bytes.length - at, null, (error, written) => {
      if (error?.code === 'EAGAIN') {
        setTimeout(() => this.writeAll(bytes, at), 10);
        return;
      }
      if (error === null && at + written < bytes.length) {
        this.writeAll(bytes, at + written);
        return;
      }
      this.busy = false;
      this.broken = error !== null;
      if (!this.broken) this.pump();
    });
  }
}
