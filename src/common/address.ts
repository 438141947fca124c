/** Addresses as people write them: "127.0.0.1:7001", "standby.example:7001", "[::1]:7001". */
import { FtError } from './errors';

export interface Address {
  /** A name or an address, an IPv6 address without its brackets. */
  readonly host: string;
  /** 0…65535; 0 lets the system choose when listening. */
  readonly port: number;
}

/**
 * Reads "host:port". Errors: FT_ERR_ADDRESS, saying which part is wrong and how it should look.
 */
export function parseAddress(text: string): Address | FtError {
  const bracketed = /^\[([^\]]*)\](?::(.*))?$/.exec(text);
  if (bracketed !== null) {
    const host = bracketed[1] ?? '';
    if (!/^[0-9a-fA-F:.]+(%[a-zA-Z0-9_.-]+)?$/.test(host) || !host.includes(':')) {
      return bad(text, `${JSON.stringify(host)} in the brackets is no IPv6 address`);
    }
    return withPort(text, host, bracketed[2]);
  }
  const colon = text.lastIndexOf(':');
  if (colon < 0) return withPort(text, text, undefined);
  const host = text.slice(0, colon);
  if (host.includes(':'))
    return bad(text, 'an IPv6 address must stand in brackets, as in [::1]:7001');
  return withPort(text, host, text.slice(colon + 1));
}

function withPort(text: string, host: string, port: string | undefined): Address | FtError {
  if (host === '') return bad(text, 'the host before the colon is missing');
  if (host.length > 253) return bad(text, 'the host is longer than 253 characters');
  if (!/^[a-zA-Z0-9._:%-]+$/.test(host)) {
    return bad(text, `the host ${JSON.stringify(host)} has a character that no host name has`);
  }
  if (port === undefined) return bad(text, 'the port is missing');
  if (!/^[0-9]{1,5}$/.test(port) || Number(port) > 65535) {
    return bad(text, `the port ${JSON.stringify(port)} is no whole number from 0 to 65535`);
  }
  return { host, port: Number(port) };
}

function bad(text: string, why: string): FtError {
  return new FtError(
    'FT_ERR_ADDRESS',
    `${JSON.stringify(text)} is no address: ${why}. Write host:port, such as 127.0.0.1:7001.`,
    { address: text },
  );
}

/** The text form that parseAddress reads. */
export function formatAddress(address: Address): string {
  const { host, port } = address;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * True when traffic to `host` cannot leave this machine. Only "localhost" is known by name; any
 * other name could resolve to anything and counts as not loopback.
 */
export function isLoopback(host: string): boolean {
  const plain = host.toLowerCase();
  if (plain === 'localhost' || plain === '::1' || plain === '0:0:0:0:0:0:0:1') return true;
  const four = plain.startsWith('::ffff:') ? plain.slice(7) : plain;
  return /^127(\.(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])){3}$/.test(four);
}
