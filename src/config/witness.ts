/**
 * --witness and the flags that belong to it, read into one value. What etcd alone understands is
 * refused with any other witness, so that nobody believes a password or a certificate to be in use
 * that is not.
 */
import { isLoopback } from '../common/address';
import { FtError } from '../common/errors';
import { DEFAULT_PREFIX } from './choices';
import { parseWitness } from './compound-values';
import type { Flags } from './parse';
import { configError, parsePrefix } from './values';

export type WitnessConfig =
  | { readonly kind: 'file'; readonly directory: string }
  | EtcdWitnessConfig
  | { readonly kind: 'none' };

export interface EtcdWitnessConfig {
  readonly kind: 'etcd';
  /** "https://etcd-1.example:2379": no path; in the order in which they are asked. */
  readonly endpoints: readonly string[];
  /** Begins with a slash and does not end with one. */
  readonly prefix: string;
  /** Paths of PEM files. */
  readonly tls: {
    readonly ca: string | undefined;
    readonly cert: string | undefined;
    readonly key: string | undefined;
  };
  readonly user: { readonly name: string; readonly passwordFile: string } | undefined;
}

const ETCD_FLAGS = ['prefix', 'ca', 'cert', 'key', 'user', 'password-file'];

/** Throws FT_ERR_CONFIG. */
export function readWitness(flags: Flags): WitnessConfig {
  const text = flags.needed('witness', 'without it nobody decides which side may run');
  const named = parseWitness('witness', text);
  if (named.kind === 'etcd') return readEtcd(flags, named.endpoints);
  for (const name of ETCD_FLAGS) {
    if (!flags.has(`witness-${name}`)) continue;
    const found = flags.text(`witness-${name}`) ?? '';
    if (name === 'prefix' && found === DEFAULT_PREFIX) continue;
    throw configError(`witness-${name}`, found, 'used with --witness etcd:URL only');
  }
  return named;
}

function readEtcd(flags: Flags, endpoints: readonly string[]): EtcdWitnessConfig {
  for (const url of endpoints) refusePlaintext(flags, url);
  const prefix = parsePrefix('witness-prefix', flags.text('witness-prefix') ?? '');
  return { kind: 'etcd', endpoints, prefix, tls: readTls(flags, endpoints), user: readUser(flags) };
}

function refusePlaintext(flags: Flags, text: string): void {
  const url = new URL(text);
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (url.protocol === 'http:' && !isLoopback(host) && !flags.has('insecure')) {
    const message =
      `--witness ${text} is not a loopback address, and http is not encrypted; use https, or add ` +
      '--insecure if the network up to etcd is trusted.';
    throw new FtError('FT_ERR_CONFIG', message, { flag: 'witness', found: text });
  }
}

function readTls(flags: Flags, endpoints: readonly string[]): EtcdWitnessConfig['tls'] {
  const [ca, cert, key] = ['ca', 'cert', 'key'].map((part) => flags.text(`witness-${part}`));
  if (cert !== undefined && key === undefined) {
    throw missing('key', 'a certificate is of no use without its key');
  }
  if (key !== undefined && cert === undefined) {
    throw missing('cert', 'a key is of no use without its certificate');
  }
  const found = ca ?? cert;
  if (found !== undefined && endpoints.some((url) => url.startsWith('http:'))) {
    const name = ca === undefined ? 'witness-cert' : 'witness-ca';
    throw configError(name, found, 'used with https:// endpoints only');
  }
  return { ca, cert, key };
}

function readUser(flags: Flags): EtcdWitnessConfig['user'] {
  const name = flags.text('witness-user');
  const passwordFile = flags.text('witness-password-file');
  if (name === undefined && passwordFile === undefined) return undefined;
  if (name === undefined) throw missing('user', 'a password belongs to somebody');
  if (passwordFile === undefined) throw missing('password-file', 'a user needs a password');
  return { name, passwordFile };
}

function missing(name: string, why: string): FtError {
  const flag = `witness-${name}`;
  return new FtError('FT_ERR_CONFIG', `--${flag} is missing; ${why}.`, { flag });
}
