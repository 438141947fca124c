/**
 * Who may ask a node's HTTP server, decided from a request's head alone:
 *
 *   Host     plain HTTP: an IP address, "localhost", or a name of this host. Any other name may have
 *            been pointed here by a web page that wants to read what its visitor can reach (DNS
 *            rebinding). Over TLS the certificate answers that.
 *   Origin   sent by browsers alone: this server's own origin, or one of the peers' (--http-peer).
 *   reader   metrics and feed: anybody where there is neither TLS nor a token (loopback, --insecure);
 *            else a client certificate of our authority, or the token.
 */
import { createHash, timingSafeEqual, type X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import type { TLSSocket } from 'node:tls';
import { isLoopback } from '../common/address';
import { FtError, toFtError } from '../common/errors';

/** What a browser offers beside the feed's own name, so that the token stands in no URL. */
export const TOKEN_PROTOCOL = 'token.';
const TOKEN_CHARS_MIN = 16;
const TOKEN_CHARS_MAX = 512;
const BEARER = /^Bearer +([!-~]+)$/i;

/** The secret of --http-token-file: its first line, without the spaces around it. */
export class TokenFile {
  /** How often another token took the place of the one before. */
  changes = 0;
  private digest: Buffer;

  private constructor(
    readonly path: string,
    text: string,
  ) {
    this.digest = digestOf(text);
  }

  /** Throws FT_ERR_HTTP_TOKEN: the file cannot be read, or holds no token. */
  static load(path: string): TokenFile {
    return new TokenFile(path, readToken(path));
  }

  /** Reads the file again. What is wrong with it is returned, and the old token stays good. */
  reload(): FtError | undefined {
    try {
      this.readAgain()();
      return undefined;
    } catch (thrown) {
      return toFtError(thrown);
    }
  }

  /** Reads and checks the file as load() does; what it returns puts the token to use. */
  readAgain(): () => void {
    const digest = digestOf(readToken(this.path));
    return () => {
      if (!timingSafeEqual(this.digest, digest)) this.changes += 1;
      this.digest = digest;
    };
  }

  /** Takes the same time for every text. */
  matches(text: string): boolean {
    return timingSafeEqual(this.digest, digestOf(text));
  }
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}

function readToken(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (thrown) {
    const cause = toFtError(thrown).message;
    const message = `The token file ${path} cannot be read (${cause}); check --http-token-file.`;
    throw new FtError('FT_ERR_HTTP_TOKEN', message, { path }, thrown);
  }
  const token = (text.split('\n', 1)[0] ?? '').trim();
  if (token.length >= TOKEN_CHARS_MIN && token.length <= TOKEN_CHARS_MAX && /^[!-~]+$/.test(token))
    return token;
  const message =
    `The first line of ${path} is no token: ${TOKEN_CHARS_MIN} to ${TOKEN_CHARS_MAX} printable ` +
    'ASCII characters without spaces. `openssl rand -hex 32` makes a good one.';
  throw new FtError('FT_ERR_HTTP_TOKEN', message, { path, found: token.length });
}

export interface HttpAccessOptions {
  /** The server speaks TLS, with requests for client certificates. */
  readonly tls: boolean;
  readonly token: TokenFile | undefined;
  /** Origins of the peers' dashboards, such as "https://host-b.example:7080". */
  readonly peers: readonly string[];
  /** The host that the server was told to listen at. */
  readonly host: string;
  /** Judges a client certificate that our authority signed; all are good if absent. */
  readonly isReader?: (certificate: X509Certificate) => boolean;
}

export class HttpAccess {
  private readonly ownNames: ReadonlySet<string>;
  private readonly peers: ReadonlySet<string>;

  constructor(private readonly options: HttpAccessOptions) {
    const name = hostname().toLowerCase();
    const short = name.split('.', 1)[0] ?? name;
    this.ownNames = new Set(['localhost', name, short, options.host.toLowerCase()]);
    this.peers = new Set(options.peers.map(sameLoopback));
  }

  /** True where readers must prove who they are. */
  get asksForProof(): boolean {
    return this.options.tls || this.options.token !== undefined;
  }

  /** Whether the Host header names this server. */
  hostIsOurs(request: IncomingMessage): boolean {
    const host = hostOf(request.headers.host);
    if (host === undefined) return false;
    return this.options.tls || isIP(host) !== 0 || this.ownNames.has(host);
  }

  /** Whether the page that asks, if it is one, is ours or a peer's. */
  originIsOurs(request: IncomingMessage): boolean {
    const { origin, host } = request.headers;
    if (origin === undefined) return true;
    const own = `${this.options.tls ? 'https' : 'http'}://${host ?? ''}`.toLowerCase();
    return origin.toLowerCase() === own || this.peers.has(sameLoopback(origin));
  }

  /** Whether metrics and feed may be read. */
  isReader(request: IncomingMessage): boolean {
    if (!this.asksForProof) return true;
    return this.hasCertificate(request) || this.hasToken(request);
  }

  private hasCertificate(request: IncomingMessage): boolean {
    if (!this.options.tls) return false;
    const socket = request.socket as TLSSocket;
    const certificate = socket.getPeerX509Certificate();
    if (!socket.authorized || certificate === undefined) return false;
    const { isReader } = this.options;
    return isReader === undefined || isReader(certificate);
  }

  private hasToken(request: IncomingMessage): boolean {
    const { token } = this.options;
    if (token === undefined) return false;
    const bearer = BEARER.exec(request.headers.authorization ?? '')?.[1];
    if (bearer !== undefined) return token.matches(bearer);
    const offered = offeredProtocols(request).find((name) => name.startsWith(TOKEN_PROTOCOL));
    if (offered === undefined) return false;
    const encoded = offered.slice(TOKEN_PROTOCOL.length);
    return token.matches(Buffer.from(encoded, 'base64url').toString('utf8'));
  }
}

/** The names in Sec-WebSocket-Protocol. */
export function offeredProtocols(request: IncomingMessage): string[] {
  const header = request.headers['sec-websocket-protocol'] ?? '';
  return header.split(',').map((name) => name.trim());
}

/** The host of a Host header, in lower case and without brackets; undefined when it is none. */
function hostOf(header: string | undefined): string | undefined {
  const match = /^(\[[0-9a-f:.%]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?$/i.exec(header ?? '');
  return match?.[1]?.toLowerCase().replace(/^\[|\]$/g, '');
}

/** An origin in one spelling: every name of the loopback is the same host. */
function sameLoopback(origin: string): string {
  try {
    const url = new URL(origin);
    const host = url.hostname.replace(/^\[|\]$/g, '');
    if (isLoopback(host)) url.hostname = 'localhost';
    return url.origin;
  } catch {
    return origin;
  }
}
