/**
 * Every fuzz target for a short while: five seconds each, or FT_FUZZ_SECONDS. The inputs found on
 * the way are kept under build/fuzz/corpus, so each run goes on where the last one ended. A find is
 * written to build/fuzz/finds, and its name is in the failure.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { make, root, tail } from './sanitized';

const secondsEach = Number(process.env['FT_FUZZ_SECONDS'] ?? '5');
const haveClang = spawnSync('clang++', ['--version']).status === 0;
const targets = readdirSync(path.join(root, 'native', 'fuzz'))
  .filter((file) => file.endsWith('_fuzz.cc'))
  .map((file) => file.slice(0, -'.cc'.length))
  .sort();

describe(haveClang ? 'fuzz' : 'fuzz (skipped: needs clang++, apt-get install clang)', () => {
  const declare = haveClang ? test : test.skip;

  declare('FT_FUZZ_SECONDS is a number of seconds', () => {
    expect(Number.isInteger(secondsEach) && secondsEach > 0).toBe(true);
    expect(targets.length).toBeGreaterThan(0);
  });
  declare(
    'the targets build',
    () => {
      const built = make('native/fuzz', 'build');
      if (!built.ok) throw new Error(tail(built.output));
    },
    1_800_000,
  );
  for (const target of targets) {
    declare(
      `${target} finds nothing`,
      () => {
        const run = make('native/fuzz', `run-${target}`, `SECONDS_EACH=${secondsEach}`);
        if (!run.ok) throw new Error(tail(run.output));
        const units = /stat::number_of_executed_units:\s*(\d+)/.exec(run.output)?.[1];
        expect(Number(units)).toBeGreaterThan(100);
      },
      (secondsEach + 300) * 1000,
    );
  }
});
