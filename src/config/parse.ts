/**
 * From the words of a command line to flags and their values, by the table in flags.ts. Tokenising
 * is node:util's parseArgs; what is allowed is decided here, so that messages are precise.
 */
import { parseArgs } from 'node:util';
import { assert } from '../common/assert';
import { FtError } from '../common/errors';
import type { ValueFlag } from './flag-spec';
import { type CommandName, type FlagSpec, flagsOf } from './flags';
import { configError, parseChoice, parseInteger, parseSize } from './values';

/** The flags given and the defaults of the others. */
export class Flags {
  constructor(
    private readonly given: ReadonlyMap<string, readonly string[]>,
    private readonly specs: ReadonlyMap<string, FlagSpec>,
  ) {}

  /** True when the flag stood on the command line. */
  has(name: string): boolean {
    return this.given.has(name);
  }

  /** The value given, or the default, or undefined. */
  text(name: string): string | undefined {
    return this.given.get(name)?.at(-1) ?? this.specs.get(name)?.fallback;
  }

  /** As `text`; a flag without a value and without a default is an error that says why. */
  needed(name: string, why: string): string {
    const value = this.text(name);
    if (value !== undefined) return value;
    const spec = this.specs.get(name);
    const message = `--${name} ${spec?.value ?? ''} is missing; ${why}.`;
    throw new FtError('FT_ERR_CONFIG', message, { flag: name });
  }

  /** A whole number, within the limits of the table. The flag has a value or a default. */
  integer(name: string): number {
    const { type } = this.valueFlag(name);
    assert(type.kind === 'integer', 'the table says that it is a number');
    return parseInteger(name, this.needed(name, 'it has no default'), type.min, type.max);
  }

  /** Bytes, within the limits of the table. The flag has a value or a default. */
  size(name: string): number {
    const { type } = this.valueFlag(name);
    assert(type.kind === 'size', 'the table says that it is a size');
    const text = this.needed(name, 'it has no default');
    return parseSize(name, text, type.min, type.max, type.multipleOf);
  }

  /** One of the words that the table allows: `choices` is the same list. */
  choice<T extends string>(name: string, choices: readonly T[]): T {
    return parseChoice(name, this.needed(name, 'it has no default'), choices);
  }

  private valueFlag(name: string): ValueFlag {
    const spec = this.specs.get(name);
    assert(spec?.value !== undefined, 'the table has the flag, with a value');
    return spec;
  }

  all(name: string): readonly string[] {
    return this.given.get(name) ?? [];
  }
}

/** Throws FT_ERR_CONFIG. */
export function parseFlags(command: CommandName, words: readonly string[]): Flags {
  const { flags, others } = parseWords(command, flagsOf(command), words);
  if (others[0] !== undefined) throw strayWord(command, others[0]);
  return flags;
}

/** Flags by a table of the program's own, and the words that are none. Throws FT_ERR_CONFIG. */
export function parseWords(
  program: string,
  table: readonly FlagSpec[],
  words: readonly string[],
): { readonly flags: Flags; readonly others: readonly string[] } {
  const specs = new Map(table.map((flag) => [flag.name, flag]));
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
  const given = new Map<string, string[]>();
  const others: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') others.push(token.value);
    if (token.kind !== 'option') continue;
    const spec = specs.get(token.name);
    if (spec === undefined) throw unknownFlag(program, token.rawName, specs);
    take(given, spec, token.value);
  }
  return { flags: new Flags(given, specs), others };
}

function take(given: Map<string, string[]>, spec: FlagSpec, value: string | undefined): void {
  const before = given.get(spec.name);
  if (before !== undefined && spec.repeats !== true) {
    const message = `--${spec.name} is given twice; give it once.`;
    throw new FtError('FT_ERR_CONFIG', message, { flag: spec.name });
  }
  if (spec.value === undefined && value !== undefined) {
    throw configError(spec.name, value, 'given without a value');
  }
  if (spec.value !== undefined && value === undefined) {
    const message = `--${spec.name} needs a value: --${spec.name} ${spec.value}.`;
    throw new FtError('FT_ERR_CONFIG', message, { flag: spec.name, allowed: spec.value });
  }
  given.set(spec.name, [...(before ?? []), value ?? '']);
}

function strayWord(command: CommandName, word: string): FtError {
  const message = `${JSON.stringify(word)} is no flag; ${command} takes only flags (see --help).`;
  return new FtError('FT_ERR_CONFIG', message, { found: word });
}

function unknownFlag(program: string, raw: string, specs: ReadonlyMap<string, FlagSpec>): FtError {
  const name = raw.replace(/^-+/, '');
  const near = [...specs.keys()].find((known) => editDistance(known, name) <= 2);
  const hint = near === undefined ? 'see --help' : `did you mean --${near}?`;
  const message = `${program} has no flag ${raw}; ${hint}`;
  return new FtError('FT_ERR_CONFIG', message, { flag: raw });
}

/** Levenshtein's distance; the words are short. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
