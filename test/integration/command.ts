/** Runs ft-primary or ft-standby to its end: for everything that must be refused with clear words. */
import path from 'node:path';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';

export type CommandFlags = Readonly<Record<string, string | true | undefined>>;

export interface CommandOptions {
  readonly netns?: string | undefined;
  /** Words before the command, such as ['setpriv', '--reuid=65534', …]. */
  readonly wrap?: readonly string[];
  readonly timeoutMs?: number;
}

export interface CommandOutcome {
  readonly code: number | null;
  /** What it said to people. */
  readonly text: string;
  readonly stdoutLines: number;
}

/** The command line for exactly these flags; `undefined` leaves one out, `true` is a switch. */
export function commandLine(command: 'ft-primary' | 'ft-standby', flags: CommandFlags): string[] {
  const words = [process.execPath, path.join(projectRoot, `dist/src/cli/${command}.js`)];
  for (const [name, value] of Object.entries(flags)) {
    if (value === undefined) continue;
    words.push(`--${name}`);
    if (value !== true) words.push(value);
  }
  return words;
}

/** Starts the command and waits for its end; kills it and fails when it does not end. */
export async function runCommand(
  command: 'ft-primary' | 'ft-standby',
  flags: CommandFlags,
  options: CommandOptions = {},
): Promise<CommandOutcome> {
  return runWords([...(options.wrap ?? []), ...commandLine(command, flags)], options);
}

export async function runWords(
  words: readonly string[],
  options: CommandOptions = {},
): Promise<CommandOutcome> {
  const [first = '', ...rest] = words;
  const child = new WatchedProcess({
    name: 'command',
    command: first,
    args: rest,
    netns: options.netns,
  });
  try {
    const { code } = await child.waitExit(options.timeoutMs ?? 8000);
    return { code, text: child.stderrTail, stdoutLines: child.lines.length };
  } finally {
    await child.stop(0);
  }
}

/** What every refusal has in common: words for a person, no stack, nothing on stdout. */
export function expectRefusal(outcome: CommandOutcome, code: number, words: RegExp): void {
  expect(outcome.text).toMatch(words);
  expect(outcome.code).toBe(code);
  expect(outcome.text).not.toMatch(/^\s+at .*:\d+:\d+/m);
  expect(outcome.text).not.toMatch(/invariant|undefined|\[object/);
}
