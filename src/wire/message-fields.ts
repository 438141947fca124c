/**
 * Strict reading of a message's fields. The first field that is missing, of the wrong type or out
 * of its bounds becomes the error; reading goes on with harmless values, so callers check once.
 */
import { FtError } from '../common/errors';

export class Fields {
  private readonly message: string;
  private readonly path: string;
  private readonly values: Readonly<Record<string, unknown>>;
  private readonly root: Fields;
  private firstError: FtError | undefined;

  constructor(
    message: string,
    values: Readonly<Record<string, unknown>>,
    path = '',
    root?: Fields,
  ) {
    this.message = message;
    this.values = values;
    this.path = path;
    this.root = root ?? this;
  }

  /** The first thing that was wrong, in this map or one inside it. */
  get error(): FtError | undefined {
    return this.root.firstError;
  }

  /** A string that matches `pattern`. */
  text(name: string, pattern: RegExp): string {
    const value = this.own(name);
    if (typeof value === 'string' && pattern.test(value)) return value;
    this.refuse(name, value, `a string like ${pattern.source}`);
    return '';
  }

  /** Free text of at most `charsMax` characters. */
  words(name: string, charsMax: number): string {
    const value = this.own(name);
    if (typeof value === 'string' && value.length <= charsMax) return value;
    this.refuse(name, value, `a string of at most ${charsMax} characters`);
    return '';
  }

  /** A whole number, least and most included. */
  integer(name: string, least: number, most: number): number {
    const value = this.own(name);
    if (isIntegerWithin(value, least, most)) return value;
    this.refuse(name, value, `a whole number from ${least} to ${most}`);
    return least;
  }

  /** True or false. */
  flag(name: string): boolean {
    const value = this.own(name);
    if (typeof value === 'boolean') return value;
    this.refuse(name, value, 'true or false');
    return false;
  }

  /** A list of maps, each read by `read`; an empty one after a refusal. */
  mapList<T>(name: string, countMax: number, read: (item: Fields) => T): T[] {
    const values = this.list(name, countMax, 'maps', (item) =>
      typeof item === 'object' && item !== null && !Array.isArray(item) ? item : undefined,
    );
    return values.map((value, index) => {
      const path = `${this.path}${name}[${index}].`;
      return read(new Fields(this.message, value as Record<string, unknown>, path, this.root));
    });
  }

  /** A list of whole numbers from 0 to `most`. */
  integerList(name: string, countMax: number, most: number): number[] {
    return this.list(name, countMax, `whole numbers from 0 to ${most}`, (item) =>
      isIntegerWithin(item, 0, most) ? item : undefined,
    );
  }

  /** A list whose items `read` accepts (anything but undefined). */
  list<T>(
    name: string,
    countMax: number,
    what: string,
    read: (item: unknown) => T | undefined,
  ): T[] {
    const value = this.own(name);
    if (!Array.isArray(value) || value.length > countMax) {
      this.refuse(name, value, `a list of at most ${countMax} ${what}`);
      return [];
    }
    const items: T[] = [];
    for (const [index, item] of value.entries()) {
      const read1 = read(item);
      if (read1 === undefined) {
        this.refuse(`${name}[${index}]`, item, `one of ${what}`);
        return [];
      }
      items.push(read1);
    }
    return items;
  }

  /** A map inside this one; an empty one after a refusal. */
  map(name: string): Fields {
    const value = this.own(name);
    const path = `${this.path}${name}.`;
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      return new Fields(this.message, value as Record<string, unknown>, path, this.root);
    }
    this.refuse(name, value, 'a map');
    return new Fields(this.message, {}, path, this.root);
  }

  /** The names in this map, in the order of arrival. */
  names(): string[] {
    return Object.keys(this.values);
  }

  /** Notes that `name` is not what it should be; only the first such note is kept. */
  refuse(name: string, value: unknown, expected: string): void {
    if (this.root.firstError !== undefined) return;
    const field = this.path + name;
    this.root.firstError = new FtError(
      'FT_ERR_MESSAGE',
      `The peer's ${this.message} message has ${describe(value)} in ${field}, where ${expected} ` +
        'belongs. The connection is closed.',
      { message: this.message, field, expected },
    );
  }

  private own(name: string): unknown {
    return Object.hasOwn(this.values, name) ? this.values[name] : undefined;
  }
}

/** A map from short names to 32-bit words, at most `countMax` of them. */
export function numberRecordField(
  fields: Fields,
  name: string,
  countMax: number,
): Record<string, number> {
  const map = fields.map(name);
  const names = map.names();
  if (names.length > countMax) {
    fields.refuse(name, `${names.length} entries`, `a map of at most ${countMax} entries`);
    return {};
  }
  const record: Record<string, number> = {};
  for (const key of names) {
    if (!/^[a-zA-Z0-9._-]{1,64}$/.test(key)) {
      fields.refuse(name, key, 'a map whose keys are short names');
      return {};
    }
    record[key] = map.integer(key, 0, 0xffffffff);
  }
  return record;
}

/** A list of short names. */
export function stringListField(fields: Fields, name: string, countMax: number): string[] {
  return fields.list(name, countMax, 'short names', (item) =>
    typeof item === 'string' && /^[a-zA-Z0-9._:,=-]{1,64}$/.test(item) ? item : undefined,
  );
}

/**
 * A list of byte strings, each at most `bytesMax` long, or nil, which becomes undefined. The bytes
 * are copied: they outlive the receive buffer.
 */
export function bytesListField(
  fields: Fields,
  name: string,
  countMax: number,
  bytesMax: number,
): (Uint8Array | undefined)[] {
  const items = fields.list(name, countMax, `byte strings of at most ${bytesMax}`, (item) => {
    if (item === null) return { bytes: undefined };
    if (!(item instanceof Uint8Array) || item.length > bytesMax) return undefined;
    return { bytes: Uint8Array.from(item) };
  });
  return items.map((item) => item.bytes);
}

function isIntegerWithin(value: unknown, least: number, most: number): value is number {
  return (
    typeof value === 'number' && Number.isSafeInteger(value) && value >= least && value <= most
  );
}

/** A value in a few words, for a sentence; never more than a few dozen characters of the peer's. */
function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'nil';
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40));
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value === 'object') return Array.isArray(value) ? 'a list' : 'a map';
  return String(value);
}
