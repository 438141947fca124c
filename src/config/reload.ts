/**
 * What a reload would change: the settings as they run, compared with what the sources say now.
 * Command line and environment of a process stay as they were, so only the file can differ.
 */
import { FLAGS, type FlagSpec } from './flags';
import type { Flags } from './given';

/** What came of a reload; each key of the configuration that is set or changed is in one list. */
export interface ReloadOutcome {
  /** Taken over by the running node; of a file's path: its contents were read again. */
  readonly applied: readonly string[];
  /** Changed, and in effect only after a restart. */
  readonly needsRestart: readonly string[];
  /** Set, and as it was. */
  readonly unchanged: readonly string[];
}

/** The settings whose value in `next` is another one than in `running`, in the table's order. */
export function changedSettings(running: Flags, next: Flags): readonly string[] {
  const changed = FLAGS.filter((flag) => whatCounts(running, flag) !== whatCounts(next, flag));
  return changed.map((flag) => flag.name);
}

/** Those that some source says something about, in the table's order. */
export function settingsGiven(flags: Flags): readonly string[] {
  const names = new Set(flags.names);
  return FLAGS.map((flag) => flag.name).filter((name) => names.has(name));
}

/** One text for all that counts of a setting. */
function whatCounts(flags: Flags, { name, value, repeats }: FlagSpec): string {
  if (value === undefined) return `${flags.has(name)}`;
  return repeats === true ? JSON.stringify(flags.all(name)) : JSON.stringify([flags.text(name)]);
}
