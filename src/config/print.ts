/**
 * --print-config: what is in effect, as a file that could be given back with --config, each line
 * with the source of its value. Of secrets there are paths only, so nothing secret is printed.
 */
import { parse } from 'yaml';
import { type CommandName, type FlagSpec, flagsOf } from './flags';
import { type Flags, placeOf } from './given';

const COMMENT_COLUMN = 40;

/**
 * The YAML text. `derived` holds the defaults that are no words in the table, because they depend on
 * other settings or on the host.
 */
export function printConfig(
  command: CommandName,
  flags: Flags,
  derived: Readonly<Record<string, string>>,
): string {
  const lines = [`# What ${command} would run with; each value with where it comes from.`];
  const settings = flagsOf(command).filter((flag) => !flag.commandLineOnly && !flag.notInFile);
  for (const group of new Set(settings.map((flag) => flag.group))) {
    lines.push('', `# ${group}`);
    for (const flag of settings) {
      if (flag.group === group) lines.push(...linesOf(flag, flags, derived[flag.name]));
    }
  }
  return `${lines.join('\n')}\n`;
}

function linesOf(flag: FlagSpec, flags: Flags, derived: string | undefined): string[] {
  const { name } = flag;
  const items = flags.items(name);
  if (flag.repeats === true) {
    if (items.length === 0) return [withComment(`${name}: []`, 'default')];
    const rows = items.map(({ text, from }) => {
      return withComment(`  - ${scalar(flag, text)}`, placeOf(from, name));
    });
    return [`${name}:`, ...rows];
  }
  const item = items.at(-1);
  if (item !== undefined) {
    return [withComment(`${name}: ${scalar(flag, item.text)}`, placeOf(item.from, name))];
  }
  const fallback = flag.value === undefined ? 'false' : (flag.fallback ?? derived);
  if (fallback === undefined) return [withComment(`# ${name}:`, 'not set')];
  return [withComment(`${name}: ${scalar(flag, fallback)}`, 'default')];
}

function withComment(text: string, comment: string): string {
  return `${text.padEnd(COMMENT_COLUMN - 1)} # ${comment.replaceAll(/\s/g, ' ')}`;
}

/** As the file has it: bare where that reads back as the same value, else in quotes. */
function scalar(flag: FlagSpec, text: string): string {
  if (flag.value === undefined || flag.type.kind === 'integer') return text;
  if (flag.type.kind === 'size') return text;
  const plain = /^[A-Za-z0-9/][A-Za-z0-9./:_+=@%,-]*$/.test(text) && parse(text) === text;
  return plain ? text : JSON.stringify(text);
}
