/**
 * What a node says to programs: one JSON object per line. Status lines have no `event` field; the
 * others do ("state", "refused", "end"). Human words go through the Logger.
 *
 * `atUs` is the host's monotonic clock, so lines of several processes of one host can be compared;
 * `atMs` is wall-clock time.
 */
import type { FtError } from '../common/errors';
import type { StateEvent } from './running-node';
import type { StatusLine } from './status-now';

export class StatusLines {
  /** False: nothing is written, since nobody asked for it (--status-interval-ms). */
  on = false;

  /** `write` takes whole lines. */
  constructor(private readonly write: (line: string) => void) {}

  status(line: StatusLine): void {
    this.put({ ...line, ...stamp() });
  }

  state(event: StateEvent): void {
    this.put({ event: 'state', ...event, ...stamp() });
  }

  refused(error: FtError): void {
    this.put({ event: 'refused', code: error.code, message: error.message, ...stamp() });
  }

  end(kind: string, message: string): void {
    this.put({ event: 'end', kind, message, ...stamp() });
  }

  private put(fields: object): void {
    if (!this.on) return;
    this.write(`${JSON.stringify(fields)}\n`);
  }
}

function stamp(): { atUs: number; atMs: number } {
  return { atUs: Number(process.hrtime.bigint() / 1000n), atMs: Date.now() };
}
