/**
 * Runs the native test binaries from Jest: builds one variant with make, asks the binary for its
 * test cases and makes each of them a Jest test of its own, in a process of its own, so that a
 * sanitizer's report ends one test and not all that follow.
 *
 *   make asan ──▶ build/native-asan/native_tests --list-test-cases ──▶ test per name
 *
 * Jest wants to know its tests before the first one runs, so building and listing happen while the
 * file is collected, synchronously.
 */
import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { haveKvm } from '../support/kvm';

export const root = path.join(__dirname, '..', '..');

/** What a program said and how it ended. `output` is stdout and stderr, stdout first. */
export interface Outcome {
  readonly ok: boolean;
  readonly stdout: string;
  readonly output: string;
}

/** Environment of every sanitized program: stop at the first report, with a stack, within bounds. */
const sanitizerEnv = {
  ...process.env,
  ASAN_OPTIONS: 'hard_rss_limit_mb=4096',
  UBSAN_OPTIONS: 'print_stacktrace=1',
  TSAN_OPTIONS: 'halt_on_error=1 second_deadlock_stack=1',
};

/** Runs a program to its end (or `timeoutMs`) from the project's root. Never throws. */
export function runProgram(command: string, args: readonly string[], timeoutMs: number): Outcome {
  const run = spawnSync(command, args, {
    cwd: root,
    env: sanitizerEnv,
    encoding: 'utf8',
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    maxBuffer: 64 << 20,
  });
  const stdout = run.stdout ?? '';
  let output = stdout + (run.stderr ?? '');
  if (run.error !== undefined) output += `\n${command}: ${run.error.message}`;
  else if (run.signal !== null) output += `\n${command}: ended by ${run.signal}`;
  return { ok: run.status === 0, stdout, output };
}

/** The end of a long output, where compilers and sanitizers say what matters. */
export function tail(text: string, charsMax = 12_000): string {
  return text.length <= charsMax ? text : `…${text.slice(-charsMax)}`;
}

/**
 * Some kernels randomise addresses over more bits than a sanitizer's shadow memory allows for.
 * Where a process may switch that off for itself, the sanitized programs run without it.
 */
const canSwitchOffAslr = spawnSync('setarch', ['-R', 'true']).status === 0;

/** Runs a sanitized program; see `runProgram`. */
export function runSanitized(binary: string, args: readonly string[], timeoutMs: number): Outcome {
  return canSwitchOffAslr
    ? runProgram('setarch', ['-R', binary, ...args], timeoutMs)
    : runProgram(binary, args, timeoutMs);
}

/** `make -C folder target…` on all cores, behind whoever else has something to do. */
export function make(folder: string, ...targets: readonly string[]): Outcome {
  const jobs = ['-j', String(availableParallelism())];
  return runProgram(
    'nice',
    ['make', '--no-print-directory', ...jobs, '-C', folder, ...targets],
    1_800_000,
  );
}

/**
 * The names that `--list-test-cases` prints between two rules, followed by their number. Throws
 * when the two disagree: a test must not be lost to a misread line.
 */
export function parseTestCases(listing: string): string[] {
  const names = listing
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('[doctest]') && !/^={20,}$/.test(line));
  const announced = /unskipped test cases passing the current filters: (\d+)/.exec(listing)?.[1];
  if (announced !== String(names.length)) {
    throw new Error(`${announced} test cases announced, ${names.length} read:\n${listing}`);
  }
  return names;
}

/** A doctest filter that matches `name`: commas separate filters, so they become wildcards. */
export function filterFor(name: string): string {
  return name.replace(/[,"\\[\]]/g, '?');
}

function runTestCase(binary: string, name: string, timeoutMs: number): void {
  const args = ['--no-colors', '--case-sensitive=true', `--test-case=${filterFor(name)}`];
  const run = runSanitized(binary, args, timeoutMs);
  const ran = Number(/test cases:\s*(\d+) \|/.exec(run.stdout)?.[1] ?? '0');
  if (!run.ok || ran === 0) {
    throw new Error(run.ok ? `no test case ran:\n${run.output}` : tail(run.output));
  }
}

/**
 * Declares the tests of one variant: that it builds, and each of its test cases. Test cases whose
 * names begin with "kvm: " are skipped where there is no /dev/kvm. `select` narrows the listing
 * (doctest flags). Call it at the top level of a test file.
 */
export function declareNativeTests(variant: 'asan' | 'tsan', select: readonly string[]): void {
  const timeoutMs = 240_000;
  const binary = path.join(root, 'build', `native-${variant}`, 'native_tests');
  const built = make('native/tests', variant);
  const listed = built.ok
    ? runSanitized(binary, ['--no-colors', '--list-test-cases', ...select], 60_000)
    : built;
  const names = listed.ok ? [...new Set(parseTestCases(listed.stdout))] : [];

  test('builds and lists its test cases', () => {
    if (!built.ok || !listed.ok) throw new Error(tail(listed.output));
    expect(names.length).toBeGreaterThan(0);
  });
  for (const name of names) {
    const declare = name.startsWith('kvm: ') && !haveKvm ? test.skip : test;
    declare(name, () => runTestCase(binary, name, timeoutMs));
  }
}
