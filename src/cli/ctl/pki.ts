/**
 * ftctl pki: a small authority for a first set-up, and the certificates of the nodes and of those who
 * may read metrics. Whoever has an authority of their own does without: docs/security.md.
 */
import { isIP } from 'node:net';
import path from 'node:path';
import { configError } from '../../config/values';
import { type Issued, issue, makeAuthority } from '../pki/authority';
import { type CtlCall, type CtlCommand, CtlExitCode, type CtlFlag } from './command';

const DAYS_MAX = 36_500;
const days = (fallback: string): CtlFlag => ({
  name: 'days',
  value: 'N',
  type: { kind: 'integer', min: 1, max: DAYS_MAX },
  fallback,
  help: 'how long it is valid',
});
const OUT: CtlFlag = {
  name: 'out',
  value: 'DIR',
  type: { kind: 'path' },
  help: 'where the files go; DIR/NAME of the authority if absent',
  offers: 'files',
};
const AUTHORITY = { name: 'DIR', offers: 'files' } as const;

export const pkiInitCommand: CtlCommand = {
  name: 'pki init',
  summary: 'makes an authority for a pair, which signs the certificates of its nodes',
  about: [
    'Makes DIR/ca.pem and DIR/ca.key (EC P-256), with openssl. Whoever has ca.key can pretend to be ' +
      'any node of this pair: keep DIR off the hosts that run the nodes, best off the network.',
    'One authority for each pair. An authority that is there already is left alone.',
  ],
  operands: [AUTHORITY],
  flags: [
    { name: 'pair', value: 'NAME', type: { kind: 'name' }, help: "the pair's name, as in --pair" },
    days('3650'),
  ],
  asksNode: false,
  examples: [['pki init ~/pki/web --pair web', 'the authority of the pair "web"']],
  run: init,
};

export const pkiNodeCommand: CtlCommand = {
  name: 'pki node',
  summary: 'makes the certificate of a node',
  about: [
    'Makes ca.pem, cert.pem and key.pem for --tls-ca, --tls-cert and --tls-key of one node, with a ' +
      'new key each time. Copy them to its host, readable by the user of the node alone; a node that ' +
      'runs takes them up by itself within a minute, or at ftctl reload.',
    '--host names what browsers and Prometheus write to reach its --http port. Nodes know each ' +
      'other by the names of the pair and of the node, which are in the certificate as well.',
  ],
  operands: [AUTHORITY],
  flags: [
    { name: 'node', value: 'NAME', type: { kind: 'name' }, help: "the node's name, as in --node" },
    {
      name: 'host',
      value: 'HOST',
      repeats: true,
      help: 'a host name or address of the node',
    },
    OUT,
    days('365'),
  ],
  asksNode: false,
  examples: [
    ['pki node ~/pki/web --node host-a --host 192.0.2.1', 'the files are in ~/pki/web/host-a'],
    [
      'pki node ~/pki/web --node host-a --host 192.0.2.1 --host a.example',
      'the next year: the same',
    ],
  ],
  run: node,
};

export const pkiReaderCommand: CtlCommand = {
  name: 'pki reader',
  summary: 'makes a certificate that reads metrics and the dashboard, and is no node',
  about: [
    'Makes ca.pem, cert.pem and key.pem for Prometheus (tls_config) or a browser. A node lets it ' +
      'read its --http port off loopback; the replication port refuses it.',
  ],
  operands: [AUTHORITY],
  flags: [
    { name: 'name', value: 'NAME', type: { kind: 'name' }, help: 'whom it is for' },
    OUT,
    days('365'),
  ],
  asksNode: false,
  examples: [['pki reader ~/pki/web --name prometheus', 'the files are in ~/pki/web/prometheus']],
  run: reader,
};

export const PKI_COMMANDS = [pkiInitCommand, pkiNodeCommand, pkiReaderCommand] as const;

function init({ flags, operands }: CtlCall): CtlExitCode {
  const [folder = ''] = operands;
  const pair = flags.needed('pair', 'its authority signs for no other pair');
  const expires = makeAuthority(folder, pair, Number(flags.text('days')));
  process.stdout.write(
    `The authority of pair ${pair} is in ${folder}, valid until ${day(expires)}. Keep ` +
      `${path.join(folder, 'ca.key')} secret.\n` +
      `Next, for each host: ftctl pki node ${folder} --node NAME --host HOST\n`,
  );
  return CtlExitCode.ok;
}

function node({ flags, operands }: CtlCall): CtlExitCode {
  const [folder = ''] = operands;
  const name = flags.needed('node', 'the certificate is of one node');
  flags.needed('host', 'browsers and Prometheus check where they are; give it once for each name');
  const hosts = flags.all('host').map(checkHost);
  const issued = issue(
    folder,
    outOf(flags.text('out'), folder, name),
    {
      kind: 'node',
      name,
      hosts,
    },
    Number(flags.text('days')),
  );
  tell(`node ${name}`, issued);
  process.stdout.write(
    `Start the node with --node ${name} --tls-ca ${issued.ca} --tls-cert ${issued.cert} ` +
      `--tls-key ${issued.key}\n`,
  );
  return CtlExitCode.ok;
}

function reader({ flags, operands }: CtlCall): CtlExitCode {
  const [folder = ''] = operands;
  const name = flags.needed('name', 'it says whom the certificate is for');
  const out = outOf(flags.text('out'), folder, name);
  tell(`reader ${name}`, issue(folder, out, { kind: 'reader', name }, Number(flags.text('days'))));
  return CtlExitCode.ok;
}

function outOf(out: string | undefined, folder: string, name: string): string {
  return out ?? path.join(folder, name);
}

function tell(whose: string, { cert, expires }: Issued): void {
  process.stdout.write(
    `The certificate of ${whose} is ${cert}, valid until ${day(expires)}; its key is beside it.\n`,
  );
}

function day(date: Date): string {
  return date.toISOString().slice(0, 10);
}

/** What may stand in a certificate as a host's name. */
function checkHost(text: string): string {
  const label = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
  const named = text.length <= 253 && text.split('.').every((part) => label.test(part));
  // "fe80::1%eth0" is an address to Node; a certificate has no place for its zone.
  if ((isIP(text) !== 0 && !text.includes('%')) || named) return text;
  throw configError('host', text, 'a host name or an IP address, without a port or a zone (%)');
}
