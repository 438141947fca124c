/**
 * What a setting may hold. Each row of the flag tables names one of these types; the command line,
 * the environment and the file are all checked by the one parser behind it, and the JSON schema for
 * editors is made from the same row, so that no source allows what another one refuses.
 */
import { parseConsole, parseDisk, parseWitness } from './compound-values';
import {
  parseAddress,
  parseChoice,
  parseInteger,
  parseMac,
  parseName,
  parseNetns,
  parsePath,
  parsePrefix,
  parseSize,
  parseSocketPath,
  parseTap,
  parseText,
  parseUrl,
} from './values';

export type ValueType =
  /** A whole number; its unit stands in the flag's name. */
  | { readonly kind: 'integer'; readonly min: number; readonly max: number }
  /** Bytes, also with K, M or G. */
  | {
      readonly kind: 'size';
      readonly min: number;
      readonly max: number;
      /** Bytes; a power of two from 1024 on. */
      readonly multipleOf?: number;
    }
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
  /** HOST:PORT; `portMin` is 0 where the system may choose a port to listen at. */
  | { readonly kind: 'address'; readonly portMin: 0 | 1 }
  /** http://HOST:PORT or https://HOST:PORT, without a path. */
  | { readonly kind: 'url' }
  /** Any text, the empty one too. */
  | { readonly kind: 'text' }
  /** A path of this host, relative to where the process was started. */
  | { readonly kind: 'path' }
  | { readonly kind: 'socket-path' }
  /** A name of a pair, node, namespace or user that others can trust to be harmless. */
  | { readonly kind: 'name' }
  | { readonly kind: 'tap' }
  /** A network namespace's name or path. */
  | { readonly kind: 'netns' }
  | { readonly kind: 'mac' }
  | { readonly kind: 'console' }
  | { readonly kind: 'disk' }
  | { readonly kind: 'witness' }
  | { readonly kind: 'prefix' };

/** Throws FT_ERR_CONFIG when `text` is no value of this type. */
export function checkValue(type: ValueType, flag: string, text: string): void {
  switch (type.kind) {
    case 'integer':
      parseInteger(flag, text, type.min, type.max);
      return;
    case 'size':
      parseSize(flag, text, type.min, type.max, type.multipleOf);
      return;
    case 'choice':
      parseChoice(flag, text, type.choices);
      return;
    case 'address':
      parseAddress(flag, text, type.portMin);
      return;
    default:
      PLAIN[type.kind](flag, text);
  }
}

/** The parsers of the types that take nothing but the text. */
const PLAIN = {
  url: parseUrl,
  text: parseText,
  path: parsePath,
  'socket-path': parseSocketPath,
  name: parseName,
  tap: parseTap,
  netns: parseNetns,
  mac: parseMac,
  console: parseConsole,
  disk: parseDisk,
  witness: parseWitness,
  prefix: parsePrefix,
} as const;
