/**
 * The cells of the matrix, one after the other. Around each protected run stand runs of the floor
 * at the same interval, and around these the same guest unprotected:
 *
 *   bare · floor · ours · floor · bare · floor · ours · floor · bare
 *          └────── one sample ──────┘     (neighbours of the same load share the bare run)
 */
import { figure } from '../src/drill/report/report';
import { type Highest, searchPeak } from './highest';
import { measure, type Run, type RunKind } from './measure';
import { BAR_PAGES, type Options } from './options';
import { type Cell, cellName, makeRow, type Row, type Sample, type Skipped } from './rows';

/** Beyond the floor's highest rate by this, a rate is out of reach of the guest itself. */
const REACH = 1.05;

/** So many pages take so long that cuts for output would end most epochs before they are full. */
const WITHOUT_OUTPUT_CUTS_PAGES = 512;

export interface Outcome {
  readonly rows: Row[];
  readonly skipped: Skipped[];
  readonly failed: Skipped[];
}

export class Matrix {
  private lastBare: { readonly load: string; readonly run: Run } | undefined;

  /** `floorRate`: what the floor can reach with so many pages, if that is known. */
  constructor(
    private readonly options: Options,
    private readonly incrPerSecond: number,
    private readonly floorRate: ((pages: number) => number) | undefined,
    private readonly highest: readonly Highest[],
    private readonly say: (text: string) => void,
  ) {}

  async run(): Promise<Outcome> {
    const outcome: Outcome = { rows: [], skipped: [], failed: [] };
    for (const cell of this.options.cells) {
      const reason = this.outOfReach(cell);
      if (reason !== undefined) {
        outcome.skipped.push({ ...cell, reason });
        continue;
      }
      try {
        outcome.rows.push(await this.measureCell(cell));
      } catch (thrown) {
        // The others are worth having all the same.
        const why = thrown instanceof Error ? thrown.message : String(thrown);
        this.say(`${cellName(cell)} FAILED: ${why}`);
        outcome.failed.push({ ...cell, reason: why });
      }
    }
    return outcome;
  }

  /** Why the guest itself cannot dirty so many pages so often; undefined when it may. */
  private outOfReach({ dirtyPages, targetEpochsPerSecond }: Cell): string | undefined {
    if (targetEpochsPerSecond === null) return undefined;
    const most = reachable(dirtyPages, this.highest, this.floorRate);
    if (targetEpochsPerSecond <= most * REACH) return undefined;
    return (
      `the first writes to ${figure(dirtyPages)} pages after a cut are as many faults; ` +
      `the floor alone reaches about ${figure(most)} full epochs/s.`
    );
  }

  private async measureCell(cell: Cell): Promise<Row> {
    const intervalUs =
      cell.targetEpochsPerSecond === null
        ? await this.backToBackUs(cell)
        : Math.round(1e6 / cell.targetEpochsPerSecond);
    const { options } = this;
    const judged = BAR_PAGES.includes(cell.dirtyPages);
    const seconds = judged ? options.seconds : options.shortSeconds;
    const samples: Sample[] = [];
    for (let n = 0; n < options.runs; n++) {
      this.say(`${cellName(cell)}, every ${intervalUs} us, ${seconds} s ...`);
      const bare = await this.bareBefore(cell);
      const before = await this.floor(cell, intervalUs);
      const ours = await this.once('ours', cell, intervalUs, seconds);
      const after = await this.floor(cell, intervalUs);
      samples.push({
        ours,
        floors: [...before, ...after],
        bares: [bare, await this.bareAfter(cell)],
      });
    }
    return makeRow(cell, samples);
  }

  private async backToBackUs(cell: Cell): Promise<number> {
    const { options } = this;
    if (options.backToBackUs !== undefined) return options.backToBackUs;
    const known = this.highest.find(
      (one) => one.dirtyPages === cell.dirtyPages && one.changedBytes === cell.changedBytes,
    );
    if (known !== undefined) return known.ours.intervalUs;
    this.say(`${cellName(cell)}: looking for the interval ...`);
    const { best, probes } = await searchPeak(
      (kind, _pages, _bytes, intervalUs, seconds, warmUpMs) =>
        this.once(kind, cell, intervalUs, seconds, warmUpMs),
      'ours',
      cell.dirtyPages,
      cell.changedBytes,
      options,
      this.say,
    );
    if (best !== undefined) return best.intervalUs;
    // Never full: the interval that came nearest to it.
    const fullest = probes.reduce((most, one) =>
      one.dirtyPagesPerEpoch > most.dirtyPagesPerEpoch ? one : most,
    );
    return fullest.intervalUs;
  }

  private floor(cell: Cell, intervalUs: number): Promise<Run[]> {
    const { withFloor, referenceSeconds } = this.options;
    if (!withFloor) return Promise.resolve([]);
    return this.once('floor', cell, intervalUs, referenceSeconds).then((run) => [run]);
  }

  private bareBefore(cell: Cell): Promise<Run> {
    const { lastBare } = this;
    return lastBare?.load === loadOf(cell) ? Promise.resolve(lastBare.run) : this.bareAfter(cell);
  }

  private async bareAfter(cell: Cell): Promise<Run> {
    const run = await this.once('bare', cell, undefined, this.options.referenceSeconds);
    this.lastBare = { load: loadOf(cell), run };
    return run;
  }

  private once(
    kind: RunKind,
    cell: Cell,
    intervalUs: number | undefined,
    seconds: number,
    warmUpMs = this.options.warmUpMs,
  ): Promise<Run> {
    const { machine, flags } = this.options;
    const { dirtyPages, changedBytes } = cell;
    const { incrPerSecond } = this;
    const load = { dirtyPages, changedBytes, incrPerSecond };
    // What is tried with --flags is the protected side.
    const own = kind === 'ours' ? [...cellFlags(cell), ...flags] : [];
    return measure({ machine, kind, ...load, warmUpMs, seconds, intervalUs, flags: own });
  }
}

/** Flags that a cell needs besides its interval. */
export function cellFlags({ dirtyPages }: Cell): string[] {
  return dirtyPages >= WITHOUT_OUTPUT_CUTS_PAGES ? ['--no-cut-on-output'] : [];
}

/** Epochs a second that the floor makes of so many pages: measured, fitted, or else no limit. */
export function reachable(
  pages: number,
  highest: readonly Highest[],
  fitted: ((pages: number) => number) | undefined,
): number {
  const measured = highest.find((one) => one.dirtyPages === pages);
  if (measured !== undefined) return measured.floor.epochsPerSecond;
  return fitted?.(pages) ?? Number.POSITIVE_INFINITY;
}

function loadOf({ dirtyPages, changedBytes }: Cell): string {
  return `${dirtyPages} x ${changedBytes}`;
}
