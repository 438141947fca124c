/**
 * A small authority for one pair, in a directory of its own:
 *
 *   DIR/ca.pem   its certificate: goes to every host (--tls-ca)
 *   DIR/ca.key   its key: whoever has it can be any node, so it stays where certificates are made
 *   DIR/NAME/    what a node gets: ca.pem, cert.pem, key.pem
 *
 * Keys are EC P-256. Files are made beside their place and moved there when all are whole, the
 * certificate last, so that a node which rereads them never finds half of a change.
 */
import { randomBytes, X509Certificate } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { isIP } from 'node:net';
import path from 'node:path';
import { FtError } from '../../common/errors';
import { TlsMaterial } from '../../transport/tls';
import { mayRead, namesOf } from '../../transport/tls-names';
import { openssl } from './openssl';

/** A certificate begins so long before it is made: a host whose clock is behind takes it at once. */
const DATED_BACK_MS = 3_600_000;

/** X.520 allows no more in a common name; whose authority it is, the pair's URI says in full. */
const CN_CHARS_MAX = 64;

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Where a holder's files lie. */
export interface Issued {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly expires: Date;
}

/** Whom a certificate is for. */
export type Holder =
  | { readonly kind: 'node'; readonly name: string; readonly hosts: readonly string[] }
  /** May read metrics and the dashboard, and is no node. */
  | { readonly kind: 'reader'; readonly name: string };

/** Throws FT_ERR_PKI_EXISTS, FT_ERR_PKI_FILE, or what openssl() throws. */
export function makeAuthority(folder: string, pair: string, days: number): Date {
  const files = authorityFiles(folder);
  if (existsSync(files.key) || existsSync(files.cert)) {
    const message =
      `There is an authority in ${folder} already, and every certificate of it would be worthless. ` +
      'Choose another directory, or make nodes with ftctl pki node.';
    throw new FtError('FT_ERR_PKI_EXISTS', message, { path: folder });
  }
  inFolder(folder, (work) => {
    const config = path.join(work, 'cnf');
    const [key, cert] = [path.join(work, 'ca.key'), path.join(work, 'ca.pem')];
    writeFileSync(
      config,
      requestConfig(`romulus pair ${pair}`.slice(0, CN_CHARS_MAX), [
        'basicConstraints=critical,CA:TRUE,pathlen:0',
        'keyUsage=critical,keyCertSign,cRLSign',
        'subjectKeyIdentifier=hash',
        `subjectAltName=URI:romulus:pair:${pair}`,
      ]),
    );
    openssl([
      ...['req', '-new', ...NEW_KEY, '-config', config, '-keyout', key],
      ...['-out', path.join(work, 'csr')],
    ]);
    sign(work, ['-selfsign', '-keyfile', path.resolve(key)], cert, days);
    put(key, files.key, 0o600);
    put(cert, files.cert, 0o644);
  });
  return expiryOf(files.cert);
}

/**
 * Makes a key and a certificate in `out`, in place of those of the same holder that are there. Throws
 * FT_ERR_PKI_NONE (no authority in `folder`), FT_ERR_PKI_EXISTS (`out` has somebody else's),
 * FT_ERR_PKI_FILE, what openssl() throws, or what TlsMaterial.load says of the result.
 */
export function issue(folder: string, out: string, holder: Holder, days: number): Issued {
  const authority = authorityFiles(folder);
  const pair = pairOf(authority, folder);
  refuseOther(out, holder, pair);
  const issued = {
    ca: path.join(out, 'ca.pem'),
    cert: path.join(out, 'cert.pem'),
    key: path.join(out, 'key.pem'),
  };
  inFolder(out, (work) => {
    const at = (name: string): string => path.join(work, name);
    writeFileSync(at('cnf'), requestConfig(holder.name, extensionsOf(holder, pair)));
    openssl([
      ...['req', '-new', ...NEW_KEY, '-config', at('cnf'), '-keyout', at('key.pem')],
      ...['-out', at('csr')],
    ]);
    const [by, key] = [path.resolve(authority.cert), path.resolve(authority.key)];
    const signer = ['-cert', by, '-keyfile', key];
    sign(work, signer, at('cert.pem'), days);
    copyFileSync(authority.cert, at('ca.pem'));
    if (holder.kind === 'node') {
      const made = { ca: at('ca.pem'), cert: at('cert.pem'), key: at('key.pem') };
      TlsMaterial.load(made, { pair, node: holder.name });
    }
    put(at('ca.pem'), issued.ca, 0o644);
    put(at('key.pem'), issued.key, 0o600);
    put(at('cert.pem'), issued.cert, 0o644);
  });
  return { ...issued, expires: expiryOf(issued.cert) };
}

/** A holder's key is not to be lost because another one goes by the same name. */
function refuseOther(out: string, holder: Holder, pair: string): void {
  const file = path.join(out, 'cert.pem');
  if (!existsSync(file)) return;
  const certificate = certificateAt(file);
  const { subject, pairs, node } = namesOf(certificate);
  const isSame =
    subject === `CN=${holder.name}` &&
    (holder.kind === 'node'
      ? node === holder.name && pairs.includes(pair)
      : pairs.length === 0 && mayRead(certificate, pair));
  if (isSame) return;
  const whose = node === undefined ? subject : `node ${node}`;
  const message =
    `${file} is the certificate of ${whose}, and not of ${holder.kind} ${holder.name} of pair ` +
    `${pair}; its key would be lost. Choose another name, or another directory with --out.`;
  throw new FtError('FT_ERR_PKI_EXISTS', message, { path: file });
}

function authorityFiles(folder: string): { readonly cert: string; readonly key: string } {
  return { cert: path.join(folder, 'ca.pem'), key: path.join(folder, 'ca.key') };
}

/** The pair that an authority was made for: its certificate says so. */
function pairOf(files: { readonly cert: string; readonly key: string }, folder: string): string {
  if (!existsSync(files.cert) || !existsSync(files.key)) {
    const message =
      `There is no authority in ${folder} (ca.pem and ca.key). Make one first: ` +
      `ftctl pki init ${folder} --pair NAME.`;
    throw new FtError('FT_ERR_PKI_NONE', message, { path: folder });
  }
  const [pair] = namesOf(certificateAt(files.cert)).pairs;
  if (pair !== undefined) return pair;
  const message = `The authority ${files.cert} was not made with ftctl pki init: it names no pair.`;
  throw new FtError('FT_ERR_PKI_NONE', message, { path: files.cert });
}

function extensionsOf(holder: Holder, pair: string): string[] {
  const always = [
    'basicConstraints=critical,CA:FALSE',
    'keyUsage=critical,digitalSignature',
    'subjectKeyIdentifier=hash',
    'authorityKeyIdentifier=keyid',
  ];
  if (holder.kind === 'reader') {
    const name = `subjectAltName=URI:romulus:reader:${pair}`;
    return [...always, 'extendedKeyUsage=clientAuth', name];
  }
  const names = [
    `URI:romulus:pair:${pair}`,
    `URI:romulus:node:${holder.name}`,
    ...holder.hosts.map((host) => `${isIP(host) === 0 ? 'DNS' : 'IP'}:${host}`),
  ];
  return [
    ...[...always, 'extendedKeyUsage=serverAuth,clientAuth'],
    `subjectAltName=${names.join(',')}`,
  ];
}

/**
 * Signs `work`/csr by `work`/cnf. It is `openssl ca` that can date a certificate back, and it wants
 * its book of what was signed: an empty one, which goes with `work`.
 */
function sign(work: string, signer: readonly string[], cert: string, days: number): void {
  const at = (name: string): string => path.join(work, name);
  writeFileSync(at('index'), '');
  writeFileSync(at('serial'), `${serial()}\n`);
  const book = ['[ca]', 'default_ca=book', '[book]', 'database=index'];
  const more = ['serial=serial', 'new_certs_dir=.', 'default_md=sha256'];
  const policy = ['policy=names', 'email_in_dn=no', '[names]', 'commonName=supplied', ''];
  appendFileSync(at('cnf'), [...book, ...more, ...policy].join('\n'));
  const start = new Date(Date.now() - DATED_BACK_MS).toISOString().replace(/[-:T]|\.\d+/g, '');
  // It runs in `work`: the names of folders may have characters that mean something in `cnf`.
  const words = [
    ...['ca', '-batch', '-notext', '-config', 'cnf', '-in', 'csr', '-extensions', 'ext'],
    ...[...signer, '-startdate', start, '-days', `${days}`, '-out', path.resolve(cert)],
  ];
  openssl(words, work);
}

/** Its own, so that the host's openssl.cnf has no say. Names were checked: no character of theirs
 * means anything here. */
function requestConfig(name: string, extensions: readonly string[]): string {
  return [
    ...['[req]', 'prompt=no', 'distinguished_name=dn', '[dn]', `CN=${name}`],
    ...['[ext]', ...extensions, ''],
  ].join('\n');
}

/** 127 random bits: positive, and never the same twice. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex').toUpperCase();
}

/** Runs `make` with a directory that only this user sees, beside where its files will go. */
function inFolder(folder: string, make: (work: string) => void): void {
  let work: string | undefined;
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    work = mkdtempSync(path.join(folder, '.new-'));
    make(work);
  } catch (thrown) {
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (thrown instanceof FtError || code === undefined) throw thrown;
    const told = `The files cannot be made in ${folder} (${message}); check the directory and its permission.`;
    throw new FtError('FT_ERR_PKI_FILE', told, { path: folder, cause: code }, thrown);
  } finally {
    if (work !== undefined) rmSync(work, { recursive: true, force: true });
  }
}

function put(from: string, to: string, mode: number): void {
  chmodSync(from, mode);
  renameSync(from, to);
}

function certificateAt(file: string): X509Certificate {
  try {
    return new X509Certificate(readFileSync(file));
  } catch (thrown) {
    const message = `The file ${file} cannot be read as a certificate.`;
    throw new FtError('FT_ERR_PKI_FILE', message, { path: file }, thrown);
  }
}

function expiryOf(file: string): Date {
  return new Date(Date.parse(certificateAt(file).validTo));
}
