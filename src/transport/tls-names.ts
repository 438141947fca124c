/**
 * What a node's certificate says of its owner, and why a peer's certificate is not good enough.
 *
 * A node is known by two names in its certificate (subject alternative names of the kind URI):
 *
 *   romulus:pair:NAME   the pair it belongs to; needed; several when it serves several pairs
 *   romulus:node:NAME   the node itself; where it is there, it must be the name that the node gives
 *
 * Somebody who may read a pair's metrics and dashboard, and is no node, has
 *
 *   romulus:reader:NAME   the pair that may be read
 *
 * Host names and addresses in it are for browsers and for Prometheus: a node is not believed to be a
 * node because of where it is.
 */
import type { X509Certificate } from 'node:crypto';
import { FtError } from '../common/errors';

const PAIR_PREFIX = 'romulus:pair:';
const NODE_PREFIX = 'romulus:node:';
const READER_PREFIX = 'romulus:reader:';
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const PAIRS_MAX = 64;
/** How many of them a sentence names: a stranger's word of itself has to fit into a message. */
const PAIRS_NAMED_MAX = 4;
const TEXT_CHARS_MAX = 160;

/** Who holds a certificate. */
export interface CertificateNames {
  /** "CN=standby-1", for people. */
  readonly subject: string;
  readonly pairs: readonly string[];
  /** Undefined: the certificate names no node. */
  readonly node: string | undefined;
}

/** Whom a certificate must belong to. */
export interface TlsOwner {
  readonly pair: string;
  readonly node: string;
}

/** Whether a certificate of our authority may read the pair's figures: a node's, or a reader's. */
export function mayRead(certificate: X509Certificate, pair: string): boolean {
  const { pairs } = namesOf(certificate);
  return pairs.includes(pair) || namesAfter(READER_PREFIX, certificate).includes(pair);
}

function namesAfter(prefix: string, certificate: X509Certificate): string[] {
  return uriNames(certificate.subjectAltName ?? '')
    .filter((uri) => uri.startsWith(prefix))
    .map((uri) => uri.slice(prefix.length));
}

export function namesOf(certificate: X509Certificate): CertificateNames {
  const after = (prefix: string): string[] => namesAfter(prefix, certificate);
  return {
    subject: printable(certificate.subject),
    pairs: after(PAIR_PREFIX)
      .filter((name) => NAME.test(name))
      .slice(0, PAIRS_MAX),
    node: after(NODE_PREFIX)[0],
  };
}

/**
 * A stranger's certificate says what it likes: it is not to break a line of the log, or fill it. Node
 * says undefined of a subject or issuer without a name, whatever its types declare.
 */
function printable(text: string | undefined): string {
  return (text === undefined || text === '' ? 'no name' : text)
    .replace(/\n/g, ', ')
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, TEXT_CHARS_MAX);
}

function someOf(pairs: readonly string[]): string {
  const more = pairs.length - PAIRS_NAMED_MAX;
  const named = pairs.slice(0, PAIRS_NAMED_MAX).join(', ');
  return more > 0 ? `${named} and ${more} more` : named;
}

/**
 * The names of the kind URI in Node's text of all names: 'DNS:host, URI:romulus:pair:x'. One that
 * could be taken for something else stands there as a JSON string; no name of ours needs that, so
 * such a name is left out.
 */
export function uriNames(subjectAltName: string): string[] {
  const names: string[] = [];
  const pattern = /(?:^|, )(\w[\w ]*):("(?:[^"\\]|\\.)*"|[^",]*)(?=, |$)/y;
  for (;;) {
    const match = pattern.exec(subjectAltName);
    if (match === null) return names;
    const [, kind, value] = match;
    if (kind === 'URI' && value !== undefined && !value.startsWith('"')) names.push(value);
  }
}

/** Unix time, seconds. */
export function notAfterSeconds(certificate: X509Certificate): number {
  return Date.parse(certificate.validTo) / 1000;
}

/** Why the time of day is not within a certificate's validity; `whose` begins the sentence. */
export function timeFault(
  certificate: X509Certificate,
  whose: string,
  nowMs = Date.now(),
): FtError | undefined {
  const { subject } = namesOf(certificate);
  const facts = { subject, validFrom: certificate.validFrom, validTo: certificate.validTo };
  if (nowMs > Date.parse(certificate.validTo)) {
    const message =
      `${whose} (${subject}) expired on ${isoDay(certificate.validTo)}. Make a new one with ` +
      'ftctl pki node and reload the node that uses it; if it looks valid, compare the clocks.';
    return new FtError('FT_ERR_TLS_EXPIRED', message, facts);
  }
  if (nowMs < Date.parse(certificate.validFrom)) {
    const message =
      `${whose} (${subject}) is valid from ${certificate.validFrom} on, which has not come yet by ` +
      "this host's clock. Set the clocks of both hosts (chrony, systemd-timesyncd).";
    return new FtError('FT_ERR_TLS_NOT_YET_VALID', message, facts);
  }
  return undefined;
}

function isoDay(date: string): string {
  return new Date(Date.parse(date)).toISOString().slice(0, 16).replace('T', ' ').concat(' UTC');
}

/**
 * Why a peer is not let in, or undefined. `authorizationError` is OpenSSL's verdict over the chain.
 * Errors: FT_ERR_TLS_NO_CERTIFICATE, FT_ERR_TLS_EXPIRED, FT_ERR_TLS_NOT_YET_VALID, FT_ERR_TLS_ISSUER,
 * FT_ERR_TLS_PURPOSE, FT_ERR_TLS_PAIR.
 */
export function peerFault(
  certificate: X509Certificate | undefined,
  authorizationError: string | undefined,
  pair: string,
  remote: string,
): FtError | undefined {
  if (certificate === undefined) {
    const message = `${remote} shows no certificate. Start it with --tls-ca, --tls-cert and --tls-key as well.`;
    return new FtError('FT_ERR_TLS_NO_CERTIFICATE', message, { remote });
  }
  const names = namesOf(certificate);
  if (authorizationError !== undefined) {
    return (
      (isAboutTime(authorizationError)
        ? timeFault(certificate, `The certificate of ${remote}`)
        : undefined) ?? chainFault(certificate, authorizationError, remote)
    );
  }
  if (names.pairs.includes(pair)) return undefined;
  const some = someOf(names.pairs);
  const theirs = names.pairs.length === 0 ? 'no pair' : `pair ${some}`;
  const message =
    `${remote} shows a certificate of ${theirs} (${names.subject}), and this is pair ${pair}. ` +
    'Check --standby there and here, and which certificate that node was given.';
  return new FtError('FT_ERR_TLS_PAIR', message, {
    ...{ remote, subject: names.subject, ours: pair, theirs: some },
  });
}

function isAboutTime(code: string): boolean {
  return code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
}

function chainFault(certificate: X509Certificate, cause: string, remote: string): FtError {
  const { subject } = namesOf(certificate);
  const facts = { remote, subject, issuer: printable(certificate.issuer), cause };
  if (cause === 'INVALID_PURPOSE') {
    const message =
      `The certificate of ${remote} (${subject}) is not made for both ends of a link; its extended ` +
      'key usage must hold serverAuth and clientAuth, as ftctl pki node makes it.';
    return new FtError('FT_ERR_TLS_PURPOSE', message, facts);
  }
  if (isAboutTime(cause)) {
    const message =
      `An authority in the chain of ${remote} (${subject}) is expired or not valid yet; make a new ` +
      'authority with ftctl pki init and new certificates for both nodes, or set the clocks.';
    return new FtError('FT_ERR_TLS_EXPIRED', message, facts);
  }
  const message =
    `The certificate of ${remote} (${subject}) is not signed by an authority in --tls-ca (${cause}; ` +
    `its issuer says it is ${facts.issuer}). Give both nodes certificates of the same authority.`;
  return new FtError('FT_ERR_TLS_ISSUER', message, facts);
}

/** Why a certificate of our own does not fit this node. */
export function ownerFault(
  names: CertificateNames,
  owner: TlsOwner,
  path: string,
): FtError | undefined {
  const { pair, node } = owner;
  if (!names.pairs.includes(pair)) {
    const theirs = names.pairs.length === 0 ? 'names no pair' : `is of pair ${someOf(names.pairs)}`;
    const message =
      `The certificate ${path} ${theirs}, and this node is of pair ${pair} (--pair). Make one with ` +
      `ftctl pki node in a directory made with ftctl pki init --pair ${pair}.`;
    return new FtError('FT_ERR_TLS_PAIR', message, { path, ours: pair });
  }
  if (names.node === undefined || names.node === node) return undefined;
  const message =
    `The certificate ${path} is of node ${names.node}, and this node is ${node}. Start it with ` +
    `--node ${names.node}, or make a certificate with ftctl pki node --node ${node}.`;
  return new FtError('FT_ERR_TLS_NODE', message, { path, ours: node, theirs: names.node });
}
