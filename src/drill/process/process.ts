/**
 * A process that is watched: started (in a network namespace, if asked), its stdout read as JSON
 * lines, its stderr kept in a log file and as a tail for error messages, ended by its own pid.
 *
 * Every process that is still alive when this one exits is killed: a drill that fails leaves nobody
 * behind.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdirSync, type WriteStream } from 'node:fs';
import path from 'node:path';
import { atExit } from './process-exit';
import { monotonicUs } from './time';

/** The project's root: the nearest folder upwards with a package.json that is not dist/. */
export const projectRoot = findRoot(__dirname);

/** How processes are started from now on, for a command that knows better than the defaults. */
export interface ProcessSettings {
  /** Where each process has its log file. */
  logFolder: string;
  /** Each process is a group of its own, so that Ctrl-C at the terminal reaches this one alone. */
  ownGroups: boolean;
}

export const processSettings: ProcessSettings = {
  logFolder: path.join(projectRoot, 'build', 'logs'),
  ownGroups: false,
};

const STDERR_TAIL_CHARS = 16_000;
const STORY_CHARS = 2500;

/** One JSON line of stdout, and when it was written (its own `atUs`) or else when it came. */
export interface Line {
  readonly atUs: number;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface ProcessOptions {
  /** Short name: in messages and of the log file. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Name of a network namespace to run in. */
  readonly netns?: string | undefined;
  readonly env?: Readonly<Record<string, string>>;
  /** Give the process a pipe as stdin (else it is /dev/null). */
  readonly stdin?: boolean;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly atUs: number;
}

interface Waiter {
  readonly matches: (line: Line) => boolean;
  readonly resolve: (line: Line) => void;
  readonly reject: (error: Error) => void;
}

const alive = new Set<WatchedProcess>();

export class WatchedProcess {
  readonly name: string;
  readonly lines: Line[] = [];
  readonly exited: Promise<Exit>;
  exit: Exit | undefined;
  /** Everything that is not a JSON line of stdout, and all of stderr, at its end. */
  stderrTail = '';
  /** Called for each JSON line. */
  onLine: (line: Line) => void = () => undefined;
  /** Called for each other line of stdout. */
  onText: (line: string) => void = () => undefined;
  private readonly child: ChildProcess;
  private readonly log: WriteStream;
  private readonly waiters = new Set<Waiter>();
  private partial = '';

  constructor(options: ProcessOptions) {
    this.name = options.name;
    atExit('processes', killAll);
    this.log = openLog(options.name);
    const [command, args] = inNamespace(options);
    // A log that cannot be written (a folder of root's) is no reason not to run.
    this.log.on('error', () => undefined);
    this.log.write(`# ${command} ${args.join(' ')}\n`);
    this.child = spawn(command, args, {
      stdio: [options.stdin === true ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      detached: processSettings.ownGroups,
    });
    alive.add(this);
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => this.readStdout(text));
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => this.keepText(text));
    this.exited = new Promise((resolve) => {
      const ended = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (this.exit !== undefined) return;
        this.exit = { code, signal, atUs: monotonicUs() };
        alive.delete(this);
        this.log.write(`# ended: code ${code} signal ${signal}\n`);
        this.log.end();
        resolve(this.exit);
        this.failWaiters();
      };
      // `close` comes after the last output; `error` when it could not be started at all.
      this.child.on('close', ended);
      this.child.on('error', (error) => {
        this.keepText(`${error.message}\n`);
        ended(127, null);
      });
    });
  }

  get pid(): number {
    return this.child.pid ?? -1;
  }

  /** The newest line that matches. */
  last(matches: (line: Line) => boolean): Line | undefined {
    return this.lines.findLast(matches);
  }

  /** The first line that matches, come or to come. The error tells what the process said last. */
  waitFor(
    what: string,
    matches: (line: Line) => boolean,
    timeoutMs: number,
    from = 0,
  ): Promise<Line> {
    const known = this.lines.slice(from).find(matches);
    if (known !== undefined) return Promise.resolve(known);
    if (this.exit !== undefined) return Promise.reject(this.failure(what));
    return new Promise((resolve, reject) => {
      const end = (): void => {
        clearTimeout(timer);
        this.waiters.delete(waiter);
      };
      const waiter: Waiter = {
        matches,
        resolve: (line) => {
          end();
          resolve(line);
        },
        reject: () => {
          end();
          reject(this.failure(what));
        },
      };
      const timer = setTimeout(() => waiter.reject(new Error()), timeoutMs);
      this.waiters.add(waiter);
    });
  }

  /** Waits for the end; throws when it does not come in time. */
  async waitExit(timeoutMs: number): Promise<Exit> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), timeoutMs);
    });
    const exit = await Promise.race([this.exited, late]);
    clearTimeout(timer);
    if (exit === undefined) throw this.failure(`its end within ${timeoutMs} ms`);
    return exit;
  }

  write(text: string): void {
    this.child.stdin?.write(text);
  }

  /** Sends a signal to this process alone. Returns when it was sent, monotonic µs. */
  kill(signal: NodeJS.Signals): number {
    const atUs = monotonicUs();
    if (this.exit === undefined) this.child.kill(signal);
    return atUs;
  }

  /** Asks it to end, then makes it. */
  async stop(graceMs = 3000): Promise<void> {
    if (this.exit !== undefined) return;
    this.child.stdin?.end();
    this.kill('SIGTERM');
    const timer = setTimeout(() => this.kill('SIGKILL'), graceMs);
    await this.exited;
    clearTimeout(timer);
  }

  failure(what: string): Error {
    return new Error(`${this.name}: waited in vain for ${what}.\n${this.story()}`);
  }

  /** How it goes or how it ended, and the last of what it said. */
  story(): string {
    const how =
      this.exit === undefined
        ? 'it still runs'
        : `it ended with code ${this.exit.code}, signal ${this.exit.signal}`;
    const newest = this.lines.slice(-2).map((line) => JSON.stringify(line.fields));
    const words = this.stderrTail.trimEnd().slice(-STORY_CHARS);
    return [`--- ${this.name}: ${how}`, ...newest, words].join('\n');
  }

  private readStdout(text: string): void {
    const pieces = (this.partial + text).split('\n');
    this.partial = pieces.pop() ?? '';
    for (const piece of pieces) {
      const fields = parseObject(piece);
      if (fields === undefined) {
        this.keepText(`${piece}\n`);
        this.onText(piece);
        continue;
      }
      this.log.write(`${piece}\n`);
      const { atUs } = fields;
      const line = { atUs: typeof atUs === 'number' ? atUs : monotonicUs(), fields };
      this.lines.push(line);
      this.onLine(line);
      for (const waiter of [...this.waiters]) if (waiter.matches(line)) waiter.resolve(line);
    }
  }

  private keepText(text: string): void {
    this.log.write(text);
    this.stderrTail = (this.stderrTail + text).slice(-STDERR_TAIL_CHARS);
  }

  private failWaiters(): void {
    for (const waiter of [...this.waiters]) waiter.reject(new Error());
  }
}

function inNamespace(options: ProcessOptions): [string, string[]] {
  if (options.netns === undefined) return [options.command, [...options.args]];
  return ['ip', ['netns', 'exec', options.netns, options.command, ...options.args]];
}

function openLog(name: string): WriteStream {
  try {
    mkdirSync(processSettings.logFolder, { recursive: true });
  } catch {
    // The stream says the same, asynchronously.
  }
  return createWriteStream(path.join(processSettings.logFolder, `${name}-${process.pid}.log`), {
    flags: 'a',
  });
}

function parseObject(text: string): Record<string, unknown> | undefined {
  if (!text.startsWith('{')) return undefined;
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

function killAll(): void {
  for (const child of alive) child.kill('SIGKILL');
}

function findRoot(from: string): string {
  let folder = from;
  while (!existsSync(path.join(folder, 'package.json'))) {
    const up = path.dirname(folder);
    if (up === folder) throw new Error(`There is no package.json above ${from}.`);
    folder = up;
  }
  return folder;
}
