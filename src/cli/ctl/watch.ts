/**
 * ftctl watch: a node, live in the terminal.
 *
 *   samples ─▶ ┐                       the alternate screen, redrawn whole with every sample and
 *   events  ─▶ ┴▶ view ─▶ frame ─▶ tty event; left, and put back, however this ends
 *   the node is gone: the last frame stays, with a line that says so, and it is tried again
 */
import { FtError } from '../../common/errors';
import { type ControlAnswer, type LineReader, readLines } from '../control-client';
import { refusedBy } from './answer';
import { type CtlCall, type CtlCommand, CtlExitCode } from './command';
import { type Fields, numberIn } from './fields';
import { type Look, lookOf } from './terminal';
import { type WatchView, watchFrame, watchLine } from './watch-frame';

/** Ctrl-C and Ctrl-D too: in this mode the terminal makes no signals of them. */
const LEAVING_KEYS = ['q', 'Q', '\u0003', '\u0004'];
const HISTORY_MAX = 120;
const EVENTS_MAX = 200;
const TRY_AGAIN_MS = 1000;
/** The alternate screen, and no cursor; then back again. */
const ENTER = '\u001b[?1049h\u001b[?25l';
const LEAVE = '\u001b[?25h\u001b[?1049l';

export const watchCommand: CtlCommand = {
  name: 'watch',
  summary: 'the node, live in the terminal: state, rates, syncs, events',
  about: [
    'Fills the terminal (80x24 is enough) and is redrawn every second and with every event. q or ' +
      'Ctrl-C leaves; the terminal is as it was before. When the node ends, it says so and tries ' +
      'again until the node is back.',
    'Without a terminal it prints one line for each sample; with --json each is an object, as ' +
      'docs/status-lines.md has it.',
  ],
  flags: [
    {
      name: 'interval-ms',
      value: 'MS',
      fallback: '1000',
      help: 'how often rates and percentiles are taken',
      type: { kind: 'integer', min: 250, max: 60_000 },
    },
    {
      name: 'count',
      value: 'N',
      fallback: '0',
      help: 'ends after N samples; 0: goes on',
      type: { kind: 'integer', min: 0, max: 1_000_000 },
    },
  ],
  json: true,
  examples: [
    ['watch', 'is it doing well? q leaves'],
    ['watch --count 10 | cat', 'ten lines, one a second'],
    ['watch --json --interval-ms 250', 'for programs: one JSON object a line'],
  ],
  run: watch,
};

async function watch(call: CtlCall): Promise<CtlExitCode> {
  const watching = new Watching(call);
  return watching.run();
}

class Watching {
  private readonly look: Look = lookOf(process.stdout, process.env);
  private readonly terminal: boolean;
  private readonly countMax: number;
  private samples = 0;
  private lastSeq = 0;
  private sample: Fields | undefined;
  private history: number[] = [];
  private events: Fields[] = [];
  private note = '';
  private readers: LineReader[] = [];
  private leave: (code: CtlExitCode) => void = () => undefined;
  /** How this ends; samples may come before anybody waits for it. */
  private readonly code = new Promise<CtlExitCode>((resolve) => {
    this.leave = resolve;
  });
  private left = false;
  private entered = false;

  constructor(private readonly call: CtlCall) {
    this.countMax = call.flags.integer('count');
    this.terminal = process.stdout.isTTY === true && !call.json;
  }

  async run(): Promise<CtlExitCode> {
    // A node that is not there from the beginning is a mistake in the command line.
    const refused = await this.connect();
    if (refused !== undefined) return refusedBy(refused, this.call.json);
    this.open();
    try {
      return await this.code;
    } finally {
      this.left = true;
      for (const reader of this.readers) reader.close();
      this.close();
    }
  }

  /** Opens both streams. Resolves with the answer of a node that refuses. */
  private async connect(): Promise<ControlAnswer | undefined> {
    const { control, flags } = this.call;
    const path = `/v1/samples?intervalMs=${flags.integer('interval-ms')}`;
    const samples = await readLines(control, path, (line) => this.took(line));
    if ('status' in samples) return samples;
    this.readers = [samples];
    const events = `/v1/events?follow=1&since=${this.lastSeq}`;
    const happened = await readLines(control, events, (line) => this.happened(line));
    if ('status' in happened) {
      samples.close();
      return happened;
    }
    this.readers = [samples, happened];
    this.note = '';
    samples.ended.then(
      () => this.lost(),
      () => this.lost(),
    );
    return undefined;
  }

  private lost(): void {
    for (const reader of this.readers) reader.close();
    if (this.left) return;
    this.note = 'the node does not answer any more; trying again';
    this.draw();
    setTimeout(() => this.tryAgain(), TRY_AGAIN_MS);
  }

  private tryAgain(): void {
    if (this.left) return;
    // Another process counts its events from 1.
    this.lastSeq = 0;
    this.connect().then(
      (refused) => refused !== undefined && this.lost(),
      (thrown: unknown) => {
        if (thrown instanceof FtError) this.lost();
        else this.leave(CtlExitCode.internal);
      },
    );
  }

  private took(sample: Fields): void {
    if (this.left || (this.countMax > 0 && this.samples >= this.countMax)) return;
    this.sample = sample;
    this.samples += 1;
    this.history = [...this.history, numberIn(sample, 'epochsPerSecond')].slice(-HISTORY_MAX);
    if (this.terminal) this.draw();
    else
      process.stdout.write(`${this.call.json ? JSON.stringify(sample) : watchLine(this.view())}\n`);
    if (this.samples === this.countMax) this.leave(CtlExitCode.ok);
  }

  private happened(event: Fields): void {
    this.lastSeq = numberIn(event, 'seq');
    this.events = [...this.events, event].slice(-EVENTS_MAX);
    this.draw();
  }

  private view(): WatchView {
    const clock = new Date().toTimeString().slice(0, 8);
    const { sample, history, events, note } = this;
    return { sample, history, events, note, clock };
  }

  private readonly draw = (): void => {
    // The first sample may come before the alternate screen is entered.
    if (!this.entered || this.left) return;
    const { columns = 80, rows = 24 } = process.stdout;
    const lines = watchFrame(this.view(), columns, rows, this.look);
    const text = lines.map((line) => `${line}\u001b[K`).join('\r\n');
    process.stdout.write(`\u001b[H${text}\u001b[J`);
  };

  // ── the terminal ───────────────────────────────────────────────────────────────────────────────

  private open(): void {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => this.leave(CtlExitCode.ok));
    }
    if (!this.terminal) return;
    process.on('exit', this.close);
    process.stdout.write(ENTER);
    this.entered = true;
    process.stdout.on('resize', this.draw);
    if (process.stdin.isTTY) {
      process.stdin.setRawMode(true);
      process.stdin.on('data', (keys: Buffer) => {
        // Any other key draws anew, as Ctrl-L does everywhere.
        if (LEAVING_KEYS.some((key) => keys.includes(key))) this.leave(CtlExitCode.ok);
        else this.draw();
      });
    }
    this.draw();
  }

  private readonly close = (): void => {
    if (!this.terminal) return;
    process.off('exit', this.close);
    process.stdout.write(LEAVE);
    if (!process.stdin.isTTY) return;
    process.stdin.setRawMode(false);
    process.stdin.pause();
  };
}
