/** A node under test as its status lines show it: states, figures, and waiting for them. */
import type { Line, WatchedProcess } from '../process/process';

/** States of a primary whose guest runs. */
export const ACTIVE_STATES: readonly unknown[] = [
  'solo',
  'syncing',
  'protected',
  'switching',
  'suspended',
];

/** One running command. */
export class NodeProcess {
  constructor(
    readonly process: WatchedProcess,
    readonly nodeId: string,
  ) {}

  /** Waits for a state, on a status line or a state event, from line `from` on. */
  waitState(states: readonly string[], timeoutMs: number, from = 0): Promise<Line> {
    const what = `state ${states.join(' or ')} within ${timeoutMs} ms`;
    return this.process.waitFor(what, (line) => states.includes(stateOf(line)), timeoutMs, from);
  }

  /** The state of the newest line. */
  get state(): string {
    const line = this.process.last((candidate) => stateOf(candidate) !== '');
    return line === undefined ? '' : stateOf(line);
  }

  /** The newest status line's fields; empty before the first. */
  get status(): Readonly<Record<string, unknown>> {
    return this.process.last((line) => line.fields['event'] === undefined)?.fields ?? {};
  }

  /** A number of the newest status line, 0 when it is not there. */
  figure(name: string): number {
    const value = this.status[name];
    return typeof value === 'number' ? value : 0;
  }

  /** A status line that comes after now and matches. */
  waitStatus(
    what: string,
    matches: (fields: Readonly<Record<string, unknown>>) => boolean,
    timeoutMs: number,
  ): Promise<Line> {
    const from = this.process.lines.length;
    const isMatch = (line: Line): boolean =>
      line.fields['event'] === undefined && matches(line.fields);
    return this.process.waitFor(what, isMatch, timeoutMs, from);
  }
}

/** The state that a line speaks of; "" for any other line. */
export function stateOf(line: Line): string {
  const { event, to, state } = line.fields;
  if (event === 'state') return typeof to === 'string' ? to : '';
  return event === undefined && typeof state === 'string' ? state : '';
}
