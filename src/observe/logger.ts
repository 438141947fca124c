/**
 * The log: one line per state change, to stderr unless told otherwise.
 *
 *   2026-01-02T03:04:05.678Z info  standby is ready pair=web epoch=120
 */
import type { Facts } from '../common/errors';
import type { Logger } from '../common/logger';

/** A Logger that hands each line, newline included, to `write` (process.stderr by default). */
export function lineLogger(
  write: (line: string) => void = (line) => void process.stderr.write(line),
  now: () => Date = () => new Date(),
): Logger {
  const at =
    (level: string) =>
    (message: string, facts: Facts = {}): void =>
      write(formatLine(now(), level, message, facts));
  return { info: at('info '), warn: at('warn '), error: at('error') };
}

/** One line: no fact can break it in two or forge another, since control characters are escaped. */
export function formatLine(at: Date, level: string, message: string, facts: Facts): string {
  let line = `${at.toISOString()} ${level} ${escapeControls(message)}`;
  for (const [name, value] of Object.entries(facts)) {
    if (value !== undefined) line += ` ${name}=${formatValue(value)}`;
  }
  return `${line}\n`;
}

function formatValue(value: string | number | boolean): string {
  if (typeof value !== 'string') return String(value);
  return /^[^\s"=\\\p{Cc}]+$/u.test(value) ? value : escapeControls(JSON.stringify(value));
}

/** Control characters as \\uXXXX, so that no peer's text can move a terminal's cursor. */
function escapeControls(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
