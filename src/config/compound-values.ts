/** Strict readers for the values that have a grammar of their own: console, disk and witness. */
import { BARE_URL, bareOrigin, configError } from './values';

export type ConsoleConfig =
  | { readonly kind: 'none' }
  | { readonly kind: 'stdio' }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'unix'; readonly path: string };

/** An image on this host for one of the guest's disks. */
export interface DiskConfig {
  readonly path: string;
  readonly readOnly: boolean;
}

/** Who was named as the witness; how it is reached stands in flags of its own. */
export type WitnessName =
  | { readonly kind: 'file'; readonly directory: string }
  | { readonly kind: 'etcd'; readonly endpoints: readonly string[] }
  | { readonly kind: 'none' };

/** "stdio", "none", "file:PATH" or "unix:PATH". */
export function parseConsole(flag: string, text: string): ConsoleConfig {
  if (text === 'stdio' || text === 'none') return { kind: text };
  const path = text.slice(5);
  if (path !== '' && !path.includes('\0')) {
    if (text.startsWith('file:')) return { kind: 'file', path };
    if (text.startsWith('unix:')) return { kind: 'unix', path };
  }
  throw configError(flag, text, 'stdio, none, file:PATH or unix:PATH');
}

/** "PATH" or "PATH,ro". A comma begins a suffix, so a path cannot have one. */
export function parseDisk(flag: string, text: string): DiskConfig {
  const [image = '', suffix, ...more] = text.split(',');
  const known = suffix === undefined || suffix === 'ro';
  if (image !== '' && !image.includes('\0') && known && more.length === 0) {
    return { path: image, readOnly: suffix === 'ro' };
  }
  throw configError(flag, text, 'PATH or PATH,ro, with no comma in the path');
}

const WITNESSES = 'file:DIR, etcd:URL[,URL…] or none';
export const ENDPOINTS_MAX = 9;

/** "file:DIR", "etcd:URL[,URL…]" or "none". */
export function parseWitness(flag: string, text: string): WitnessName {
  if (text === 'none') return { kind: 'none' };
  const rest = text.slice(5);
  if (rest === '' || rest.includes('\0')) throw configError(flag, text, WITNESSES);
  if (text.startsWith('file:')) return { kind: 'file', directory: rest };
  if (!text.startsWith('etcd:')) throw configError(flag, text, WITNESSES);
  const endpoints = rest.split(',').map((url) => {
    const origin = bareOrigin(url);
    if (origin !== undefined) return origin;
    throw configError(flag, text, `etcd: and an ${BARE_URL}, such as http://127.0.0.1:2379`);
  });
  if (endpoints.length > ENDPOINTS_MAX || new Set(endpoints).size < endpoints.length) {
    const allowed = `${WITNESSES}, with at most ${ENDPOINTS_MAX} different URLs`;
    throw configError(flag, text, allowed);
  }
  return { kind: 'etcd', endpoints };
}
