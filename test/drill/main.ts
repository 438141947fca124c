/**
 * `make drills RUNS=n SCENARIO=name`: n drills, spread evenly over the whole matrix or over the
 * scenarios named (separated by commas). Results go to build/drills.json after each scenario.
 *
 *   node dist/test/drill/main.js [--runs N] [--scenario NAME[,NAME…]] [--seed N]
 *     [--suspect-after-ms N] [--list]
 *
 * Exit code 1 when anything was lost, repeated or contradicted, two sides were active, or a drill
 * did not come to its end.
 */
import { existsSync } from 'node:fs';
import { parseArgs } from 'node:util';
import {
  Matrix,
  type MatrixOptions,
  matrixDefaults,
  type Run,
  type ScenarioResult,
} from '../../src/drill/matrix';
import { reportOf, reportText } from '../../src/drill/report/drill-report';
import { figure, writeReport } from '../../src/drill/report/report';
import type { Scenario } from '../../src/drill/scenarios/scenario';
import { scenarios } from '../../src/drill/scenarios/scenarios';

interface Wanted {
  readonly runs: number;
  readonly seed: number;
  readonly suspectAfterMs: number;
  readonly chosen: readonly Scenario[];
}

function readArguments(words: readonly string[]): Wanted | undefined {
  const { values } = parseArgs({
    args: [...words],
    options: {
      runs: { type: 'string', default: `${scenarios.length}` },
      scenario: { type: 'string', default: '' },
      seed: { type: 'string', default: `${Date.now() % 1e9}` },
      'suspect-after-ms': { type: 'string', default: `${matrixDefaults.suspectAfterMs}` },
      list: { type: 'boolean', default: false },
    },
  });
  if (values.list || values.scenario === '?') {
    for (const { name, what } of scenarios) process.stdout.write(`${name.padEnd(26)} ${what}\n`);
    return undefined;
  }
  const names = values.scenario.split(',').filter((name) => name !== '');
  const chosen = names.length === 0 ? scenarios : names.map(scenarioOf);
  const suspectAfterMs = Number(values['suspect-after-ms']);
  return { runs: Number(values.runs), seed: Number(values.seed), suspectAfterMs, chosen };
}

function scenarioOf(name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name === name);
  if (found !== undefined) return found;
  const known = scenarios.map((scenario) => scenario.name).join(', ');
  throw new Error(`There is no scenario ${name}. There are: ${known}.`);
}

function tell(run: Run, of: number): void {
  const took = (what: string, ms: number | undefined): string =>
    ms === undefined ? '' : `, ${what} after ${figure(ms, 1)} ms`;
  const first = run.failure?.split('\n')[0];
  const how =
    first === undefined
      ? `${took('runs', run.promotedMs)}${took('answers', run.failoverMs)}` +
        `${run.guestLost ? ', guest lost with both hosts' : ''}` +
        `, protected again in ${figure(run.reprotectedMs)} ms`
      : `, FAILED: ${first}`;
  process.stdout.write(`${run.scenario} ${run.n + 1} of ${of}${how}\n`);
}

async function main(): Promise<void> {
  const wanted = readArguments(process.argv.slice(2));
  if (wanted === undefined) return;
  if (!existsSync('/dev/kvm'))
    throw new Error('There is no /dev/kvm here, and drills need guests.');
  const { chosen, runs } = wanted;
  const results: ScenarioResult[] = [];
  let of = 0;
  const options: MatrixOptions = {
    ...matrixDefaults,
    seed: wanted.seed,
    suspectAfterMs: wanted.suspectAfterMs,
    onRun: (run) => tell(run, of),
  };
  const matrix = await Matrix.make(options);
  try {
    for (const [n, scenario] of chosen.entries()) {
      of = Math.floor(((n + 1) * runs) / chosen.length) - Math.floor((n * runs) / chosen.length);
      if (of === 0) continue;
      results.push(await matrix.run(scenario, of));
      writeReport('drills.json', reportOf(options, results));
    }
  } finally {
    await matrix.close();
  }
  const report = reportOf(options, results);
  process.stdout.write(`\n${reportText(report)}\nwritten to build/drills.json\n`);
  const wrong = report.violations + report.dualActive + report.failures;
  if (wrong > 0) process.exitCode = 1;
}

main().catch((thrown: unknown) => {
  process.stderr.write(`drills: ${thrown instanceof Error ? thrown.stack : String(thrown)}\n`);
  process.exitCode = 70;
});
