/**
 * The JSON schema of the configuration file, for editors and for whoever checks files before they
 * reach a host; made from the table of settings. docs/config.schema.json holds it.
 *
 * It looks at one key at a time. What settings must be to each other (a key that another one needs,
 * an address that is not loopback), that no image or endpoint is named twice, and whether a URL's
 * host or a socket's path is one that the system takes, the commands alone check.
 */
import { ENDPOINTS_MAX } from './compound-values';
import { FLAGS, type FlagSpec } from './flags';
import { multiplePattern, rangePattern } from './number-pattern';
import type { ValueType } from './value-types';

export type JsonSchema = Readonly<Record<string, unknown>>;

/** The whole schema. */
export function configSchema(): JsonSchema {
  const flags = FLAGS.filter((flag) => !flag.commandLineOnly && !flag.notInFile);
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'Romulus: settings of ft-primary and ft-standby',
    description: 'A file for --config. Each key is the name of a flag: docs/configuration.md.',
    type: ['object', 'null'],
    additionalProperties: false,
    properties: Object.fromEntries(flags.map((flag) => [flag.name, settingSchema(flag)])),
  };
}

function settingSchema(flag: FlagSpec): JsonSchema {
  const description = `${flag.help}${notesOf(flag)}`;
  if (flag.value === undefined) return { description, type: 'boolean', default: false };
  const value = valueSchema(flag.type);
  if (flag.repeats === true) return { description, type: 'array', items: value, default: [] };
  const { fallback } = flag;
  if (fallback === undefined) return { description, ...value };
  const number = flag.type.kind === 'integer';
  return { description, ...value, default: number ? Number(fallback) : fallback };
}

function notesOf(flag: FlagSpec): string {
  const only = flag.only === undefined ? '' : ` (${flag.only} alone)`;
  if (flag.reload === 'contents') return `${only}. The file is read again at a reload.`;
  return `${only}.${flag.reload === true ? ' Taken over at a reload.' : ''}`;
}

const NAME = '[A-Za-z0-9._-]';
const HOST = '[A-Za-z0-9._%-]{1,253}';
const HOST6 = '\\[(?=[^\\]]*:)(?=[^\\]]{1,253}\\])[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\\]';
const PORT = rangePattern(1, 65_535);
/** One of several, between commas. */
const ENDPOINT = 'https?://[^/?#@\\s,]+/?';
/** A text that a program can be handed. */
const ANY = '[^\\u0000]';

/** The schema of one value, as YAML has it. */
export function valueSchema(type: ValueType): JsonSchema {
  switch (type.kind) {
    case 'integer':
      return { type: 'integer', minimum: type.min, maximum: type.max };
    case 'choice':
      return { type: 'string', enum: type.choices };
    case 'size':
      return sizeSchema(type);
    case 'address':
      // A port may have zeros in front, up to five digits in all.
      return matching(
        `(?:${HOST6}|${HOST}):(?=[0-9]{1,5}$)0*${PORT}${type.portMin === 0 ? '?' : ''}`,
      );
    case 'socket-path':
      return { ...matching(`${ANY}+`), maxLength: 107 };
    case 'prefix':
      return { ...matching(`(?:/${NAME}+)+`), maxLength: 200 };
    default:
      return matching(PATTERNS[type.kind]);
  }
}

function matching(pattern: string): JsonSchema {
  return { type: 'string', pattern: `^(?:${pattern})$` };
}

const PATTERNS = {
  url: 'https?://[^/?#@\\s]+/?',
  text: `${ANY}*`,
  path: `${ANY}+`,
  name: `[A-Za-z0-9]${NAME}{0,63}`,
  tap: `${NAME}{1,15}`,
  netns: '(?!\\.{1,2}$)[^/\\u0000]{1,255}|/[^\\u0000]+',
  mac: '(?!(?:00:){5}00$)[0-9A-Fa-f][02468ACEace](?::[0-9A-Fa-f]{2}){5}',
  console: `none|stdio|(?:file|unix):${ANY}+`,
  disk: '[^,\\u0000]+(?:,ro)?',
  witness: `none|file:${ANY}+|etcd:${ENDPOINT}(?:,${ENDPOINT}){0,${ENDPOINTS_MAX - 1}}`,
} as const;

const UNITS = [
  ['K', 1024],
  ['M', 1024 ** 2],
  ['G', 1024 ** 3],
] as const;

function sizeSchema(type: Extract<ValueType, { kind: 'size' }>): JsonSchema {
  const { min, max, multipleOf = 1 } = type;
  const texts = UNITS.map(([unit, bytes]) => {
    const least = Math.max(1, Math.ceil(min / bytes));
    const whole = multiplePattern(Math.max(1, multipleOf / bytes));
    return `(?=${whole}${unit}$)${rangePattern(least, Math.floor(max / bytes))}${unit}`;
  });
  const number = { type: 'integer', minimum: min, maximum: max };
  return {
    anyOf: [multipleOf === 1 ? number : { ...number, multipleOf }, matching(texts.join('|'))],
  };
}
