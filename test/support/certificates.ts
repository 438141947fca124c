/** Certificates for a test, made by openssl: an authority of its own, and what it signs. */
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';

/** Words of openssl for a key as all certificates have one. */
const EC_KEY: readonly string[] = ['ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];

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
    subject = `/CN=${name}`,
  ) {
    this.ca = path.join(folder, `${name}.pem`);
    this.key = path.join(folder, `${name}.key`);
    openssl(
      ...['req', '-x509', '-newkey', ...EC_KEY, '-nodes'],
      ...['-subj', subject, '-days', '2', '-keyout', this.key, '-out', this.ca],
    );
  }

  /** A certificate for servers and clients on `hosts`, such as ["IP:127.0.0.1"]. */
  issue(
    name: string,
    hosts: readonly string[] = ['IP:127.0.0.1'],
    subject = `/CN=${name}`,
    newKey = EC_KEY,
  ): CertificateFiles {
    const file = (suffix: string): string =>
      path.join(this.folder, `${this.name}-${name}.${suffix}`);
    const [cert, key, request] = [file('pem'), file('key'), file('csr')];
    openssl(
      ...['req', '-newkey', ...newKey, '-nodes'],
      ...['-subj', subject, '-keyout', key, '-out', request],
      ...['-addext', `subjectAltName=${hosts.join(',')}`],
      ...['-addext', 'extendedKeyUsage=serverAuth,clientAuth'],
    );
    openssl(
      ...['x509', '-req', '-in', request, '-CA', this.ca, '-CAkey', this.key, '-CAcreateserial'],
      ...['-copy_extensions', 'copyall', '-days', '2', '-out', cert],
    );
    return { cert, key };
  }

  /** A node's certificate, as `ftctl pki node` names it. */
  issueNode(node: string, pair: string, file = node): CertificateFiles {
    return this.issue(file, nodeNames(node, pair));
  }

  /** The same key in a certificate that was valid in January 2020, or that will be in 2090. */
  issueNodeAt(node: string, pair: string, year: 2020 | 2090): CertificateFiles {
    const { key } = this.issueNode(node, pair, `${node}-${year}`);
    const file = (suffix: string): string =>
      path.join(this.folder, `${this.name}-${node}-${year}.${suffix}`);
    const config = file('cnf');
    writeFileSync(file('index'), '');
    writeFileSync(file('serial'), '1001\n');
    writeFileSync(
      config,
      [
        ...['[ca]', 'default_ca=one', '[one]', `database=${file('index')}`],
        ...[`serial=${file('serial')}`, 'policy=any', 'default_md=sha256'],
        ...['copy_extensions=copyall', `new_certs_dir=${this.folder}`, 'unique_subject=no'],
        ...['[any]', 'commonName=supplied', ''],
      ].join('\n'),
    );
    const cert = file('dated.pem');
    openssl(
      ...['ca', '-batch', '-notext', '-config', config, '-cert', this.ca, '-keyfile', this.key],
      ...['-startdate', `${year}0101000000Z`, '-enddate', `${year}0201000000Z`],
      ...['-in', file('csr'), '-out', cert],
    );
    return { cert, key };
  }
}

export function nodeNames(node: string, pair: string): readonly string[] {
  return ['IP:127.0.0.1', `URI:romulus:pair:${pair}`, `URI:romulus:node:${node}`];
}

function openssl(...words: string[]): void {
  const { status, stderr, error } = spawnSync('openssl', words, { encoding: 'utf8' });
  if (status === 0) return;
  throw new Error(`openssl ${words.join(' ')} failed: ${error?.message ?? stderr}`);
}
