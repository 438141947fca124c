/**
 * The journal: the last things that happened to this node, for whoever asks over the control socket
 * (`ftctl events`) or watches the dashboard. It says what the log says, in the same words, since the
 * log is its source:
 *
 *   roles, node, command ──▶ Logger ─┬─▶ the log's own sink
 *                                    └─▶ journal ─ EVENTS_MAX newest ─▶ since(seq), onEvent()
 *
 * Each event also knows the moment that it was said in: role, state, generation, epoch, life. Its
 * kind is what the line's `event` fact says ("state", "failover", "sync" …; docs/events.md), and
 * "note" where a line has none.
 *
 * Bounded in all directions: events, their text, their facts, and what strangers at a port ("door")
 * may have of them. Whoever listens is told in a later turn
 * of the event loop, so that its work is never in the way of what the event is about.
 */
import type { Facts } from '../common/errors';
import type { Logger } from '../common/logger';

export type JournalLevel = 'info' | 'warn' | 'error';

/** Where the node stood when something was said. */
export interface JournalMoment {
  readonly role: string;
  readonly state: string;
  readonly generation: number;
  /** The newest epoch that is safe: acknowledged (primary) or held (standby). */
  readonly epoch: number;
  readonly life: number;
}

export interface JournalEvent extends JournalMoment {
  /** 1 for the first event of this process, then one more each time. */
  readonly seq: number;
  /** ISO 8601 with milliseconds, UTC. */
  readonly at: string;
  readonly level: JournalLevel;
  readonly kind: string;
  /** For people. May hold a peer's words: escape it for where it is shown. */
  readonly text: string;
  /** What else the log line says: code, why, cause, owner … */
  readonly facts: Facts;
}

export interface JournalOptions {
  /** How many events are kept. */
  readonly eventsMax?: number;
  readonly now?: () => Date;
  /** Runs its argument in a later turn. */
  readonly soon?: (action: () => void) => void;
}

const EVENTS_MAX = 1000;
/** The kind of what strangers at a port cause, and the part of all events that they may have. */
const DOOR = 'door';
const DOOR_SHARE = 0.1;
const TEXT_CHARS_MAX = 2000;
const FACTS_MAX = 32;
const REPEATS_MAX = 10;
const REPEAT_MS = 10_000;
const REPEAT_TEXTS_MAX = 200;
const BEFORE_THE_NODE: JournalMoment = {
  ...{ role: 'none', state: 'starting' },
  ...{ generation: 0, epoch: 0, life: 0 },
};

export class Journal {
  /** Says where the node stands; the command sets it once there is a node. */
  moment: () => JournalMoment = () => BEFORE_THE_NODE;
  /** Oldest first. */
  private readonly events: JournalEvent[] = [];
  private readonly eventsMax: number;
  private doorEvents = 0;
  private readonly now: () => Date;
  private readonly soon: (action: () => void) => void;
  private readonly listeners = new Set<(event: JournalEvent) => void>();
  private readonly repeats = new RepeatGate();
  private lastSeq = 0;
  private toldSeq = 0;
  private telling = false;

  constructor(options: JournalOptions = {}) {
    this.eventsMax = options.eventsMax ?? EVENTS_MAX;
    this.now = options.now ?? (() => new Date());
    this.soon = options.soon ?? ((action) => void setImmediate(action));
  }

  /** The newest event's number; 0 before the first. */
  get seq(): number {
    return this.lastSeq;
  }

  add(level: JournalLevel, text: string, facts: Facts = {}): void {
    const { event: kind, ...others } = facts;
    // What others can cause again and again must not push out what matters. Each stranger's line has
    // an address of its own, so those are told apart from others by their kind and not by words.
    const words = kind === DOOR ? DOOR : text;
    const always = kind === 'state' || kind === 'failover';
    if (!always && !this.repeats.admits(words, this.now().getTime())) return;
    this.lastSeq += 1;
    const moment = this.moment();
    const event: JournalEvent = {
      seq: this.lastSeq,
      at: this.now().toISOString(),
      level,
      kind: typeof kind === 'string' ? kind : 'note',
      text: cutShort(text),
      ...moment,
      facts: bounded(others, { ...moment }),
    };
    this.keep(event);
    this.tellSoon();
  }

  /**
   * The events after number `seq`, oldest first; all that are kept for 0. Those that are kept no
   * longer are told by gaps in the numbers. A number that is not reached yet is one of
   * another process's journal, and is read as 0.
   */
  since(seq: number): JournalEvent[] {
    const from = seq > this.lastSeq ? 0 : seq;
    return this.events.filter((event) => event.seq > from);
  }

  /** Calls `listener` for each event from now on, in order, each in a later turn than its own; what
   * it returns ends that. Of a burst beyond the ring's size the oldest are left out. */
  onEvent(listener: (event: JournalEvent) => void): () => void {
    if (this.listeners.size === 0) this.toldSeq = this.lastSeq;
    this.listeners.add(listener);
    return () => {
      this.listeners.delete(listener);
    };
  }

  /** A Logger that says everything to `inner` and writes it down here. */
  tee(inner: Logger): Logger {
    const both =
      (level: JournalLevel) =>
      (message: string, facts?: Facts): void => {
        inner[level](message, facts);
        this.add(level, message, facts);
      };
    return { info: both('info'), warn: both('warn'), error: both('error') };
  }

  /** An event of the door takes the place of the oldest of its kind once these have their share. */
  private keep(event: JournalEvent): void {
    if (event.kind === DOOR && this.doorEvents >= Math.ceil(this.eventsMax * DOOR_SHARE)) {
      this.drop(this.events.findIndex((one) => one.kind === DOOR));
    }
    if (this.events.length >= this.eventsMax) this.drop(0);
    this.events.push(event);
    if (event.kind === DOOR) this.doorEvents += 1;
  }

  private drop(index: number): void {
    for (const gone of this.events.splice(index, 1)) if (gone.kind === DOOR) this.doorEvents -= 1;
  }

  private tellSoon(): void {
    if (this.telling || this.listeners.size === 0) return;
    this.telling = true;
    this.soon(() => {
      this.telling = false;
      const events = this.since(this.toldSeq);
      this.toldSeq = this.lastSeq;
      for (const event of events) for (const listener of [...this.listeners]) listener(event);
    });
  }
}

/**
 * Lets the same words through REPEATS_MAX times in a row, then once per REPEAT_MS.
 */
class RepeatGate {
  private readonly credits = new Map<string, { left: number; atMs: number }>();

  admits(text: string, nowMs: number): boolean {
    const credit = this.credits.get(text) ?? { left: REPEATS_MAX, atMs: nowMs };
    const earned = Math.floor(Math.max(0, nowMs - credit.atMs) / REPEAT_MS);
    credit.left = Math.min(REPEATS_MAX, credit.left + earned);
    credit.atMs += earned * REPEAT_MS;
    if (this.credits.size >= REPEAT_TEXTS_MAX && !this.credits.has(text)) this.credits.clear();
    this.credits.set(text, credit);
    if (credit.left === 0) return false;
    credit.left -= 1;
    return true;
  }
}

function cutShort(text: string): string {
  return text.length <= TEXT_CHARS_MAX ? text : `${text.slice(0, TEXT_CHARS_MAX - 1)}…`;
}

/** What the moment says already is not said twice. */
function bounded(facts: Facts, moment: Facts): Facts {
  const kept: Record<string, string | number | boolean> = {};
  for (const [name, value] of Object.entries(facts).slice(0, FACTS_MAX)) {
    if (value !== undefined && value !== moment[name])
      kept[name] = typeof value === 'string' ? cutShort(value) : value;
  }
  return kept;
}
