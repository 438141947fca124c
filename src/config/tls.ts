/**
 * --tls-ca, --tls-cert and --tls-key, and what may be done without them: a link in the clear is for
 * loopback, or for a network that the operator says is trusted.
 */
import { type Address, isLoopback } from '../common/address';
import { FtError } from '../common/errors';
import type { Flags } from './parse';

/** Paths of PEM files. */
export interface TlsConfig {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const PARTS = ['ca', 'cert', 'key'] as const;

/** Undefined when none of the three is given. Throws FT_ERR_CONFIG for a part without the others. */
export function readTls(flags: Flags): TlsConfig | undefined {
  const [ca, cert, key] = PARTS.map((part) => flags.text(`tls-${part}`));
  if (ca !== undefined && cert !== undefined && key !== undefined) return { ca, cert, key };
  const given = PARTS.find((part) => flags.has(`tls-${part}`));
  if (given === undefined) return undefined;
  const missing = PARTS.find((part) => !flags.has(`tls-${part}`)) ?? 'ca';
  const message =
    `--tls-${missing} is missing; --tls-${given} is of use only together with the others of ` +
    '--tls-ca, --tls-cert and --tls-key (ftctl pki makes all three files).';
  throw new FtError('FT_ERR_CONFIG', message, { flag: `tls-${missing}` });
}

/** Throws FT_ERR_CONFIG where frames would cross a network in the clear. */
export function refusePlaintext(flags: Flags, flag: string, text: string, address: Address): void {
  if (isLoopback(address.host) || flags.has('insecure') || flags.has('tls-cert')) return;
  const message =
    `--${flag} ${text} is not a loopback address, and the link would not be encrypted. Give ` +
    '--tls-ca, --tls-cert and --tls-key (ftctl pki makes the files), or add --insecure if the ' +
    'network between the hosts is trusted.';
  throw new FtError('FT_ERR_CONFIG', message, { flag, found: text });
}
