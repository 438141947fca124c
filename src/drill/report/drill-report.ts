/** The results of drills by scenario: for a machine (build/drills.json), and as a table for people. */
import { P99_VALUES_MIN, quantileOf } from '../../common/quantile';
import type { KeptTimeline, Run, ScenarioResult } from '../results';
import { describeSite, figure, type Site, table } from './report';

/** Percentiles are of the drills that came to their end and have the figure; a 99th there is of a
 * hundred and more. */
export interface ScenarioFigures {
  readonly what: string;
  readonly runs: number;
  /** Of the clients: answers lost, repeated or contradicting. */
  readonly violations: number;
  /** Moments at which two sides sent for the guest; null where nobody watched the network. */
  readonly dualActive: number | null;
  /** Runs that did not come to their end: nobody ran the guest, or it was not protected again. */
  readonly failures: number;
  /** Fault → first new answer, of a guest that had stopped. */
  readonly failoverMsP50: number | null;
  readonly failoverMsP99: number | null;
  readonly failoverMsMax: number | null;
  /** The longest stretch without an answer, whether the guest stopped or not. */
  readonly silenceMsP50: number | null;
  readonly silenceMsP99: number | null;
  readonly silenceMsMax: number | null;
  /** Fault → the guest runs with its output open. */
  readonly promotedMsP50: number | null;
  readonly promotedMsP99: number | null;
  readonly promotedMsMax: number | null;
  readonly blackoutMsP50: number | null;
  readonly blackoutMsP99: number | null;
  readonly blackoutMsMax: number | null;
  /** Everything mended → protected again. */
  readonly reprotectedMsP50: number | null;
  /** Runs whose last sync sent only what had changed, and what a sync of either kind sent. */
  readonly catchUps: number;
  readonly catchUpBytesP50: number | null;
  readonly fullSyncBytesP50: number | null;
  /** Runs after which the guest ran on the other host. */
  readonly moved: number;
  /** Runs in which both hosts of the guest died, so that it was booted anew. */
  readonly guestsLost: number;
  /** Takeovers that came before the fault, since this machine stalled. */
  readonly unplanned: number;
  readonly requests: number;
  readonly retries: number;
  readonly framesSeen: number;
  /** What went wrong, in words. */
  readonly stories: readonly string[];
}

/** What was drilled, and how the report calls it. */
export interface Subject {
  /** A pair that the drill made itself, or one that was there. */
  readonly pair: 'sandbox' | 'live';
  readonly parameters: Readonly<Record<string, unknown>>;
  /** A signal, or a pair that could not be drilled further, ended the drills early: why. */
  readonly endedEarly: string | undefined;
}

export interface DrillReport extends Site {
  readonly pair: Subject['pair'];
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly endedEarly: string | null;
  readonly runs: number;
  readonly violations: number;
  /** Of the scenarios that were watched; null where none was. */
  readonly dualActive: number | null;
  readonly failures: number;
  readonly scenarios: Readonly<Record<string, ScenarioFigures>>;
  /** Each drill, without the words of one that failed: they are among its scenario's stories. */
  readonly drills: readonly Omit<Run, 'failure'>[];
}

/** The pictures of one scenario, by its name. */
export type Timelines = Readonly<Record<string, readonly KeptTimeline[]>>;

export function reportOf(subject: Subject, results: readonly ScenarioResult[]): DrillReport {
  const figures = results.map((result) => [result.scenario.name, figuresOf(result)] as const);
  const sum = (name: 'runs' | 'violations' | 'failures'): number =>
    figures.reduce((total, [, one]) => total + one[name], 0);
  const watched = figures.flatMap(([, { dualActive }]) => dualActive ?? []);
  return {
    ...describeSite(),
    pair: subject.pair,
    parameters: subject.parameters,
    endedEarly: subject.endedEarly ?? null,
    runs: sum('runs'),
    violations: sum('violations'),
    dualActive: watched.length === 0 ? null : watched.reduce((total, one) => total + one),
    failures: sum('failures'),
    scenarios: Object.fromEntries(figures),
    drills: results.flatMap(({ runs }) => runs.map(({ failure: _failure, ...run }) => run)),
  };
}

export function timelinesOf(results: readonly ScenarioResult[]): Timelines {
  return Object.fromEntries(results.map(({ scenario, timelines }) => [scenario.name, timelines]));
}

/** True when a promise was broken, or a pair did not mend itself. */
export function isBroken(
  report: Pick<DrillReport, 'violations' | 'dualActive' | 'failures'>,
): boolean {
  return report.violations + (report.dualActive ?? 0) + report.failures > 0;
}

/** Which figure tells how slow the slow ones were: where a scenario has few values, the slowest. */
export function tailOf(report: Pick<DrillReport, 'scenarios'>): {
  readonly key: 'P99' | 'Max';
  readonly word: string;
} {
  const hasMany = Object.values(report.scenarios).every(
    (one) =>
      (one.promotedMsP50 === null || one.promotedMsP99 !== null) &&
      (one.failoverMsP50 === null || one.failoverMsP99 !== null),
  );
  return hasMany ? { key: 'P99', word: 'p99' } : { key: 'Max', word: 'max' };
}

function figuresOf(result: ScenarioResult): ScenarioFigures {
  const { scenario, runs, verdicts, dualActive, framesSeen } = result;
  const count = (is: (run: Run) => boolean): number => runs.filter(is).length;
  const total = (of: 'lost' | 'regressed' | 'requests' | 'retries'): number =>
    verdicts.reduce((sum, verdict) => sum + verdict[of], 0);
  const quantile = (of: (run: Run) => number | undefined, p: number): number | null => {
    const values = runs.map(of).filter((value) => value !== undefined);
    if (values.length < (p === 0.99 ? P99_VALUES_MIN : 1)) return null;
    return Math.round(quantileOf(values, p) * 1000) / 1000;
  };
  return {
    what: scenario.what,
    runs: runs.length,
    violations: total('lost') + total('regressed'),
    dualActive: dualActive?.length ?? null,
    failures: count((run) => run.failure !== undefined),
    failoverMsP50: quantile((run) => run.failoverMs, 0.5),
    failoverMsP99: quantile((run) => run.failoverMs, 0.99),
    failoverMsMax: quantile((run) => run.failoverMs, 1),
    silenceMsP50: quantile((run) => run.silenceMs, 0.5),
    silenceMsP99: quantile((run) => run.silenceMs, 0.99),
    silenceMsMax: quantile((run) => run.silenceMs, 1),
    promotedMsP50: quantile((run) => run.promotedMs, 0.5),
    promotedMsP99: quantile((run) => run.promotedMs, 0.99),
    promotedMsMax: quantile((run) => run.promotedMs, 1),
    blackoutMsP50: quantile((run) => run.blackoutMs, 0.5),
    blackoutMsP99: quantile((run) => run.blackoutMs, 0.99),
    blackoutMsMax: quantile((run) => run.blackoutMs, 1),
    reprotectedMsP50: quantile(
      (run) => (run.failure === undefined ? run.reprotectedMs : undefined),
      0.5,
    ),
    catchUps: count((run) => run.syncKind === 'catch-up'),
    catchUpBytesP50: quantile(bytesOf('catch-up'), 0.5),
    fullSyncBytesP50: quantile(bytesOf('full'), 0.5),
    moved: count((run) => run.moved),
    guestsLost: count((run) => run.guestLost),
    unplanned: count((run) => run.unplanned),
    requests: total('requests'),
    retries: total('retries'),
    framesSeen,
    stories: storiesOf(result),
  };
}

function storiesOf({ verdicts, dualActive, runs }: ScenarioResult): string[] {
  return [
    ...verdicts.flatMap((verdict) => verdict.violations.map((violation) => violation.story)),
    ...(dualActive ?? []).map((moment) => `two active sides: ${moment.story}`),
    ...runs.flatMap(({ n, failure }) =>
      failure === undefined ? [] : [`drill ${n + 1}: ${failure}`],
    ),
  ];
}

function bytesOf(kind: string): (run: Run) => number | undefined {
  return (run) => (run.syncKind === kind ? run.syncBytes : undefined);
}

/** One line for each scenario, then what went wrong. */
export function reportText(report: DrillReport): string {
  const ms = (value: number | null): string => (value === null ? '–' : figure(value, 1));
  const { key, word } = tailOf(report);
  const rows = Object.entries(report.scenarios).map(([name, one]) => [
    name,
    `${one.runs}`,
    `${one.violations}`,
    `${one.dualActive ?? '–'}`,
    `${one.failures}`,
    ms(one.promotedMsP50),
    ms(one[`promotedMs${key}`]),
    ms(one.failoverMsP50),
    ms(one[`failoverMs${key}`]),
    ms(one.silenceMsMax),
    ms(one.reprotectedMsP50),
    `${one.moved}`,
    `${one.guestsLost}`,
    `${one.unplanned}`,
  ]);
  const heads = [
    ...['scenario', 'runs', 'violations', 'dual', 'failed', 'runs p50', `${word} ms`],
    ...['answers p50', `${word} ms`, 'silence max', 'protected', 'moved', 'lost', 'early'],
  ];
  const stories = Object.entries(report.scenarios).flatMap(([name, one]) =>
    one.stories.map((story) => `  ${name}: ${story}`),
  );
  const { runs, violations, dualActive, failures, endedEarly } = report;
  return [
    table(heads, rows),
    `${runs} drills: ${violations} client violations, ` +
      (dualActive === null
        ? 'two active sides: not watched, '
        : `${dualActive} moments with two active sides, `) +
      `${failures} drills that did not come to their end`,
    ...(endedEarly === null ? [] : [`Ended early: ${endedEarly}`]),
    ...stories,
  ].join('\n');
}

function silence({ silenceMs }: Run): string {
  return silenceMs === undefined ? '' : `, no answer for ${figure(silenceMs, 1)} ms`;
}

/** One drill in a line, as it ends. */
export function runText(run: Run, of: number): string {
  const took = (what: string, ms: number | undefined): string =>
    ms === undefined ? '' : `, ${what} after ${figure(ms, 1)} ms`;
  const first = run.failure?.split('\n')[0];
  const how =
    first === undefined
      ? `${took('runs', run.promotedMs)}${took('answers', run.failoverMs)}` +
        `${run.failoverMs === undefined ? silence(run) : ''}` +
        `${run.guestLost ? ', guest lost with both hosts' : ''}` +
        `, protected again in ${figure(run.reprotectedMs)} ms`
      : `, FAILED: ${first}`;
  return `${run.scenario} ${run.n + 1} of ${of}${how}`;
}
