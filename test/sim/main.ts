/**
 * The simulator's command, behind `make sim`:
 *
 *   node dist/test/sim/main.js --seeds 2000 [--first 1]   runs that many schedules on all cores
 *   node dist/test/sim/main.js --seed 17                  replays one: its history, and if it fails,
 *                                                         the smallest plan that still does
 *   … --seconds-max 180                                   a schedule that takes longer never ends
 *   … --mutation NAME                                     with a planted bug; NAME "all": each of them,
 *                                                         until the simulator has found it
 *
 * Results go to build/sim.json, or to --out FILE. The exit code is 1 where there are violations, or
 * where a planted bug was not found.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type MutationName, mutationNames, mutations } from './mutations';
import { drawPlan, tellStep } from './plan';
import { catchAll, type RunMany, runMany, type Totals } from './runner';
import { runPlan } from './schedule';
import { shrink } from './shrink';

/** A planted bug must be found within so many schedules. */
export const MUTATION_SCHEDULES_MAX = 10_000;
const FAILURES_KEPT = 100;
const FAILURES_TOLD = 10;
const PROGRESS_MS = 10_000;

const print = (text: string): void => void process.stdout.write(`${text}\n`);

function write(file: string, results: object): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(results, undefined, 2)}\n`);
}

function report(totals: Totals, seconds: number, first: number): object {
  const { schedules, failures, chaos } = totals;
  return {
    schedules,
    violations: failures.length,
    firstSeed: first,
    seconds: Math.round(seconds * 10) / 10,
    schedulesPerSecond: Math.round((schedules / seconds) * 10) / 10,
    failures: failures.slice(0, FAILURES_KEPT),
    chaos,
  };
}

async function many(what: RunMany, out: string): Promise<boolean> {
  const { first, count } = what;
  const startMs = performance.now();
  let toldMs = startMs;
  let told = 0;
  const totals = await runMany({
    ...what,
    onProgress: (sofar) => {
      // At once: a long run need not come to its end before somebody looks into them.
      for (; told < Math.min(sofar.failures.length, FAILURES_TOLD); told += 1) {
        const failure = sofar.failures[told];
        print(`seed ${failure?.seed}: ${failure?.violations.join('; ')}`);
      }
      if (performance.now() - toldMs < PROGRESS_MS) return;
      toldMs = performance.now();
      print(`${sofar.schedules} of ${count} schedules, ${sofar.failures.length} with violations`);
    },
  });
  const seconds = (performance.now() - startMs) / 1000;
  write(out, report(totals, seconds, first));
  const rate = (totals.schedules / seconds).toFixed(1);
  print(
    `${totals.schedules} schedules, ${totals.failures.length} with violations, ${rate} a second`,
  );
  if (totals.failures.length > 0) print('make sim SEED=… replays one and makes it smaller');
  return totals.failures.length === 0;
}

async function replay(seed: number, mutation: MutationName | undefined): Promise<boolean> {
  const options = mutation === undefined ? {} : { mutate: mutations[mutation].plant };
  const plan = drawPlan(seed);
  const outcome = await runPlan(plan, { ...options, tellAll: true });
  print(`seed ${seed}: ${JSON.stringify(plan.settings)}`);
  print(outcome.story.join('\n'));
  if (outcome.violations.length === 0) {
    print('no violation');
    return true;
  }
  print(`violations: ${outcome.violations.join('; ')}\n`);
  const least = await shrink(plan, async (candidate) => {
    return (await runPlan(candidate, options)).violations.length > 0;
  });
  const again = await runPlan(least, { ...options, tellAll: true });
  print(`the smallest plan that fails, ${least.steps.length} of ${plan.steps.length} steps:`);
  print(least.steps.map((step, index) => `  ${index + 1}. ${tellStep(step)}`).join('\n'));
  print(`its history:\n${again.story.join('\n')}`);
  print(`violations: ${again.violations.join('; ')}`);
  return false;
}

/** How many schedules it takes to find each planted bug. */
async function plantAll(names: readonly MutationName[], out: string): Promise<boolean> {
  const found: object[] = [];
  let all = true;
  for (const name of names) {
    const totals = await runMany({
      first: 1,
      count: MUTATION_SCHEDULES_MAX,
      mutation: name,
      stopAtFirst: true,
    });
    const failure = totals.failures[0];
    all &&= failure !== undefined;
    const { what } = mutations[name];
    const foundAfter = failure?.seed;
    found.push({ name, what, foundAfter, violation: failure?.violations[0] });
    print(`${name}: ${foundAfter ?? 'not found'}: ${failure?.violations[0] ?? ''}`);
  }
  write(out, { mutations: found });
  return all;
}

function mutationNamed(name: string | undefined): MutationName | undefined {
  const found = mutationNames.find((one) => one === name);
  if (name !== undefined && found === undefined) {
    throw new Error(`There is no planted bug "${name}"; there are: ${mutationNames.join(', ')}`);
  }
  return found;
}

async function main(): Promise<void> {
  catchAll();
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '2000' },
      first: { type: 'string', default: '1' },
      seed: { type: 'string' },
      mutation: { type: 'string' },
      out: { type: 'string' },
      'seconds-max': { type: 'string' },
      'stall-at': { type: 'string' },
    },
  });
  const { seed, mutation, out } = values;
  const all = mutation === 'all';
  const planted = all ? undefined : mutationNamed(mutation);
  let good: boolean;
  if (seed !== undefined) good = await replay(Number(seed), planted);
  else if (all || planted !== undefined) {
    const names = planted === undefined ? mutationNames : [planted];
    good = await plantAll(names, out ?? 'build/sim-mutations.json');
  } else {
    const [secondsMax, stallAt] = [values['seconds-max'], values['stall-at']];
    const what = {
      first: Number(values.first),
      count: Number(values.seeds),
      ...(secondsMax === undefined ? {} : { secondsMax: Number(secondsMax) }),
      ...(stallAt === undefined ? {} : { stallAt: Number(stallAt) }),
    };
    good = await many(what, out ?? 'build/sim.json');
  }
  process.exitCode = good ? 0 : 1;
}

if (require.main === module) {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 2;
  });
}
