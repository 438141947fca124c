/**
 * Reads --http, --http-peer and --http-token-file. Off loopback the server speaks TLS with the
 * node's own certificate (--tls-cert), or plain HTTP if the operator says so (--insecure).
 */
import { type Address, isLoopback } from '../common/address';
import { FtError } from '../common/errors';
import type { Flags } from './parse';
import { configError, parseAddress, parseUrl } from './values';

export interface HttpConfig {
  readonly address: Address;
  /** Serve HTTPS with the node's TLS material; never on loopback. */
  readonly tls: boolean;
  /** Origins of the peers' servers, such as "https://host-b.example:7080". */
  readonly peers: readonly string[];
  /** Undefined: no token opens the reader's paths. */
  readonly tokenFile: string | undefined;
}

const PEERS_MAX = 8;

/** Undefined without --http. Throws FT_ERR_CONFIG. */
export function readHttp(flags: Flags): HttpConfig | undefined {
  const text = flags.text('http');
  if (text === undefined) {
    for (const flag of ['http-peer', 'http-token-file']) {
      if (flags.has(flag)) throw configError(flag, flags.text(flag) ?? '', 'used with --http only');
    }
    return undefined;
  }
  const address = parseAddress('http', text, 0);
  const tls = !isLoopback(address.host) && flags.text('tls-cert') !== undefined;
  const tokenFile = flags.text('http-token-file');
  if (!isLoopback(address.host) && !tls && !flags.has('insecure')) {
    const message =
      `--http ${text} would be open to other machines, not encrypted; use a loopback address, ` +
      'give the node a certificate (--tls-ca, --tls-cert, --tls-key), or add --insecure.';
    throw new FtError('FT_ERR_CONFIG', message, { flag: 'http', found: text });
  }
  return { address, tls, peers: readPeers(flags, tls), tokenFile };
}

function readPeers(flags: Flags, tls: boolean): readonly string[] {
  const peers = flags.all('http-peer').map((text) => parseUrl('http-peer', text));
  const plain = peers.find((peer) => peer.startsWith('http:'));
  if (tls && plain !== undefined) {
    throw configError('http-peer', plain, 'https:// beside a page that is served by HTTPS');
  }
  if (peers.length > PEERS_MAX) {
    throw configError('http-peer', peers.at(-1) ?? '', `given at most ${PEERS_MAX} times`);
  }
  return peers;
}
