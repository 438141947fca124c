/**
 * What was given for each setting, and where it stood: the command line, the environment, the file,
 * or nowhere, so that the default counts.
 *
 *   flag ─▶ environment ─▶ file ─▶ default        the first that says anything about a key is taken
 *
 * A list is taken whole from one source, never put together from several.
 */
import { assert } from '../common/assert';
import { FtError } from '../common/errors';
import type { FlagSpec, ValueFlag } from './flag-spec';
import { masked, parseChoice, parseInteger, parseSize } from './values';

/** Where a value stood. */
export type Origin =
  | { readonly kind: 'flag' }
  | { readonly kind: 'environment'; readonly variable: string }
  | { readonly kind: 'file'; readonly path: string; readonly line: number };

/** One value as text, in the form in which the command line has it; "true" or "false" for a switch. */
export interface Item {
  readonly text: string;
  readonly from: Origin;
}

/** What one source says: by the flag's name; no items for a list that was given as an empty one. */
export type Layer = ReadonlyMap<string, readonly Item[]>;

/** The first layer that says anything about a flag is the one that counts. */
export function mergeLayers(...layers: readonly Layer[]): Layer {
  const merged = new Map<string, readonly Item[]>();
  for (const layer of layers) {
    for (const [name, items] of layer) if (!merged.has(name)) merged.set(name, items);
  }
  return merged;
}

/** The settings given and the defaults of the others. */
export class Flags {
  constructor(
    private readonly given: Layer,
    private readonly specs: ReadonlyMap<string, FlagSpec>,
  ) {}

  /** True when the flag was given, on the command line or elsewhere; of a switch: that it is on. */
  has(name: string): boolean {
    const items = this.items(name);
    if (this.specs.get(name)?.value === undefined) return items.at(-1)?.text === 'true';
    return items.length > 0;
  }

  /** The value given, or the default, or undefined. */
  text(name: string): string | undefined {
    return this.items(name).at(-1)?.text ?? this.specs.get(name)?.fallback;
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

  all(name: string): readonly string[] {
    return this.items(name).map((item) => item.text);
  }

  /** What was given, with its origin; empty where the default counts, or an empty list was given. */
  items(name: string): readonly Item[] {
    return this.given.get(name) ?? [];
  }

  /** The names of the flags that some source says something about. */
  get names(): readonly string[] {
    return [...this.given.keys()];
  }

  /** These settings, but for those called `names`, which are as `other` has them. */
  withSome(names: ReadonlySet<string>, other: Flags): Flags {
    const ours = [...this.given].filter(([name]) => !names.has(name));
    const theirs = [...other.given].filter(([name]) => names.has(name));
    return new Flags(new Map([...ours, ...theirs]), this.specs);
  }

  private valueFlag(name: string): ValueFlag {
    const spec = this.specs.get(name);
    assert(spec?.value !== undefined, 'the table has the flag, with a value');
    return spec;
  }
}

/** How the environment calls a flag: "interval-us" is ROMULUS_INTERVAL_US. */
export function variableOf(name: string): string {
  return `ROMULUS_${name.toUpperCase().replaceAll('-', '_')}`;
}

/** Where it stood, for people. */
export function placeOf(from: Origin, name: string): string {
  if (from.kind === 'flag') return `--${name}`;
  return from.kind === 'environment' ? from.variable : `${from.path}:${from.line}`;
}

/**
 * The same error in the words of the source that it speaks of: "--memory is …" becomes
 * "ROMULUS_MEMORY is …", or "/etc/romulus.yaml:3: memory is …".
 */
export function locate(error: FtError, name: string, from: Origin): FtError {
  if (from.kind === 'flag') return error;
  const flag = `--${name}`;
  const label = from.kind === 'environment' ? from.variable : name;
  const named = error.message.startsWith(flag)
    ? label + error.message.slice(flag.length)
    : undefined;
  const place = placeOf(from, name);
  const text = named ?? error.message;
  const message = from.kind === 'file' || named === undefined ? `${place}: ${text}` : text;
  return new FtError(error.code, message, { ...error.facts, place }, error);
}

/** Calls `read`; what it throws about a flag is told in the words of the source of that flag. */
export function located<T>(flags: Flags, read: () => T): T {
  try {
    return read();
  } catch (thrown) {
    if (!(thrown instanceof FtError)) throw thrown;
    const { flag, found } = thrown.facts;
    if (typeof flag !== 'string' || thrown.facts['place'] !== undefined) throw thrown;
    const items = flags.items(flag);
    const item = items.find((one) => masked(one.text) === found) ?? items.at(-1);
    throw item === undefined ? thrown : locate(thrown, flag, item.from);
  }
}
