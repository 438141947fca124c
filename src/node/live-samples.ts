/**
 * What the dashboard's feed says of this node: a sample every second, the events of the journal as
 * they happen, and for whoever comes later the last five minutes of the figures that are plotted.
 *
 *   { type: "hello",  node, pair, peers, started, at, sample, history: { fields, rows }, events }
 *   { type: "sample", sample }     every second, rates and percentiles of that second
 *   { type: "event",  event }      as ftctl events has it
 *   { type: "now",    status }     after a change of state: levels, without rates
 *
 * `at` is wall-clock time in ms. A sample has the fields of a status line (docs/status-lines.md), but
 * for the stages of an epoch, and `since`: when `protected` became what it is. Costs one status line
 * a second, whether anybody looks or not: who opens the page after something happened wants to see
 * what was before.
 */
import type { Clock } from '../common/clock';
import { COARSE_MS } from './event-loop';
import type { Journal, JournalEvent } from './journal';
import type { RunningNode } from './running-node';
import { StatusReporter } from './status';
import { type StatusLine, statusNow } from './status-now';

const SAMPLE_MS = 1000;
const HISTORY_ROWS = 300;
const EVENTS_MAX = 200;

/** What is kept of each second. */
const HISTORY_FIELDS = [
  'at',
  'role',
  'state',
  'epochsPerSecond',
  'pauseUsP50',
  'pauseUsP99',
  'outputDelayUsP50',
  'outputDelayUsP99',
  'ackUsP50',
  'ackUsP99',
  'dirtyPagesPerEpoch',
  'wireBytesPerSecond',
  'rawBytesPerSecond',
  'outboxFrames',
  'outboxBytes',
  'eventLoopUsMax',
] as const;

type Row = readonly (number | string | boolean | null)[];

export class LiveSamples {
  /** Takes each message, for whoever listens. */
  onMessage: (message: object) => void = () => undefined;
  private readonly reporter: StatusReporter;
  private readonly rows: Row[] = [];
  private readonly startedAt = Date.now();
  private sample: StatusLine = {};
  /** `protected` as it was when it was looked at last, and since when it was so. */
  private safe: StatusLine[string] | undefined;
  private since = 0;
  private timer: NodeJS.Timeout | undefined;
  private unlisten: () => void = () => undefined;

  /** `peers` are the origins of the other nodes' dashboards. */
  constructor(
    private readonly node: RunningNode,
    private readonly journal: Journal,
    private readonly peers: readonly string[],
    clock: Clock,
  ) {
    this.reporter = new StatusReporter(node, clock, COARSE_MS);
  }

  start(): void {
    this.take();
    this.timer = setInterval(() => this.take(), SAMPLE_MS).unref();
    this.unlisten = this.journal.onEvent((event) => this.happened(event));
  }

  stop(): void {
    clearInterval(this.timer);
    this.unlisten();
    this.reporter.close();
  }

  /** For who has just come. */
  hello(): object {
    const { nodeId, pair } = this.node.settings;
    return {
      type: 'hello',
      node: nodeId,
      pair,
      peers: this.peers,
      started: this.startedAt,
      at: Date.now(),
      sample: { ...this.sample, ...this.now() },
      history: { fields: HISTORY_FIELDS, rows: this.rows },
      events: this.journal.since(Math.max(0, this.journal.seq - EVENTS_MAX)),
    };
  }

  private now(): StatusLine {
    return this.dated(statusNow(this.node));
  }

  private dated(status: StatusLine): StatusLine {
    const at = Date.now();
    if (status['protected'] !== this.safe) this.since = at;
    this.safe = status['protected'];
    return { at, since: this.since, ...status };
  }

  private take(): void {
    const line: Record<string, number | string | boolean> = {};
    for (const [name, value] of Object.entries(this.dated(this.reporter.next()))) {
      if (!name.startsWith('stage')) line[name] = value;
    }
    this.sample = line;
    this.rows.push(HISTORY_FIELDS.map((field) => line[field] ?? null));
    if (this.rows.length > HISTORY_ROWS) this.rows.shift();
    this.onMessage({ type: 'sample', sample: line });
  }

  private happened(event: JournalEvent): void {
    this.onMessage({ type: 'event', event });
    if (event.kind !== 'state') return;
    this.onMessage({ type: 'now', status: this.now() });
  }
}
