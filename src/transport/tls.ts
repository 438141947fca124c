/**
 * This node's certificate, its key, and the authorities that it believes: read from PEM files,
 * checked before they are used, and read again without a restart.
 *
 *   load ──▶ in use ──reload()──▶ read · checked ── good ──▶ in use, listeners told (onReload)
 *                 ▲                     └── bad: FtError, and what was in use stays in use
 *                 └──────────────────────────┘
 *
 * Connections that are open live on with what they began with, unless their listener ends them; new
 * ones take the new material.
 */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';
import { FtError, toFtError } from '../common/errors';
import {
  type CertificateNames,
  namesOf,
  notAfterSeconds,
  ownerFault,
  type TlsOwner,
  timeFault,
} from './tls-names';

/** Paths of PEM files. */
export interface TlsPaths {
  /** One authority or several: all are believed, which is how one follows the other. */
  readonly ca: string;
  /** This node's certificate, then those between it and the authority, if any. */
  readonly cert: string;
  readonly key: string;
}

/** Certificates are a few kilobytes; whatever is larger is another file. */
const FILE_BYTES_MAX = 256 * 1024;
/** Certificates between ours and an authority. */
const CHAIN_MAX = 8;

interface Loaded {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly names: CertificateNames;
  /** Of ours, or of what it hangs on, whatever ends first; unix time. */
  readonly expirySeconds: number;
  readonly context: SecureContext;
  /** The files' state just before they were read. */
  readonly stamp: string;
}

export class TlsMaterial {
  private readonly listeners: ((authorities: boolean) => void)[] = [];

  private constructor(
    readonly paths: TlsPaths,
    /** Whose certificate it must be. */
    readonly owner: TlsOwner,
    private loaded: Loaded,
  ) {}

  /**
   * Reads and checks the files. Throws FT_ERR_TLS_FILE (unreadable, no PEM, refused by OpenSSL),
   * FT_ERR_TLS_KEY (not the certificate's), FT_ERR_TLS_ISSUER, FT_ERR_TLS_EXPIRED, FT_ERR_TLS_NOT_YET_VALID,
   * FT_ERR_TLS_PAIR or FT_ERR_TLS_NODE.
   */
  static load(paths: TlsPaths, owner: TlsOwner): TlsMaterial {
    return new TlsMaterial(paths, owner, read(paths, owner));
  }

  get names(): CertificateNames {
    return this.loaded.names;
  }

  /** When the first certificate that this node depends on expires; unix time. */
  get expirySeconds(): number {
    return this.loaded.expirySeconds;
  }

  /** For tls.createServer, https.createServer and setSecureContext: TLS 1.3 alone. */
  contextOptions(): SecureContextOptions {
    const { ca, cert, key } = this.loaded;
    return contextOptions(ca, cert, key);
  }

  /** The same, made once per load: for dialling. */
  secureContext(): SecureContext {
    return this.loaded.context;
  }

  /** Reads the files again. What is wrong with them, if anything: then nothing changes. */
  reload(): FtError | undefined {
    try {
      this.readAgain()();
    } catch (thrown) {
      return toFtError(thrown);
    }
    return undefined;
  }

  /** Reads and checks the files as load() does; what it returns puts them to use. */
  readAgain(): () => void {
    const loaded = read(this.paths, this.owner);
    return () => {
      const authorities = !loaded.ca.equals(this.loaded.ca);
      this.loaded = loaded;
      for (const listener of this.listeners) listener(authorities);
    };
  }

  /** `call` runs after each reload, and is told whether other authorities are believed than before. */
  onReload(call: (authorities: boolean) => void): void {
    this.listeners.push(call);
  }

  /** The state of the files as they lie there now, when it is not that of what is in use. */
  changedFiles(): string | undefined {
    const stamp = stampOf(this.paths);
    return stamp === this.loaded.stamp ? undefined : stamp;
  }
}

/**
 * ChaCha20-Poly1305 first: it may protect any number of records under one key, and a link lives for
 * months. AES-GCM may not (RFC 8446, 5.5), and Node has no way to ask for a new key.
 */
const CIPHERS = 'TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256';

function contextOptions(ca: Buffer, cert: Buffer, key: Buffer): SecureContextOptions {
  return {
    ...{ ca, cert, key, minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' },
    ...{ ciphers: CIPHERS, honorCipherOrder: true },
  };
}

/** OpenSSL has a word in every step, and what it takes depends on its version and its settings. */
function read(paths: TlsPaths, owner: TlsOwner): Loaded {
  try {
    return readChecked(paths, owner);
  } catch (thrown) {
    if (thrown instanceof FtError) throw thrown;
    const { ca, cert, key } = paths;
    const cause = toFtError(thrown).message;
    const message =
      `OpenSSL refuses what is in ${cert}, ${key} or ${ca} (${cause}); make a new certificate with ` +
      'ftctl pki node.';
    throw new FtError('FT_ERR_TLS_FILE', message, { path: cert, key, ca, cause }, thrown);
  }
}

function readChecked(paths: TlsPaths, owner: TlsOwner): Loaded {
  const stamp = stampOf(paths);
  const ca = readPem('--tls-ca', paths.ca);
  const cert = readPem('--tls-cert', paths.cert);
  const key = readPem('--tls-key', paths.key);
  const authorities = certificatesIn('--tls-ca', paths.ca, ca);
  const [own, ...between] = certificatesIn('--tls-cert', paths.cert, cert);
  if (own === undefined) throw noPem('--tls-cert', paths.cert, 'certificate');
  if (!own.checkPrivateKey(privateKey(paths.key, key))) {
    const message = `The key ${paths.key} is not that of the certificate ${paths.cert}; check --tls-key.`;
    throw new FtError('FT_ERR_TLS_KEY', message, { path: paths.key });
  }
  const names = namesOf(own);
  const chain = chainOf(own, between, authorities, paths);
  const fault = chain
    .map((one) => timeFault(one, one === own ? `The certificate ${paths.cert}` : 'The authority'))
    .find((found) => found !== undefined);
  if (fault !== undefined) throw fault;
  const foreign = ownerFault(names, owner, paths.cert);
  if (foreign !== undefined) throw foreign;
  const expirySeconds = Math.min(...chain.map(notAfterSeconds));
  if (Number.isNaN(expirySeconds)) throw noPem('--tls-cert', paths.cert, 'readable day of expiry');
  const context = createSecureContext(contextOptions(ca, cert, key));
  return { ca, cert, key, names, expirySeconds, context, stamp };
}

/** From ours up to an authority. Throws FT_ERR_TLS_ISSUER. */
function chainOf(
  own: X509Certificate,
  between: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
  paths: TlsPaths,
): readonly X509Certificate[] {
  const chain = [own];
  for (let last = own; chain.length <= CHAIN_MAX; ) {
    const signed = (by: X509Certificate): boolean =>
      last.checkIssued(by) && last.verify(by.publicKey);
    const authority = authorities.find(signed);
    if (authority !== undefined) return [...chain, authority];
    const next = between.find(signed);
    if (next === undefined) break;
    chain.push(next);
    last = next;
  }
  const message =
    `The certificate ${paths.cert} is not signed by an authority in ${paths.ca}; check --tls-ca and ` +
    '--tls-cert.';
  throw new FtError('FT_ERR_TLS_ISSUER', message, { path: paths.cert, ca: paths.ca });
}

function certificatesIn(flag: string, path: string, pem: Buffer): X509Certificate[] {
  const blocks = pem
    .toString('latin1')
    .match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g);
  if (blocks === null) throw noPem(flag, path, 'certificate');
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (thrown) {
    throw noPem(flag, path, 'certificate', thrown);
  }
}

function privateKey(path: string, pem: Buffer): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (thrown) {
    throw noPem('--tls-key', path, 'key without a passphrase', thrown);
  }
}

function noPem(flag: string, path: string, what: string, cause?: unknown): FtError {
  const message = `The file ${path} holds no ${what} in PEM; check ${flag}.`;
  return new FtError('FT_ERR_TLS_FILE', message, { flag, path }, cause);
}

function readPem(flag: string, path: string): Buffer {
  try {
    if (statSync(path).size <= FILE_BYTES_MAX) return readFileSync(path);
  } catch (thrown) {
    const cause = (thrown as NodeJS.ErrnoException).code ?? 'unknown';
    const message = `The file ${path} cannot be read (${cause}); check ${flag} and its permission.`;
    throw new FtError('FT_ERR_TLS_FILE', message, { flag, path, cause }, thrown);
  }
  throw noPem(flag, path, 'certificate or key');
}

/** Changes whenever one of the files is written or replaced. */
function stampOf(paths: TlsPaths): string {
  return [paths.ca, paths.cert, paths.key]
    .map((path) => {
      try {
        const { ino, size, mtimeMs } = statSync(path);
        return `${ino}.${size}.${mtimeMs}`;
      } catch {
        return 'none';
      }
    })
    .join(' ');
}
