/**
 * What both commands have in common: reading flags, building the node, signals, and the end.
 *
 *   read flags ─▶ build ─▶ start ─▶ running ── signal ─▶ stopping ─▶ exit 0
 *       │ 2         │ 3      │ 3, 5     └── the node's own end ─▶ exit 3, 4, 6, 7, 8, 70
 */
import { assert } from '../common/assert';
import { systemClock } from '../common/clock';
import { FtError, toFtError } from '../common/errors';
import type { LogLevel } from '../common/logger';
import {
  type PrimaryConfig,
  type Request,
  readPrimaryConfig,
  readStandbyConfig,
  type StandbyConfig,
} from '../config/config';
import { describeConfig } from '../config/describe';
import type { CommandName } from '../config/flags';
import { ExitCode, helpText } from '../config/help';
import type { ReloadOutcome } from '../config/reload';
import { notifySupervisor } from '../machine';
import { AskedEnd } from '../node/asked-end';
import type { NodeEnd, StateEvent } from '../node/running-node';
import { stateSentence } from '../node/state-words';
import { marksOf } from '../observe/journal-marks';
import { type NodeLog, openLog } from '../observe/logger';
import { type BuiltNode, buildNode } from './build-node';
import { confineNode } from './confine';
import { exitCodeOfEnd, exitCodeOfStart, exitCodeOfStop, sentenceOfEnd } from './exit-codes';
import { LineWriter } from './line-writer';
import { liveSettings } from './live-settings';
import { type Reading, Reloader, reloadWords } from './reloader';
import { StatusTicker } from './status-ticker';
import { Supervisor } from './supervisor';
import { Terminal } from './terminal';
import { version } from './version';

/** How long an orderly end may take to reach the peers. */
const FAREWELL_MS = 1000;

/** What a standby finds when the first state of a session is held against its host. */
const UNRESTORABLE: ReadonlySet<string> = new Set([
  'FT_ERR_STATE_FORMAT',
  'FT_ERR_STATE_RESTORE',
  'FT_ERR_KVM_CPUID',
]);

type Config = PrimaryConfig | StandbyConfig;
type RunRequest = Extract<Request<Config>, { readonly kind: 'run' }>;

/** Runs a command to its end; sets the exit code. */
export async function main(command: CommandName, words: readonly string[]): Promise<void> {
  const request = readRequest(command, words);
  if (request === undefined) return;
  if (request.kind === 'help') {
    process.stdout.write(helpText(command));
    return;
  }
  if (request.kind === 'version') {
    process.stdout.write(`${command} ${version()}\n`);
    return;
  }
  if (request.kind === 'print') {
    process.stdout.write(request.text);
    return;
  }
  if (request.kind !== 'run') return;
  const read = (): Reading => readAgain(command, words);
  await new Running(command, request, new Reloader(request.flags, read)).run();
}

function readConfig(command: CommandName, words: readonly string[]): Request<Config> {
  return command === 'ft-primary'
    ? readPrimaryConfig(words, process.env)
    : readStandbyConfig(words, process.env);
}

/** The same words and environment, and the file as it is now. Throws FT_ERR_CONFIG. */
function readAgain(command: CommandName, words: readonly string[]): Reading {
  const request = readConfig(command, words);
  assert(request.kind === 'run', 'the words that started this process start it again');
  return request;
}

function readRequest(command: CommandName, words: readonly string[]): Request<Config> | undefined {
  try {
    return readConfig(command, words);
  } catch (thrown) {
    const error = toFtError(thrown);
    process.stderr.write(marksOf(2, process.env)(`${command}: ${error.message}\n`, 'fatal'));
    process.exitCode = exitCodeOfStart(error);
    return undefined;
  }
}

function tooEarly(): FtError {
  return new FtError('FT_ERR_RELOAD', 'This node is still starting; ask again when it runs.');
}

function tooLate(): FtError {
  return new FtError('FT_ERR_RELOAD', 'This node is ending; nothing is taken over any more.');
}

/** One command from its start to its exit. */
class Running {
  private readonly out = new LineWriter(1);
  private readonly errors = new LineWriter(2);
  private readonly mark = marksOf(2, process.env);
  private log: NodeLog | undefined;
  private built: BuiltNode | undefined;
  private readonly supervisor = Supervisor.fromEnvironment(process.env, {
    send: notifySupervisor,
    onTrouble: ({ message, code }) => this.say('warn', `${message}; it is told again.`, code),
  });
  private ticker: StatusTicker | undefined;
  private readonly config: Config;
  private readonly terminal = new Terminal();
  private started = false;
  private ending = false;
  /** The end has begun, and not by a signal: a first one changes nothing, a second one forces. */
  private endingUnasked = false;
  private askedEnd: AskedEnd | undefined;

  constructor(
    private readonly command: CommandName,
    private readonly request: RunRequest,
    private readonly reloader: Reloader,
  ) {
    this.config = request.config;
  }

  async run(): Promise<void> {
    process.on('uncaughtException', (thrown) => this.crash(thrown));
    process.on('SIGTERM', () => this.signalled('SIGTERM'));
    process.on('SIGINT', () => this.signalled('SIGINT'));
    process.on('SIGHUP', () => this.hungUp());
    process.on('exit', () => this.terminal.letGo());
    try {
      const tellConfined = confineNode(this.config);
      const { log: form, nodeId: node, pair } = this.config;
      const write = (line: string, level: LogLevel) => this.errors.put(this.mark(line, level));
      this.log = await openLog({ ...form, node, pair, write });
      tellConfined(this.log);
      this.built = await buildNode(this.config, {
        writeLine: (line) => this.out.put(line),
        log: this.log,
        reloader: this.reloader,
        reload: () => this.reload(),
        onState: (event) => this.stateChanged(event),
        onEnd: (end) => this.nodeEnded(end),
        settings: () => describeConfig(this.command, this.reloader.inEffect, this.request.derived),
      });
      if (this.ending) {
        this.close();
        return;
      }
      this.askedEnd = this.openAskedEnd(this.built);
      this.startLive(this.built, this.log);
      await this.built.start();
      this.tellState(this.built);
      this.started = true;
      this.supervisor?.ready();
    } catch (thrown) {
      const error = toFtError(thrown);
      this.say('fatal', error.message, error.code);
      if (error.code === 'FT_ERR_UNEXPECTED') this.say('fatal', String(error.stack));
      this.end(exitCodeOfStart(error), 'start-failed', error.message);
    }
  }

  private startLive(built: BuiltNode, log: NodeLog): void {
    this.ticker = new StatusTicker(built.node, built.lines);
    this.ticker.set(this.config.statusIntervalMs);
    for (const setting of liveSettings(built, log, this.ticker)) this.reloader.addSetting(setting);
  }

  /** SIGHUP says two things: a terminal is gone, or the settings shall be read again. */
  private hungUp(): void {
    if (!this.terminal.isGone) {
      this.reload();
      return;
    }
    this.signalled('SIGHUP');
  }

  private reload(): ReloadOutcome | FtError {
    if (this.ending) return tooLate();
    if (this.started) this.supervisor?.reloading();
    const outcome = this.started ? this.reloader.reload() : tooEarly();
    if (this.started) this.supervisor?.ready();
    const logger = this.built?.logger;
    if (outcome instanceof FtError) {
      const { message, code } = outcome;
      const text = `the settings stay as they were, since they cannot be read again: ${message}`;
      logger?.error(text, { event: 'reload', code });
    } else {
      logger?.info(reloadWords(outcome), { event: 'reload' });
    }
    return outcome;
  }

  private signalled(signal: string): void {
    // Whoever asks for an end that has begun by itself (a drain, a fence) gets that one.
    if (this.endingUnasked) {
      this.endingUnasked = false;
      return;
    }
    if (this.ending || this.askedEnd?.waits === true) {
      this.flush();
      process.exit(ExitCode.internal);
    }
    if (this.askedEnd === undefined) this.end(ExitCode.ok, 'signal', `${signal} received.`);
    else this.askedEnd.ask(signal);
  }

  private openAskedEnd({ node }: BuiltNode): AskedEnd {
    return new AskedEnd(systemClock, node, {
      onWaits: (signal, why) =>
        this.say('warn', `${signal} received while ${why}. Again to force.`),
      onStays: (signal) => this.say('warn', `the guest runs here now; ${signal} again ends it.`),
      onEnd: (signal, leave) => {
        this.end(ExitCode.ok, 'signal', `${signal} received.`, leave);
      },
    });
  }

  /** A standby that only waits changes no state when it starts. */
  private tellState({ node }: BuiltNode): void {
    const { role, state } = node.state;
    this.supervisor?.state(role, state, `${role}, ${state}: ${stateSentence(role, state)}`);
  }

  private stateChanged(event: StateEvent): void {
    if (this.built !== undefined) this.tellState(this.built);
    this.askedEnd?.stateChanged(event);
  }

  private nodeEnded(end: NodeEnd): void {
    const { onGuestEnd } = this.built?.node.settings ?? this.config;
    if (end.kind === 'guest-ended' && onGuestEnd === 'hold') {
      this.say('warn', `${sentenceOfEnd(end)} This process stays (--on-guest-end hold).`);
      return;
    }
    this.end(exitCodeOfEnd(end), end.kind, sentenceOfEnd(end));
  }

  /** The one way to the end: tells peers, lets go of everything, and leaves with `code`. */
  private end(code: ExitCode, kind: string, sentence: string, leave = false): void {
    if (this.ending) return;
    this.ending = true;
    this.endingUnasked = kind !== 'signal';
    this.supervisor?.stopping(sentence);
    if (kind !== 'start-failed') this.say(code === ExitCode.ok ? 'info' : 'fatal', sentence, kind);
    this.built?.lines.end(kind, sentence);
    this.ticker?.stop();
    const exitCode = exitCodeOfStop(code, this.built?.node.stop(`${this.command} ends`, leave));
    process.exitCode = exitCode;
    const level = exitCode === ExitCode.ok ? 'info' : 'error';
    this.built?.journal.add(level, sentence, { event: 'end', kind, exitCode });
    this.close();
    // Whoever still holds the loop after that has had its time.
    setTimeout(() => {
      this.flush();
      process.exit(exitCode);
    }, FAREWELL_MS).unref();
  }

  private close(): void {
    this.built?.close().catch((thrown: unknown) => {
      this.say('error', toFtError(thrown).message);
    });
  }

  private crash(thrown: unknown): void {
    if (thrown instanceof FtError && UNRESTORABLE.has(thrown.code)) {
      const message = `this host could not resume the guest, so it cannot protect it: ${thrown.message}`;
      this.say('fatal', message, thrown.code);
      this.flush();
      process.exit(ExitCode.environment);
    }
    const error =
      thrown instanceof Error ? thrown : new FtError('FT_ERR_UNEXPECTED', String(thrown));
    this.say('fatal', `an error of our own: ${error.stack ?? error.message}`, 'FT_ERR_UNEXPECTED');
    this.supervisor?.stopping(`an error of our own: ${error.message}`);
    this.flush();
    process.exit(ExitCode.internal);
  }

  /** What the command itself has to say: as text it stands alone, for whoever started it. */
  private say(level: LogLevel, sentence: string, code?: string): void {
    const { log } = this;
    if (log === undefined || this.config.log.format === 'text') {
      this.errors.put(this.mark(`${this.command}: ${sentence}\n`, level));
    } else {
      log[level](sentence, { event: 'command', code });
    }
  }

  private flush(): void {
    this.out.flush();
    this.errors.flush();
  }
}
