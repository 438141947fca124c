/**
 * The log: one line per state change, to stderr unless told otherwise. Two forms of the same lines:
 *
 *   text   2026-01-02T03:04:05.678Z info  primary: solo → syncing why="…" generation=3 epoch=120
 *   json   {"level":"info","time":"2026-…","node":"a","pair":"web","generation":3,…,"msg":"…"}
 *
 * Text is for people, terminals and the journal; JSON is written by pino, for machines. What the
 * levels mean, and which lines there are: docs/logs.md. What a line is about is its `event` ("state",
 * "sync", …), which only machines are told. Writing is the caller's: `write` gets whole lines, newline
 * included, and must not block.
 */
import type { Logger as Pino } from 'pino';
import type { Facts } from '../common/errors';
import { LOG_LEVELS, type Logger, type LogLevel } from '../common/logger';

export type LogFormat = 'text' | 'json';

/** A Logger whose level can be changed while it is used. */
export interface NodeLog extends Logger {
  /** What is needed only by whoever looks for a fault: may come often, never per epoch. */
  debug(message: string, facts?: Facts): void;
  /** The process ends because of this. */
  fatal(message: string, facts?: Facts): void;
  level: LogLevel;
}

export interface LogOptions {
  readonly format: LogFormat;
  readonly level: LogLevel;
  /** Who speaks: fields of every line of JSON. */
  readonly node: string;
  readonly pair: string;
  readonly write: (line: string, level: LogLevel) => void;
  readonly now?: () => Date;
}

/** Opens a log. pino is loaded only for JSON. */
export async function openLog(options: LogOptions): Promise<NodeLog> {
  if (options.format === 'text') return new TextLog(options.write, options.now, options.level);
  const { pino } = await import('pino');
  return jsonLog(pino, options);
}

/** A Logger that hands each line, newline included, to `write` (process.stderr by default). */
export function lineLogger(
  write: (line: string) => void = (line) => void process.stderr.write(line),
  now: () => Date = () => new Date(),
): NodeLog {
  return new TextLog(write, now, 'info');
}

class TextLog implements NodeLog {
  constructor(
    private readonly write: (line: string, level: LogLevel) => void,
    private readonly now: () => Date = () => new Date(),
    public level: LogLevel,
  ) {}

  debug(message: string, facts?: Facts): void {
    this.put('debug', message, facts);
  }

  info(message: string, facts?: Facts): void {
    this.put('info', message, facts);
  }

  warn(message: string, facts?: Facts): void {
    this.put('warn', message, facts);
  }

  error(message: string, facts?: Facts): void {
    this.put('error', message, facts);
  }

  fatal(message: string, facts?: Facts): void {
    this.put('fatal', message, facts);
  }

  private put(level: LogLevel, message: string, facts: Facts = {}): void {
    if (rank(level) < rank(this.level)) return;
    this.write(formatLine(this.now(), level.padEnd(5), message, facts), level);
  }
}

function rank(level: LogLevel): number {
  return LOG_LEVELS.indexOf(level);
}

/** Fields that say who speaks and when; a fact of such a name gets another one. */
const OWN_FIELDS: ReadonlySet<string> = new Set(['level', 'time', 'node', 'pair', 'msg']);

function jsonLog(make: typeof import('pino').pino, options: LogOptions): NodeLog {
  const { level, node, pair, write, now = () => new Date() } = options;
  // pino writes a line before the call returns.
  let speaking: LogLevel = level;
  const sink: Pino = make(
    {
      level,
      base: { node, pair },
      timestamp: () => `,"time":"${now().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    // JSON leaves DEL and C1 as they are, and terminals obey some of them.
    {
      write: (line: string) => write(line.replace(/[\u007f-\u009f]/g, escapeControls), speaking),
    },
  );
  const at =
    (name: LogLevel) =>
    (message: string, facts: Facts = {}): void => {
      speaking = name;
      sink[name](ownFieldsApart(facts), message);
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('fatal'),
    get level(): LogLevel {
      return sink.level as LogLevel;
    },
    set level(wanted: LogLevel) {
      sink.level = wanted;
    },
  };
}

function ownFieldsApart(facts: Facts): Facts {
  const apart: Record<string, Facts[string]> = {};
  for (const [name, value] of Object.entries(facts)) {
    apart[OWN_FIELDS.has(name) ? `${name}_` : name] = value;
  }
  return apart;
}

/** Facts for machines, which a line of text says in its words already. */
const UNSPOKEN: ReadonlySet<string> = new Set(['event', 'role', 'from', 'to']);

/** One line: no fact can break it in two or forge another, since control characters are escaped. */
export function formatLine(at: Date, level: string, message: string, facts: Facts): string {
  let line = `${at.toISOString()} ${level} ${escapeControls(message)}`;
  for (const [name, value] of Object.entries(facts)) {
    if (value !== undefined && !UNSPOKEN.has(name)) line += ` ${name}=${formatValue(value)}`;
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
