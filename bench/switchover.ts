/**
 * The switchover: how long the guest stands still when it is handed over, back and forth between two
 * processes of this host, under load and with clients that ask all the time.
 *
 *   node dist/bench/switchover.js [--runs 24] [--pages-per-ms 16]
 *
 * Both processes read the same clock, so the gap is measured from the primary's "switching", before
 * which the guest is not halted, to the standby's "active", behind which it runs. Beside it: what
 * the primary says it was at most, the claim and the promotion in it, and the longest that clients
 * heard nothing around it. Prints a table; writes build/bench/switchover.json.
 */
import { rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { askNode } from '../src/cli/control-client';
import { quantileOf } from '../src/common/quantile';
import type { Verdict } from '../src/drill/oracle/oracle';
import { OracleProcess } from '../src/drill/oracle/oracle-process';
import { Pair, type PairNode, type Slot } from '../src/drill/pair/pair';
import { sleep } from '../src/drill/process/time';
import { describeSite, figure, table, writeReport } from '../src/drill/report/report';
import { kvmMissing } from './measure';

const BAR_BLACKOUT_MS = 20;
const RUNS: readonly string[] = ['solo', 'syncing', 'protected'];
/** Between two switchovers, so that the clients are in their stride. */
const REST_MS = 300;

/** One switchover, in milliseconds. */
interface Gap {
  readonly standsStill: number;
  readonly saidAtMost: number;
  readonly drain: number;
  readonly claim: number;
  readonly promotion: number;
  /** Between two answers to the clients; it also has the requests that were under way. */
  readonly silence: number;
}

const NAMES: readonly (readonly [keyof Gap, string])[] = [
  ['standsStill', 'the guest stands still'],
  ['saidAtMost', '  as the primary says, at most'],
  ['drain', '  halt to handOver'],
  ['claim', '  claim at the witness'],
  ['promotion', '  promotion'],
  ['silence', 'clients hear nothing'],
];

const controlOf = (slot: Pick<Slot, 'name'>): string =>
  path.join(os.tmpdir(), `ft-bench-${process.pid}-${slot.name}.sock`);

const say = (text: string): void => void process.stdout.write(`${text}\n`);

function readOptions(): { runs: number; pagesPerMs: number } {
  const { values } = parseArgs({
    options: {
      runs: { type: 'string', default: '24' },
      'pages-per-ms': { type: 'string', default: '16' },
    },
  });
  const runs = Number(values.runs);
  const pagesPerMs = Number(values['pages-per-ms']);
  if (runs >= 1 && runs <= 1000 && pagesPerMs >= 0 && pagesPerMs <= 200) {
    return { runs: Math.floor(runs), pagesPerMs };
  }
  throw new Error('--runs is a number from 1 to 1000, --pages-per-ms one from 0 to 200.');
}

/** When a node first said that it came to this state, µs, among its lines from `from` on. */
function reachedUs(node: PairNode, from: number, to: string): number {
  const isIt = ({ fields }: { fields: Readonly<Record<string, unknown>> }): boolean =>
    fields['event'] === 'state' && fields['to'] === to;
  const line = node.process.lines.slice(from).find(isIt);
  if (line === undefined) throw new Error(`${node.nodeId} never said that it is ${to}.`);
  return line.atUs;
}

async function switchOnce(
  active: PairNode,
  standby: PairNode,
  oracle: OracleProcess,
): Promise<{ gap: Gap; from: number }> {
  const before = active.process.lines.length;
  const from = standby.process.lines.length;
  const { status, body } = await askNode(controlOf(active.slot), 'POST', '/v1/switchover');
  if (status !== 200) throw new Error(`No switchover: ${JSON.stringify(body)}`);
  await standby.waitState(RUNS, 5000, from);
  // Time for answers behind it.
  await sleep(100);
  const beganUs = reachedUs(active, before, 'switching');
  const claimUs = reachedUs(standby, from, 'suspecting');
  const wonUs = reachedUs(standby, from, 'promoting');
  const runsUs = reachedUs(standby, from, 'active');
  const silence = await oracle.silence(beganUs, 20);
  const silentUs = silence === undefined ? Number.NaN : silence.toUs - silence.fromUs;
  const gap = {
    standsStill: (runsUs - beganUs) / 1000,
    saidAtMost: Number(body['blackoutUs']) / 1000,
    drain: Number(body['drainUs']) / 1000,
    claim: (wonUs - claimUs) / 1000,
    promotion: (runsUs - wonUs) / 1000,
    silence: silentUs / 1000,
  };
  return { gap, from };
}

async function runAll(
  runs: number,
  pagesPerMs: number,
): Promise<{ gaps: Gap[]; verdict: Verdict }> {
  const slotFlags = (slot: Pick<Slot, 'name'>): string[] => ['--control', controlOf(slot)];
  const pair = new Pair({ machine: 'kvm', name: 'bench-switchover', slotFlags });
  let oracle: OracleProcess | undefined;
  try {
    const [a, b] = pair.slots;
    let standby = pair.startStandby(b);
    let active = pair.startPrimary(a, b.port, ['--listen', `127.0.0.1:${a.port}`]);
    await active.waitState(['protected'], 20_000);
    const clients = { ...pair.guest, clients: 8, ratePerSecond: 400, seed: 1 };
    oracle = await OracleProcess.start(clients, pair.netns?.name);
    await oracle.load({ pagesPerMs, bytesPerPage: 8, workingSetPages: 256, spin: false });
    await oracle.start();
    const gaps: Gap[] = [];
    for (let n = 0; n < runs; n += 1) {
      await sleep(REST_MS);
      const { gap, from } = await switchOnce(active, standby, oracle);
      gaps.push(gap);
      [active, standby] = [standby, active];
      await active.waitState(['protected'], 15_000, from);
    }
    return { gaps, verdict: await oracle.finish() };
  } finally {
    await oracle?.close();
    await pair.close();
    for (const slot of pair.slots) rmSync(controlOf(slot), { force: true });
  }
}

async function main(): Promise<number> {
  const { runs, pagesPerMs } = readOptions();
  const missing = kvmMissing();
  if (missing !== undefined) {
    process.stderr.write(`${missing}\n`);
    return 3;
  }
  const site = describeSite();
  say(`${site.machine}\n${site.kernel}, commit ${site.commit}\n`);
  const { gaps, verdict } = await runAll(runs, pagesPerMs);
  const of = (name: keyof Gap): number[] => gaps.map((gap) => gap[name]).filter(Number.isFinite);
  const rows = NAMES.map(([name, words]) => {
    const values = of(name);
    return [words, ...[0.5, 0.9, 1].map((part) => figure(quantileOf(values, part), 1))];
  });
  say(`${table([`${runs} switchovers, ms`, 'p50', 'p90', 'most'], rows)}\n`);
  const { requests, unanswered, lost, regressed, retries } = verdict;
  say(
    `${figure(requests)} requests: ${unanswered} unanswered, ${lost} lost, ${regressed} regressed, ` +
      `${retries} asked again`,
  );
  const most = quantileOf(of('standsStill'), 1);
  const reached = most <= BAR_BLACKOUT_MS;
  say(
    `Bar: the guest stands still for at most ${BAR_BLACKOUT_MS} ms: ` +
      `${reached ? 'reached' : 'NOT reached'} (${figure(most, 1)} ms).`,
  );
  const bars = [{ what: 'blackout', reached, msMax: most }];
  const report = { ...site, parameters: { runs, pagesPerMs }, gaps, verdict, bars };
  say(`Written to ${writeReport('bench/switchover.json', report)}.`);
  return verdict.violations.length === 0 ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (thrown: unknown) => {
    process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
    process.exit(1);
  },
);
