/**
 * Settings from a file: one YAML map, whose keys are the flags' names. Numbers and switches are
 * YAML's numbers and booleans, a flag that repeats is a list, everything else is text. What YAML can
 * do beyond that (aliases, tags, several documents) is refused, with the line that it stands in.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Pair,
  parseDocument,
  type YAMLMap,
} from 'yaml';
import { FtError, toFtError } from '../common/errors';
import { type CommandName, FLAGS, type FlagSpec } from './flags';
import type { Item, Layer } from './given';
import { nearest } from './spelling';
import type { ValueType } from './value-types';
import { formatSize, masked } from './values';

/** A configuration has a few kilobytes; whatever is larger is another file. */
const FILE_BYTES_MAX = 64 * 1024;

/** What the file says. Throws FT_ERR_CONFIG, naming file and line. */
export function readConfigFile(command: CommandName, path: string): Layer {
  return parseConfigText(command, path, readText(path));
}

/** The same, of a text that stands in `path`. */
export function parseConfigText(command: CommandName, path: string, text: string): Layer {
  return new FileReader(command, path).read(text);
}

function readText(path: string): string {
  let fd: number | undefined;
  try {
    // Without waiting for a writer, should it be a pipe.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!fstatSync(fd).isFile()) throw new Error('it is no regular file');
    const bytes = Buffer.alloc(FILE_BYTES_MAX + 1);
    const length = readAll(fd, bytes);
    if (length > FILE_BYTES_MAX) throw new Error(`it is larger than ${formatSize(FILE_BYTES_MAX)}`);
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length));
  } catch (thrown) {
    const why = toFtError(thrown).message;
    const message = `The configuration file ${path} cannot be read (${why}); check --config.`;
    throw new FtError('FT_ERR_CONFIG', message, { path }, thrown);
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Fills `into` as far as the file goes; returns how far. */
function readAll(fd: number, into: Buffer): number {
  let length = 0;
  while (length < into.length) {
    const got = readSync(fd, into, length, into.length - length, null);
    if (got === 0) break;
    length += got;
  }
  return length;
}

/** The offset where a part of the document begins. */
function startOf(node: unknown): number {
  const { range } = node as { range?: readonly number[] | null };
  return range?.[0] ?? 0;
}

class FileReader {
  private readonly lines = new LineCounter();

  constructor(
    private readonly command: CommandName,
    private readonly path: string,
  ) {}

  read(text: string): Layer {
    const { lines: lineCounter } = this;
    const document = this.parse(text, lineCounter);
    const [trouble] = [...document.errors, ...document.warnings];
    if (trouble !== undefined) {
      const again = trouble.code === 'DUPLICATE_KEY';
      const why = again ? 'a key stands here a second time; give it once.' : `${trouble.message}.`;
      throw this.refuse(trouble.pos[0], again ? why : `this is no YAML: ${why}`);
    }
    const { contents } = document;
    const given = new Map<string, readonly Item[]>();
    if (contents === null || (isScalar(contents) && contents.value === null)) return given;
    if (!isMap(contents)) {
      throw this.refuse(startOf(contents), 'a configuration is made of lines "key: value".');
    }
    for (const pair of (contents as YAMLMap<unknown, unknown>).items) this.take(given, pair);
    return given;
  }

  private parse(text: string, lineCounter: LineCounter): ReturnType<typeof parseDocument> {
    try {
      return parseDocument(text, { lineCounter, prettyErrors: false, schema: 'core' });
    } catch (thrown) {
      // Nested so deep that the parser gave up.
      throw this.refuse(0, `this is no configuration: ${toFtError(thrown).message}.`);
    }
  }

  private take(given: Map<string, readonly Item[]>, pair: Pair<unknown, unknown>): void {
    const { key, value } = pair;
    if (!isScalar(key) || typeof key.value !== 'string') {
      throw this.refuse(startOf(key), 'a key is a name, such as "interval-us".');
    }
    const spec = this.specOf(key.value, startOf(key));
    const nodes: readonly unknown[] = this.nodesOf(spec, value, startOf(key));
    given.set(
      spec.name,
      nodes.map((node) => ({
        text: this.textOf(spec, node, startOf(key)),
        from: { kind: 'file', path: this.path, line: this.lineOf(startOf(node ?? key)) },
      })),
    );
  }

  private specOf(name: string, at: number): FlagSpec {
    const spec = FLAGS.find((flag) => flag.name === name);
    if (spec === undefined) {
      const names = FLAGS.filter((flag) => !isForeign(flag, this.command)).map(({ name: n }) => n);
      const near = nearest(name, names);
      const hint =
        near === undefined ? 'docs/configuration.md lists them' : `did you mean ${near}?`;
      throw this.refuse(at, `${JSON.stringify(name)} is no setting; ${hint}`, name);
    }
    if (spec.commandLineOnly === true) {
      const why = 'is an order for one start and is given on the command line alone.';
      throw this.refuse(at, `${name} ${why}`, name);
    }
    if (spec.notInFile === true) {
      throw this.refuse(at, `${name} says which file this is; it cannot stand in it.`, name);
    }
    if (spec.only !== undefined && spec.only !== this.command) {
      const why = `is a setting of ${spec.only} alone, not of ${this.command}.`;
      throw this.refuse(at, `${name} ${why}`, name);
    }
    return spec;
  }

  private nodesOf(spec: FlagSpec, value: unknown, keyAt: number): readonly unknown[] {
    if (isAlias(value)) {
      throw this.refuse(
        startOf(value),
        `${spec.name} is an alias; write the value out.`,
        spec.name,
      );
    }
    if (spec.repeats !== true) return [value];
    if (isSeq(value)) return value.items;
    const allowed = `a list: each value in a line of its own, after "- "`;
    throw this.wrong(spec, value, keyAt, allowed);
  }

  /** The value as the command line would have it. */
  private textOf(spec: FlagSpec, node: unknown, keyAt: number): string {
    const value: unknown = isScalar(node) ? node.value : undefined;
    if (spec.value === undefined) {
      if (typeof value === 'boolean') return `${value}`;
      throw this.wrong(spec, node, keyAt, 'true or false, without quotes');
    }
    const text = textOf(spec.type, value);
    if (text === undefined) throw this.wrong(spec, node, keyAt, shapeOf(spec.type, value));
    return text;
  }

  private wrong(spec: FlagSpec, node: unknown, keyAt: number, allowed: string): FtError {
    const found = isScalar(node) ? foundWords(node.value) : isSeq(node) ? 'a list' : 'a map';
    const at = node === null || node === undefined ? keyAt : startOf(node);
    const message = `${spec.name} is ${found}; it must be ${allowed}.`;
    return this.refuse(at, message, spec.name, { found, allowed });
  }

  private refuse(
    at: number,
    message: string,
    flag?: string,
    facts: Readonly<Record<string, string>> = {},
  ): FtError {
    const place = `${this.path}:${this.lineOf(at)}`;
    return new FtError('FT_ERR_CONFIG', `${place}: ${message}`, { flag, place, ...facts });
  }

  private lineOf(offset: number): number {
    return Math.max(1, this.lines.linePos(offset).line);
  }
}

function isForeign(flag: FlagSpec, command: CommandName): boolean {
  const elsewhere = flag.only !== undefined && flag.only !== command;
  return elsewhere || flag.commandLineOnly === true || flag.notInFile === true;
}

/** Undefined for a YAML value that has not the type's shape. */
function textOf(type: ValueType, value: unknown): string | undefined {
  if (type.kind === 'integer') return typeof value === 'number' ? `${value}` : undefined;
  if (type.kind === 'size' && typeof value === 'number') return `${value}`;
  if (typeof value !== 'string') return undefined;
  return type.kind === 'size' && !/[KMG]$/.test(value) ? undefined : value;
}

function shapeOf(type: ValueType, found: unknown): string {
  if (type.kind === 'integer') {
    return `a whole number from ${type.min} to ${type.max}, without quotes`;
  }
  if (type.kind === 'size') return 'a number of bytes without quotes, or a size such as 64M';
  const scalar = typeof found === 'number' || typeof found === 'boolean';
  return scalar ? 'a text; put it in quotes' : 'a text';
}

function foundWords(value: unknown): string {
  if (value === null) return 'empty';
  return typeof value === 'string' ? `the text ${JSON.stringify(masked(value))}` : `${value}`;
}
