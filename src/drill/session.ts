/**
 * What runs on a sandbox pair and runs on a live one have in common: how often each scenario is done,
 * what is said meanwhile, signals, the report at the end.
 */

import { DrillExitCode } from './help';
import type { Count } from './orders';
import { atExit, onFirstSignal } from './process/process-exit';
import { isBroken, reportText, runText, type Subject } from './report/drill-report';
import { type ReportPaths, writeReports } from './report/report-files';
import type { Run, ScenarioResult } from './results';

export class DrillSession {
  readonly results: ScenarioResult[] = [];
  private signalled = false;
  private ended = false;
  private endedEarly: string | undefined;
  private of = 0;
  /** What is known of the scenario that runs, for a report that cannot wait for its end. */
  present: () => ScenarioResult | undefined = () => undefined;

  constructor(
    private readonly paths: ReportPaths,
    private readonly subject: Omit<Subject, 'endedEarly'>,
    private readonly stop: () => void,
  ) {
    onFirstSignal(() => this.signal());
    atExit('drill report', () => this.reportAtExit());
  }

  get isStopped(): boolean {
    return this.endedEarly !== undefined;
  }

  /** Nothing more is begun; the report says why. */
  endEarly(why: string): void {
    this.endedEarly ??= why;
  }

  /** Before a scenario: it will be done so often. */
  begin(of: number): void {
    this.of = of;
  }

  tell(run: Run): void {
    say(runText(run, this.of));
  }

  /** After a scenario: the report is written with it. */
  add(result: ScenarioResult): void {
    this.results.push(result);
    this.write();
  }

  /** The last report, on the terminal too. Returns the exit code. */
  end(): DrillExitCode {
    const report = this.write();
    this.ended = true;
    say(`\n${reportText(report)}`);
    const files = [this.paths.json, this.paths.html].filter((file) => file !== undefined);
    if (files.length > 0) say(`written to ${files.join(' and ')}`);
    if (isBroken(report)) return DrillExitCode.broken;
    return this.signalled ? DrillExitCode.interrupted : DrillExitCode.ok;
  }

  private write(): ReturnType<typeof writeReports> {
    return writeReports(this.paths, { ...this.subject, endedEarly: this.endedEarly }, this.results);
  }

  private signal(): void {
    this.signalled = true;
    this.endEarly('a signal came');
    process.stderr.write('ft-drill: ending after this drill; once more ends at once.\n');
    this.stop();
  }

  /** A second signal, or an error of ours: what is known is written all the same. */
  private reportAtExit(): void {
    if (this.ended) return;
    this.endEarly('it was broken off amid a drill, which is not in here');
    const present = this.present();
    if (present !== undefined && present.runs.length > 0) this.results.push(present);
    try {
      this.write();
    } catch {
      // Whoever breaks off has no use for another message.
    }
  }
}

/** How often the n-th of `scenarios` is done. */
export function runsOf(count: Count, n: number, scenarios: number): number {
  if ('runs' in count) return count.runs;
  const upTo = (k: number): number => Math.floor((k * count.drills) / scenarios);
  return upTo(n + 1) - upTo(n);
}

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
