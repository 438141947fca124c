/**
 * One lever alone: two trees, or one tree with two sets of flags, measured in turns on the same
 * load, so that what else the host does falls on both.
 *
 *   node dist/bench/compare.js [--other /path/of/another/built/tree] [--flags="…"]
 *                              [--other-flags="…"] [--kind ours] [--pages 64] [--changed 8]
 *                              [--interval-us 400] [--seconds 4] [--turns 5]
 *
 * A and B are this tree and the other one. An other tree from before this file gets dist/bench,
 * dist/src/drill and dist/src/common/quantile.js of this tree copied over its own. Prints medians and
 * the ratio B / A of each figure, as the median over the turns, with the least and the greatest of
 * them: where these are far apart, the median says little.
 */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { figure, table } from '../src/drill/report/report';
import { kvmMissing, measure, type Run, type RunOptions } from './measure';
import { median } from './rows';

const TURN_TIMEOUT_MS = 180_000;
const INCR_PER_SECOND = 200;
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

/** What is shown of a run, with the digits that mean something. */
const SHOWN: readonly (readonly [string, number, (run: Run) => number])[] = [
  ['committed epochs/s', 0, (run) => run.committedEpochsPerSecond],
  ['pages an epoch', 1, (run) => run.dirtyPagesPerEpoch],
  ['progress of the guest /s', 0, (run) => run.progressPerSecond],
  ['pause us p50', 1, (run) => run.pauseUsP50],
  ['pause us p99', 1, (run) => run.pauseUsP99],
  ['guest gap us p50', 1, (run) => run.gapUsP50],
  ['guest gap us p99', 1, (run) => run.gapUsP99],
  ['guest gap us max', 0, (run) => run.gapUsMax],
  ['cut to ack us p50', 1, (run) => run.ackUsP50],
  ['cut to ack us p99', 1, (run) => run.ackUsP99],
  ['incr us p50', 0, (run) => run.latencyUsP50],
  ['incr us p99', 0, (run) => run.latencyUsP99],
  ['wire bytes / dirty bytes', 4, (run) => run.wireBytesPerDirtyByte],
  ['event loop us max', 0, (run) => run.eventLoopUsMax],
  ['violations', 0, (run) => run.violations + run.auditMismatches],
];

interface Side {
  readonly root: string;
  readonly options: RunOptions;
}

/** The lines of the table: medians of both, and the median of the ratios of each turn. */
export function compareRuns(a: readonly Run[], b: readonly Run[]): string[][] {
  const shown = SHOWN.map(([name, digits, of]) => ({ name, digits, of }));
  const stages = (a[0]?.stages ?? []).map(({ stage }) => ({
    name: `stage ${stage} us p50`,
    digits: 1,
    of: (run: Run) => run.stages.find((one) => one.stage === stage)?.usP50 ?? 0,
  }));
  return [...shown, ...stages].map(({ name, digits, of }) => {
    const ratios = a.flatMap((one, turn) => {
      const other = b[turn];
      return other === undefined || of(one) === 0 ? [] : [of(other) / of(one)];
    });
    const middle = (runs: readonly Run[]): string => figure(median(runs.map(of)), digits);
    const ends = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => figure(ratio, 2));
    const ratio = ratios.length === 0 ? '-' : `${figure(median(ratios), 3)} (${ends.join('-')})`;
    return [name, middle(a), middle(b), ratio];
  });
}

/** A run by a process of the side's own tree. */
function runOf({ root, options }: Side): Run {
  const program = path.join(root, 'dist', 'bench', 'compare.js');
  const out = execFileSync(process.execPath, [program, '--once', JSON.stringify(options)], {
    cwd: root,
    encoding: 'utf8',
    timeout: TURN_TIMEOUT_MS,
    maxBuffer: OUTPUT_BYTES_MAX,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(out) as Run;
}

function compare(): void {
  const { values } = parseArgs({
    options: {
      other: { type: 'string' },
      flags: { type: 'string', default: '' },
      'other-flags': { type: 'string' },
      kind: { type: 'string', default: 'ours' },
      pages: { type: 'string', default: '64' },
      changed: { type: 'string', default: '8' },
      'interval-us': { type: 'string', default: '400' },
      seconds: { type: 'string', default: '4' },
      turns: { type: 'string', default: '5' },
    },
  });
  const here = path.join(__dirname, '..', '..');
  const words = (text: string): string[] => text.split(' ').filter((word) => word !== '');
  const options = (flags: string): RunOptions => ({
    machine: 'kvm',
    kind: values.kind === 'floor' ? 'floor' : values.kind === 'bare' ? 'bare' : 'ours',
    dirtyPages: Number(values.pages),
    changedBytes: Number(values.changed),
    seconds: Number(values.seconds),
    incrPerSecond: INCR_PER_SECOND,
    intervalUs: Number(values['interval-us']),
    flags: words(flags),
  });
  const a: Side = { root: here, options: options(values.flags) };
  const b: Side = {
    root: path.resolve(values.other ?? here),
    options: options(values['other-flags'] ?? values.flags),
  };
  const runs: { a: Run[]; b: Run[] } = { a: [], b: [] };
  for (let turn = 0; turn < Number(values.turns); turn++) {
    runs.a.push(runOf(a));
    runs.b.push(runOf(b));
  }
  const told = ({ root, options: of }: Side): string => [root, ...of.flags].join(' ');
  process.stdout.write(
    `A: ${told(a)}\nB: ${told(b)}\n${JSON.stringify(a.options)}, ${values.turns} turns\n\n` +
      `${table(['median', 'A', 'B', 'B / A (least-most)'], compareRuns(runs.a, runs.b))}\n`,
  );
}

async function main(): Promise<void> {
  const missing = kvmMissing();
  if (missing !== undefined) throw new Error(missing);
  if (process.argv[2] !== '--once') {
    compare();
    return;
  }
  const run = await measure(JSON.parse(process.argv[3] ?? '{}') as RunOptions);
  process.stdout.write(JSON.stringify(run));
}

if (require.main === module) {
  main().then(
    () => process.exit(0),
    (thrown: unknown) => {
      process.stderr.write(`${thrown instanceof Error ? thrown.message : String(thrown)}\n`);
      process.exit(1);
    },
  );
}
