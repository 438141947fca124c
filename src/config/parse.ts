/**
 * From the words of a command line to flags and their values, by the table in flags.ts. Tokenising
 * is node:util's parseArgs; what is allowed is decided here, so that messages are precise.
 */
import { parseArgs } from 'node:util';
import { FtError } from '../common/errors';
import { type CommandName, type FlagSpec, flagsOf } from './flags';
import { Flags, type Item, type Layer } from './given';
import { nearest } from './spelling';
import { configError, masked } from './values';

export { Flags } from './given';

/** What the command line says. Throws FT_ERR_CONFIG. */
export function parseFlags(command: CommandName, words: readonly string[]): Layer {
  const { given, others } = readWords(command, specsOf(flagsOf(command)), words);
  if (others[0] !== undefined) throw strayWord(command, others[0]);
  return given;
}

export function specsOf(table: readonly FlagSpec[]): ReadonlyMap<string, FlagSpec> {
  return new Map(table.map((flag) => [flag.name, flag]));
}

/** Flags by a table of the program's own, and the words that are none. Throws FT_ERR_CONFIG. */
export function parseWords(
  program: string,
  table: readonly FlagSpec[],
  words: readonly string[],
): { readonly flags: Flags; readonly others: readonly string[] } {
  const specs = specsOf(table);
  const { given, others } = readWords(program, specs, words);
  return { flags: new Flags(given, specs), others };
}

function readWords(
  program: string,
  specs: ReadonlyMap<string, FlagSpec>,
  words: readonly string[],
): { readonly given: Layer; readonly others: readonly string[] } {
  const options = Object.fromEntries(
    [...specs.values()].map((flag) => [
      flag.name,
      { type: flag.value === undefined ? ('boolean' as const) : ('string' as const) },
    ]),
  );
  const { tokens } = parseArgs({
    args: [...words],
    options,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const given = new Map<string, readonly Item[]>();
  const others: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') others.push(token.value);
    if (token.kind !== 'option') continue;
    const spec = specs.get(token.name);
    if (spec === undefined) throw unknownFlag(program, token.rawName, specs);
    take(given, spec, token.value);
  }
  return { given, others };
}

function take(
  given: Map<string, readonly Item[]>,
  spec: FlagSpec,
  value: string | undefined,
): void {
  const before = given.get(spec.name);
  if (before !== undefined && spec.repeats !== true) {
    const message = `--${spec.name} is given twice; give it once.`;
    throw new FtError('FT_ERR_CONFIG', message, { flag: spec.name });
  }
  if (spec.value === undefined && !['true', 'false', undefined].includes(value)) {
    throw configError(spec.name, value ?? '', 'given without a value, or as =true or =false');
  }
  if (spec.value !== undefined && value === undefined) {
    const message = `--${spec.name} needs a value: --${spec.name} ${spec.value}.`;
    throw new FtError('FT_ERR_CONFIG', message, { flag: spec.name, allowed: spec.value });
  }
  given.set(spec.name, [...(before ?? []), { text: value ?? 'true', from: { kind: 'flag' } }]);
}

function strayWord(command: CommandName, given: string): FtError {
  const word = masked(given);
  const message = `${JSON.stringify(word)} is no flag; ${command} takes only flags (see --help).`;
  return new FtError('FT_ERR_CONFIG', message, { found: word });
}

function unknownFlag(program: string, raw: string, specs: ReadonlyMap<string, FlagSpec>): FtError {
  const near = nearest(raw.replace(/^-+/, ''), [...specs.keys()]);
  const hint = near === undefined ? 'see --help' : `did you mean --${near}?`;
  const message = `${program} has no flag ${raw}; ${hint}`;
  return new FtError('FT_ERR_CONFIG', message, { flag: raw });
}
