/**
 * `ft-drill run … --live`: drills on a pair that is there. Each begins only while the guest is
 * protected, and the first failure ends them all: what is broken in production is not drilled further.
 */
import { createInterface } from 'node:readline/promises';
import { FtError } from '../../common/errors';
import type { DrillExitCode } from '../help';
import type { LiveRunOrder } from '../orders';
import { monotonicUs, sleep, until } from '../process/time';
import {
  type ClientVerdict,
  failedRun,
  figuresOfFault,
  type KeptTimeline,
  keepTimeline,
  type Run,
  type ScenarioResult,
} from '../results';
import { DrillSession, runsOf, say } from '../session';
import { BEFORE_MS, timelineOf } from '../timeline';
import { type LiveNode, LivePair } from './live-pair';
import type { LiveOutcome, LiveScenario } from './live-scenarios';
import { ProbeClient } from './probe-client';

/** The probe must have been answered for so long before anything is done. */
const LIFE_MS = 500;
const FIRST_ANSWER_MS = 5000;
/** Between two drills, so that whatever clients a pair has can catch their breath. */
const REST_MS = 1000;

/** Throws FT_ERR_DRILL_… when the pair may not be drilled, or is out of reach. */
export async function runOnLivePair(order: LiveRunOrder): Promise<DrillExitCode> {
  const pair = new LivePair(order.sockets);
  const primary = await pair.protectedPrimary();
  await confirm(order, primary);
  const { sockets, probeRate, gapMsMax, settleMs } = order;
  const parameters = {
    ...{ pair: primary.pair, sockets, probe: order.probe.text, probeRate, settleMs },
    ...(gapMsMax === undefined ? {} : { gapMsMax }),
  };
  const session = new DrillSession(order, { pair: 'live', parameters }, () => undefined);
  const client = new ProbeClient(order.probe, order.probeRate);
  client.start();
  try {
    await firstAnswer(client, order);
    for (const [n, scenario] of order.scenarios.entries()) {
      const drill = new LiveDrill(order, scenario, pair, client, session);
      session.present = () => drill.soFar();
      const runs = runsOf(order.count, n, order.scenarios.length);
      session.begin(runs);
      for (let run = 0; run < runs && !session.isStopped; run++) await drill.runOnce(run);
      if (scenario.name === 'switchover') await drill.goHome(primary);
      if (drill.soFar().runs.length > 0) session.add(drill.soFar());
    }
  } finally {
    await client.close();
  }
  return session.end();
}

/** The operator says the pair's name, or nothing is done. */
async function confirm(order: LiveRunOrder, primary: LiveNode): Promise<void> {
  const what = order.scenarios.map(({ name, what: words }) => `  ${name}: ${words}`);
  say(`On the live pair ${primary.pair}, whose guest runs on node ${primary.node}:`);
  say(what.join('\n'));
  if (order.yes) return;
  if (!process.stdin.isTTY) {
    const message = 'There is no terminal to ask at. Add --yes if this pair shall be drilled.';
    throw new FtError('FT_ERR_DRILL_UNCONFIRMED', message);
  }
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const said = await terminal.question(`Type the pair's name to do it: `);
  terminal.close();
  if (said.trim() === primary.pair) return;
  throw new FtError('FT_ERR_DRILL_UNCONFIRMED', 'That is not its name; nothing was done.');
}

async function firstAnswer(client: ProbeClient, { probe }: LiveRunOrder): Promise<void> {
  try {
    await until('an answer', () => client.counts.answered > 0, FIRST_ANSWER_MS);
  } catch (thrown) {
    const message =
      `Nobody answers ${probe.text}, so nothing could be measured; nothing was done. Can this ` +
      'host reach the guest?';
    throw new FtError('FT_ERR_DRILL_PROBE', message, { probe: probe.text }, thrown);
  }
  await sleep(LIFE_MS);
}

class LiveDrill {
  private readonly runs: Run[] = [];
  private readonly timelines: KeptTimeline[] = [];
  private readonly gaps: { readonly story: string }[] = [];
  private readonly before: ProbeClient['counts'];

  constructor(
    private readonly order: LiveRunOrder,
    private readonly scenario: LiveScenario,
    private readonly pair: LivePair,
    private readonly client: ProbeClient,
    private readonly session: DrillSession,
  ) {
    this.before = client.counts;
  }

  soFar(): ScenarioResult {
    const { scenario, runs, timelines, gaps } = this;
    const requests = this.client.counts.asked - this.before.asked;
    const verdict: ClientVerdict = {
      ...{ requests, retries: 0, regressed: 0 },
      ...{ lost: gaps.length, violations: gaps },
    };
    return { scenario, runs, timelines, verdicts: [verdict], dualActive: undefined, framesSeen: 0 };
  }

  /** One drill; a failure is kept and ends the session. */
  async runOnce(n: number): Promise<void> {
    let run: Run;
    try {
      if (n > 0) await sleep(REST_MS);
      const primary = await this.pair.protectedPrimary();
      run = await this.drill(n, primary);
    } catch (thrown) {
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      run = failedRun(this.scenario.name, n, message);
      this.session.endEarly('a drill on a live pair failed');
    }
    this.runs.push(run);
    this.session.tell(run);
  }

  /** An odd number of switchovers is followed by one more, where both nodes can be asked. */
  async goHome(home: LiveNode): Promise<void> {
    if (this.order.sockets.length < 2 || this.session.isStopped) return;
    const nodes = await this.pair.look();
    const now = nodes.find(({ role }) => role === 'primary');
    if (now === undefined || now.node === home.node) return;
    say('and back to where the guest was:');
    await this.runOnce(this.runs.length);
  }

  private async drill(n: number, primary: LiveNode): Promise<Run> {
    const { pair, client, scenario } = this;
    const { settleMs } = this.order;
    const outcome = await scenario.act({ pair, primary, settleMs });
    const protectedUs = await pair.protectedAfter(primary.generation, settleMs);
    const before = client.counts.answered;
    await until('an answer afterwards', () => client.counts.answered > before, settleMs);
    await sleep(100);
    const { faultUs, ranUs, blackoutMs, moved } = outcome;
    // The silence that the fault caused begins before the guest runs again.
    const gap = client.gap(faultUs, ranUs);
    const run = {
      ...failedRun(scenario.name, n, ''),
      ...figuresOfFault(faultUs, ranUs, gap),
      ...{ blackoutMs, moved },
      reprotectedMs: (protectedUs - faultUs) / 1000,
      failure: undefined,
    };
    this.judgeGap(run);
    this.keepPicture(run, outcome, gap?.toUs, protectedUs);
    return run;
  }

  private judgeGap({ n, silenceMs }: Run): void {
    const { gapMsMax } = this.order;
    if (gapMsMax === undefined || silenceMs === undefined || silenceMs <= gapMsMax) return;
    const gap = `no answer for ${silenceMs.toFixed(1)} ms, more than ${gapMsMax} ms`;
    this.gaps.push({ story: `drill ${n + 1}: ${gap}` });
  }

  private keepPicture(
    { n, failoverMs, silenceMs }: Run,
    { faultUs, deeds }: LiveOutcome,
    answeredUs: number | undefined,
    protectedUs: number,
  ): void {
    const whole = { host: '', role: 'primary', from: '', to: 'protected', atUs: protectedUs };
    const timeline = timelineOf({
      ...{ faultUs, answeredUs, deeds, fault: this.scenario.what, changes: [whole] },
      requests: this.client.timeline(faultUs - 2 * BEFORE_MS * 1000, monotonicUs()),
    });
    keepTimeline(this.timelines, { n, failoverMs, silenceMs, timeline });
  }
}
