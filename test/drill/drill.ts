/**
 * The failover drill: one guest lives through any number of kills, one after another.
 *
 *   protected ──random moment──▶ SIGKILL of the active side ──▶ the standby is promoted
 *       ▲                                                              │
 *       └────────── a fresh ft-standby takes the free slot ◀───────────┘
 *
 * Clients ask all the while, through every kill. At the end the oracle judges the whole history.
 */
import { quantileOf } from '../../src/common/quantile';
import type { Verdict } from '../../src/drill/oracle/oracle';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairOptions } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { describeSite, figure, type Site } from '../../src/drill/report/report';

export interface DrillOptions {
  readonly runs: number;
  readonly pair: PairOptions;
  readonly clients: number;
  readonly ratePerSecond: number;
  /** Longest time under load before a kill; the moment is drawn between a fifth of it and it. */
  readonly lifeMsMax: number;
  readonly seed: number;
  /** Pages that the guest itself dirties in a millisecond. */
  readonly pagesPerMs: number;
  /** Called after each kill. */
  readonly onKill?: (kill: Kill, n: number) => void;
}

export interface Kill {
  /** The standby had taken over before the kill, since the host stalled: nothing to measure. */
  readonly early: boolean;
  /** SIGKILL sent → the first answer after the silence that it caused. */
  readonly failoverMs: number;
  /** SIGKILL sent → the standby said that it runs the guest. */
  readonly promotedMs: number;
  /** Fresh standby started → protected again. */
  readonly reprotectedMs: number;
}

export interface DrillReport extends Site {
  readonly runs: number;
  /** Kills that came too late, because the standby had suspected a stalled primary. */
  readonly earlyTakeovers: number;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly failoverMsP50: number;
  readonly failoverMsMax: number;
  readonly promotedMsP50: number;
  readonly promotedMsMax: number;
  readonly reprotectedMsP50: number;
  readonly auditMismatches: number;
  readonly verdict: Verdict;
  readonly kills: readonly Kill[];
}

export const drillDefaults = {
  clients: 16,
  ratePerSecond: 800,
  lifeMsMax: 1000,
  seed: 1,
  pagesPerMs: 16,
} as const;

/** Runs the drill to its end. Throws, with what the processes said, when a side does not follow. */
export async function runDrill(options: DrillOptions): Promise<DrillReport> {
  const pair = new Pair(options.pair);
  let oracle: OracleProcess | undefined;
  try {
    await pair.start();
    const { clients, ratePerSecond, seed } = options;
    oracle = await OracleProcess.start(
      { ...pair.guest, clients, ratePerSecond, seed },
      pair.netns?.name,
    );
    const { pagesPerMs } = options;
    await oracle.load({ pagesPerMs, bytesPerPage: 8, workingSetPages: 256, spin: false });
    await oracle.start();
    const kills: Kill[] = [];
    let auditMismatches = 0;
    let random = options.seed;
    for (let n = 0; n < options.runs; n++) {
      random = (Math.imul(random, 1664525) + 1013904223) >>> 0;
      await sleep(options.lifeMsMax * (0.2 + 0.8 * (random / 2 ** 32)));
      auditMismatches += pair.active?.figure('auditMismatches') ?? 0;
      const kill = await killOnce(pair, oracle);
      kills.push(kill);
      options.onKill?.(kill, n + 1);
    }
    const verdict = await oracle.finish();
    return summarize(options, kills, verdict, auditMismatches);
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    throw new Error(`${message}\n=== what the nodes said\n${pair.story()}`);
  } finally {
    await oracle?.close();
    await pair.close();
  }
}

async function killOnce(pair: Pair, oracle: OracleProcess): Promise<Kill> {
  const { early, killedUs, promotedMs } = await pair.killActive();
  const { answered } = await oracle.sample();
  await until(
    'answers after the promotion',
    async () => (await oracle.sample()).answered > answered,
    5000,
  );
  await sleep(30);
  // A silence that begins within 20 ms of the kill: what comes later has other reasons.
  const silence = await oracle.silence(killedUs, 20);
  if (silence === undefined) throw new Error('No answer was ever heard after the kill.');
  const startedUs = performance.now();
  await pair.rejoin();
  return {
    early,
    failoverMs: (silence.toUs - killedUs) / 1000,
    promotedMs,
    reprotectedMs: performance.now() - startedUs,
  };
}

function summarize(
  options: DrillOptions,
  kills: readonly Kill[],
  verdict: Verdict,
  auditMismatches: number,
): DrillReport {
  const { clients, ratePerSecond, lifeMsMax, seed, pagesPerMs } = options;
  const sudden = kills.filter((kill) => !kill.early);
  const failover = sudden.map((kill) => kill.failoverMs);
  const promoted = sudden.map((kill) => kill.promotedMs);
  const reprotected = kills.map((kill) => kill.reprotectedMs);
  return {
    ...describeSite(),
    runs: kills.length,
    earlyTakeovers: kills.length - sudden.length,
    parameters: { ...options.pair, clients, ratePerSecond, lifeMsMax, seed, pagesPerMs },
    failoverMsP50: quantileOf(failover, 0.5),
    failoverMsMax: Math.max(0, ...failover),
    promotedMsP50: quantileOf(promoted, 0.5),
    promotedMsMax: Math.max(0, ...promoted),
    reprotectedMsP50: quantileOf(reprotected, 0.5),
    auditMismatches,
    verdict,
    kills,
  };
}

/** The report in a few lines. */
export function drillText(report: DrillReport): string {
  const { verdict } = report;
  return [
    `${report.runs} kills: ${figure(verdict.requests)} requests, ${verdict.unanswered} unanswered, ` +
      `${verdict.lost} lost, ${verdict.regressed} regressed, ${figure(verdict.retries)} retries`,
    `SIGKILL to first new answer   p50 ${figure(report.failoverMsP50, 1)} ms   ` +
      `max ${figure(report.failoverMsMax, 1)} ms`,
    `SIGKILL to promoted           p50 ${figure(report.promotedMsP50, 1)} ms   ` +
      `max ${figure(report.promotedMsMax, 1)} ms`,
    `fresh standby to protected    p50 ${figure(report.reprotectedMsP50, 1)} ms`,
    `audit mismatches ${report.auditMismatches}, takeovers before the kill ${report.earlyTakeovers}`,
    ...verdict.violations.map((violation) => `  ${violation.story}`),
  ].join('\n');
}
