/**
 * What this process tells the supervisor that started it (systemd with Type=notify): that it is
 * ready, how it is doing in one sentence, that its event loop lives, and that it reloads or stops.
 *
 *   starting ── ready() ──▶ ready ── reloading() ──▶ reloading ── ready() ──▶ ready ── stopping() ──▶ ∎
 *
 * Each datagram says the whole truth (ready, sentence, watchdog), so one that was lost is made good
 * by the next, and one that could not be sent is sent again a second later.
 *
 * The watchdog ends a process whose event loop stands still for too long. While a standby holds the
 * guest that is right: it has taken over long before. While this side alone holds it, nothing would
 * be won and the guest lost, and a guest without a standby is served by threads that do not need the
 * event loop. So the watchdog is switched off (WATCHDOG_USEC=0) until the guest is safe again.
 * Source: sd_notify(3), systemd.service(5); why: docs/adr/046.
 */
import { type FtError, toFtError } from '../common/errors';
import type { NodeRole } from '../node/running-node';

/** How soon a word that did not get through is said again. */
const RETRY_MS = 1000;
/** A watchdog of days is told more often than it wants; longer timers there are none. */
const HEARTBEAT_MS_MAX = 3_600_000;
/** Longer sentences are of no use in one line of `systemctl status`. */
const SENTENCE_CHARS_MAX = 400;

/**
 * Role and state in which another node holds a copy of the guest, or this one has none. A standby that
 * suspects is not among them: its claim may be won already.
 */
const EXPENDABLE: ReadonlySet<string> = new Set([
  'primary protected',
  'primary switching',
  'primary fenced',
  'standby joining',
  'standby syncing',
  'standby ready',
  'standby fenced',
]);

export interface SupervisorParts {
  /** Sends one datagram to the address, or throws an FtError. */
  readonly send: (address: string, text: string) => void;
  /** Something could not be said; called once until something gets through again. */
  readonly onTrouble: (error: FtError) => void;
}

export class Supervisor {
  private readonly watchdogUs: number;
  private phase: 'starting' | 'ready' | 'reloading' | 'stopping' = 'starting';
  private sentence = 'starting';
  private expendable = true;
  private heartbeat: NodeJS.Timeout | undefined;
  private retry: NodeJS.Timeout | undefined;
  private mute = false;

  private constructor(
    private readonly address: string,
    watchdogUs: number | undefined,
    private readonly parts: SupervisorParts,
  ) {
    this.watchdogUs = watchdogUs ?? 0;
    if (this.watchdogUs === 0) return;
    const heartbeatMs = Math.max(1, Math.floor(this.watchdogUs / 2000));
    this.heartbeat = setInterval(() => this.beat(), Math.min(heartbeatMs, HEARTBEAT_MS_MAX));
    this.heartbeat.unref();
  }

  /**
   * The supervisor that the environment names (NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID), if there
   * is one. The variables are taken out of `env`: they are not meant for processes started by us.
   */
  static fromEnvironment(env: NodeJS.ProcessEnv, parts: SupervisorParts): Supervisor | undefined {
    const { NOTIFY_SOCKET: address, WATCHDOG_USEC: usec, WATCHDOG_PID: pid } = env;
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
    if (address === undefined || address === '') return undefined;
    const isForUs = pid === undefined || pid === `${process.pid}`;
    const isNumber = usec !== undefined && /^[1-9][0-9]{0,14}$/.test(usec);
    return new Supervisor(address, isForUs && isNumber ? Number(usec) : undefined, parts);
  }

  /** The node is in this state now; `sentence` says so to people. */
  state(role: NodeRole, state: string, sentence: string): void {
    this.sentence = sentence;
    this.expendable = EXPENDABLE.has(`${role} ${state}`);
    this.tell();
  }

  /** The start, or a reload, is done. */
  ready(): void {
    if (this.phase === 'stopping') return;
    this.phase = 'ready';
    this.tell();
  }

  /** The configuration is being read again; ready() must follow, whatever came of it. */
  reloading(): void {
    if (this.phase !== 'ready') return;
    this.phase = 'reloading';
    this.say(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
  }

  /** The end has begun. Nothing is said after that. */
  stopping(sentence: string): void {
    if (this.phase === 'stopping') return;
    this.phase = 'stopping';
    clearInterval(this.heartbeat);
    clearTimeout(this.retry);
    this.sentence = sentence;
    this.say(`STOPPING=1\nSTATUS=${this.status}`);
  }

  private get status(): string {
    return this.sentence.replace(/[\r\n]+/g, ' ').slice(0, SENTENCE_CHARS_MAX);
  }

  /** All that there is to say. A supervisor takes what it knows already for granted. */
  private tell(): void {
    if (this.phase === 'stopping') return;
    const lines = [`STATUS=${this.status}`];
    if (this.phase === 'ready') lines.unshift('READY=1');
    // Before that no watchdog runs, and to set its time would start it.
    if (this.watchdogUs > 0 && this.phase !== 'starting')
      lines.push(`WATCHDOG_USEC=${this.expendable ? this.watchdogUs : 0}`);
    this.say(lines.join('\n'));
  }

  private beat(): void {
    if (this.expendable) this.say('WATCHDOG=1');
  }

  private say(text: string): void {
    try {
      this.parts.send(this.address, text);
      this.mute = false;
    } catch (thrown) {
      if (!this.mute) this.parts.onTrouble(toFtError(thrown));
      this.mute = true;
      if (this.phase === 'stopping' || this.retry !== undefined) return;
      this.retry = setTimeout(() => {
        this.retry = undefined;
        this.tell();
      }, RETRY_MS);
      this.retry.unref();
    }
  }
}
