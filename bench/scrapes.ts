/**
 * What scrapes of the metrics cost: one pair under load, with both nodes asked for their page many
 * times a second, and then not at all, and so on, in phases of a second or two. The epochs of
 * neighbouring phases are compared, so that what else the host does falls on both, and what so many
 * scrapes cost is divided by their number.
 *
 *   node dist/bench/scrapes.js [--every-ms 50] [--phase-ms 1500] [--rounds 20] [--interval-us 200]
 *                              [--pages 16]
 *
 *   scraper:  on │ off │ off │ on │ on │ off │ …        a round is two phases, each order in turn
 *
 * The scraper runs on the nodes' own CPU here, which costs more than one on another host would.
 * Prints what a scrape a second costs, with the standard error; writes build/bench/scrapes.json.
 */
import { spawnSync } from 'node:child_process';
import { Agent, get } from 'node:http';
import os from 'node:os';
import { parseArgs } from 'node:util';
import { OracleProcess } from '../src/drill/oracle/oracle-process';
import { Pair, type PairNode } from '../src/drill/pair/pair';
import { WatchedProcess } from '../src/drill/process/process';
import { monotonicUs, sleep } from '../src/drill/process/time';
import { describeSite, figure, writeReport } from '../src/drill/report/report';
import { kvmMissing } from './measure';

const PORTS = { a: 9101, b: 9102 } as const;
const STATUS_MS = 50;
const WARM_UP_MS = 2000;
const PAGE_BYTES_MIN = 10_000;

interface Options {
  readonly everyMs: number;
  readonly phaseMs: number;
  readonly rounds: number;
  readonly intervalUs: number;
  readonly pages: number;
}

/** One phase: whether there were scrapes, how many, and epochs a second meanwhile. */
interface Phase {
  readonly on: boolean;
  readonly scrapes: number;
  readonly epochsPerSecond: number;
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      'every-ms': { type: 'string', default: '50' },
      'phase-ms': { type: 'string', default: '1500' },
      rounds: { type: 'string', default: '20' },
      'interval-us': { type: 'string', default: '200' },
      pages: { type: 'string', default: '16' },
    },
  });
  return {
    everyMs: Number(values['every-ms']),
    phaseMs: Number(values['phase-ms']),
    rounds: Number(values.rounds),
    intervalUs: Number(values['interval-us']),
    pages: Number(values.pages),
  };
}

// ── the scraper, a process in the pair's network ───────────────────────────────────────────────────

/** Keeps its connections, as Prometheus does. */
const agent = new Agent({ keepAlive: true });

/** Bytes of a page; 0 when nobody answers. */
function scrape(port: number): Promise<number> {
  return new Promise((resolve) => {
    let bytes = 0;
    const request = get({ host: '127.0.0.1', port, path: '/metrics', agent }, (answer) => {
      answer.on('data', (piece: Buffer) => {
        bytes += piece.length;
      });
      answer.on('end', () => resolve(bytes));
    });
    // A node lets go of connections that rest; one that was just about to be used is made anew.
    request.on('error', () => resolve(request.reusedSocket ? scrape(port) : 0));
  });
}

/** Says when each phase began and ended, and how many rounds of scrapes were in it. */
async function runScraper({ everyMs, phaseMs, rounds }: Options): Promise<void> {
  const order = Array.from({ length: rounds }, (_, n) =>
    n % 2 === 0 ? [true, false] : [false, true],
  );
  for (const on of order.flat()) {
    const fromUs = monotonicUs();
    const toUs = fromUs + phaseMs * 1000;
    let scrapes = 0;
    for (let dueUs = fromUs; on && dueUs < toUs; dueUs += everyMs * 1000) {
      await sleep(Math.max(0, (dueUs - monotonicUs()) / 1000));
      const pages = await Promise.all(Object.values(PORTS).map(scrape));
      if (Math.min(...pages) < PAGE_BYTES_MIN) throw new Error('A node did not show its metrics.');
      scrapes += 1;
    }
    await sleep(Math.max(0, (toUs - monotonicUs()) / 1000));
    process.stdout.write(`${JSON.stringify({ on, scrapes, fromUs, toUs: monotonicUs() })}\n`);
  }
}

// ── the measurement ────────────────────────────────────────────────────────────────────────────────

/** Epochs a second between two moments, by the status lines that lie between them. */
function rateOf(node: PairNode, fromUs: number, toUs: number): number {
  const within = node.process.lines.filter(
    ({ atUs, fields }) => fields['event'] === undefined && atUs >= fromUs && atUs <= toUs,
  );
  const [first, last] = [within[0], within.at(-1)];
  if (first === undefined || last === undefined || first === last) {
    throw new Error('The node said too little in a phase; make --phase-ms longer.');
  }
  const epochs = Number(last.fields['epochCommitted']) - Number(first.fields['epochCommitted']);
  return (epochs * 1e6) / (last.atUs - first.atUs);
}

async function measurePhases(options: Options): Promise<Phase[]> {
  const pair = new Pair({
    machine: 'kvm',
    name: 'bench-scrapes',
    statusIntervalMs: STATUS_MS,
    flags: ['--interval-us', `${options.intervalUs}`],
    slotFlags: ({ name }) => ['--http', `127.0.0.1:${PORTS[name]}`],
  });
  let oracle: OracleProcess | undefined;
  let scraper: WatchedProcess | undefined;
  try {
    await pair.start();
    const node = pair.active;
    if (node === undefined) throw new Error('The pair has no active side.');
    const clients = { ...pair.guest, clients: 4, ratePerSecond: 100 };
    oracle = await OracleProcess.start(clients, pair.netns?.name);
    await oracle.load({
      ...{ pagesPerMs: 'max', bytesPerPage: 8, workingSetPages: options.pages, spin: true },
    });
    await sleep(WARM_UP_MS);
    scraper = new WatchedProcess({
      name: 'bench-scraper',
      command: process.execPath,
      args: [__filename, '--scraper', JSON.stringify(options)],
      netns: pair.netns?.name,
    });
    for (const pid of [scraper.pid, oracle.process.pid]) keepOffGuestCpu(pid);
    const { code } = await scraper.exited;
    if (code !== 0) throw scraper.failure('all phases');
    if (node.state !== 'protected') throw new Error(`The node is ${node.state}.`);
    return scraper.lines.map(({ fields }) => ({
      on: fields['on'] === true,
      scrapes: Number(fields['scrapes']),
      epochsPerSecond: rateOf(node, Number(fields['fromUs']), Number(fields['toUs'])),
    }));
  } finally {
    await scraper?.stop();
    await oracle?.close();
    await pair.close();
  }
}

function keepOffGuestCpu(pid: number): void {
  const last = os.cpus().length - 1;
  if (last > 0) spawnSync('taskset', ['-acp', last === 1 ? '0' : `0-${last - 1}`, `${pid}`]);
}

function tell(options: Options, phases: readonly Phase[]): void {
  const losses: number[] = [];
  let perSecond = 0;
  for (let at = 0; at + 1 < phases.length; at += 2) {
    const two = phases.slice(at, at + 2);
    const [on, off] = [two.find((phase) => phase.on), two.find((phase) => !phase.on)];
    if (on === undefined || off === undefined) continue;
    losses.push(1 - on.epochsPerSecond / off.epochsPerSecond);
    perSecond += (on.scrapes * 1000) / options.phaseMs / options.rounds;
  }
  const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  const square = losses.reduce((sum, loss) => sum + (loss - mean) ** 2, 0);
  const error = Math.sqrt(square / (losses.length - 1) / losses.length);
  const off = phases.filter((phase) => !phase.on).map((phase) => phase.epochsPerSecond);
  const epochs = off.reduce((sum, one) => sum + one, 0) / off.length;
  const [one, oneError] = [mean / perSecond, error / perSecond];
  process.stdout.write(
    `${figure(epochs)} epochs/s; ${figure(perSecond, 1)} scrapes/s of both nodes: ` +
      `${figure(mean * 100, 2)} % ± ${figure(error * 100, 2)} fewer epochs\n` +
      `so one scrape a second: ${figure(one * 100, 3)} % ± ${figure(oneError * 100, 3)}\n`,
  );
  const found = { epochsPerSecond: epochs, scrapesPerSecond: perSecond, lossRatio: mean, error };
  writeReport('bench/scrapes.json', {
    site: describeSite(),
    options,
    ...found,
    lossRatioAtOne: one,
    phases,
  });
}

async function main(): Promise<void> {
  if (process.argv[2] === '--scraper') {
    await runScraper(JSON.parse(process.argv[3] ?? '{}') as Options);
    return;
  }
  const missing = kvmMissing();
  if (missing !== undefined) throw new Error(missing);
  const options = readOptions();
  tell(options, await measurePhases(options));
}

main().then(
  () => process.exit(0),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exit(1);
  },
);
