/** Certificates for a test, made by openssl: an authority of its own, and what it signs. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';

/** Paths of PEM files. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

export class TestAuthority {
  readonly ca: string;
  private readonly key: string;

  /** Makes the authority's own files in `folder`, which must exist. */
  constructor(
    private readonly folder: string,
    private readonly name: string,
  ) {
    this.ca = path.join(folder, `${name}.pem`);
    this.key = path.join(folder, `${name}.key`);
    const subject = ['-subj', `/CN=${name}`, '-days', '2'];
    openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...[...subject, '-keyout', this.key, '-out', this.ca],
    );
  }

  /** A certificate for servers and clients on `hosts`, such as ["IP:127.0.0.1"]. */
  issue(name: string, hosts: readonly string[] = ['IP:127.0.0.1']): CertificateFiles {
    const file = (suffix: string): string =>
      path.join(this.folder, `${this.name}-${name}.${suffix}`);
    const [cert, key, request] = [file('pem'), file('key'), file('csr')];
    openssl(
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
      ...['-subj', `/CN=${name}`, '-keyout', key, '-out', request],
      ...['-addext', `subjectAltName=${hosts.join(',')}`],
      ...['-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
    );
    openssl(
      ...['x509', '-req', '-in', request, '-CA', this.ca, '-CAkey', this.key, '-CAcreateserial'],
      ...['-copy_extensions', 'copyall', '-days', '2', '-out', cert],
    );
    return { cert, key };
  }
}

function openssl(...words: string[]): void {
  const { status, stderr, error } = spawnSync('openssl', words, { encoding: 'utf8' });
  if (status === 0) return;
  throw new Error(`openssl ${words.join(' ')} failed: ${error?.message ?? stderr}`);
}
