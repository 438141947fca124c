/** The settings in effect, as values for programs: what --print-config writes for people. */
import { type CommandName, flagsOf } from './flags';
import { type Flags, placeOf } from './given';

export interface DescribedSetting {
  /** As text, in the form of the command line; a list for what may be repeated. Null: not set. */
  readonly value: string | readonly string[] | null;
  /** Where it stood: "--node", "ROMULUS_NODE", "/etc/romulus.yaml:3", or "default". */
  readonly from: string;
}

/**
 * Every setting of a command by its name. `derived` holds the defaults that are no words in the
 * table. Of secrets there are paths only.
 */
export function describeConfig(
  command: CommandName,
  flags: Flags,
  derived: Readonly<Record<string, string>>,
): Readonly<Record<string, DescribedSetting>> {
  const described: Record<string, DescribedSetting> = {};
  for (const flag of flagsOf(command)) {
    if (flag.commandLineOnly || flag.notInFile) continue;
    const { name } = flag;
    const items = flags.items(name);
    const last = items.at(-1);
    if (flag.repeats === true) {
      const [first] = items;
      const from = first === undefined ? 'default' : placeOf(first.from, name);
      described[name] = { value: items.map((item) => item.text), from };
    } else if (last !== undefined) {
      described[name] = { value: last.text, from: placeOf(last.from, name) };
    } else {
      const fallback = flag.value === undefined ? 'false' : (flag.fallback ?? derived[name]);
      described[name] = { value: fallback ?? null, from: 'default' };
    }
  }
  return described;
}
