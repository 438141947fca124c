/**
 * How pressing a line is, for systemd's journal: "<3>" before it, which the journal takes off and
 * keeps as the line's priority. So `journalctl -p err` shows what needs a person.
 *
 *   fatal, error <3> · warn <4> · info <6> · debug <7>
 *
 * Source: sd-daemon(3); systemd.exec(5), JOURNAL_STREAM.
 */
import { fstatSync } from 'node:fs';
import type { LogLevel } from '../common/logger';

const PRIORITIES: Readonly<Record<LogLevel, number>> = {
  fatal: 3,
  error: 3,
  warn: 4,
  info: 6,
  debug: 7,
};

/** Makes of one or several lines, newline included, what the descriptor's reader wants. */
export type MarkLines = (text: string, level: LogLevel) => string;

/** Marks, where the environment says that `fd` leads to the journal; otherwise lines as they are. */
export function marksOf(fd: number, env: NodeJS.ProcessEnv): MarkLines {
  if (!leadsToJournal(fd, env['JOURNAL_STREAM'])) return (text) => text;
  return (text, level) => {
    const mark = `<${PRIORITIES[level]}>`;
    return mark + text.replace(/\n(?!$)/g, `\n${mark}`);
  };
}

/** `stream` is the journal's "device:inode". A descriptor that was redirected is another one. */
function leadsToJournal(fd: number, stream: string | undefined): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
