/** ftctl pki: an authority and certificates that fit what the nodes ask of them. */

import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { readCtlWords } from '../../src/cli/ctl/read-words';
import { CTL_COMMANDS } from '../../src/cli/ctl/table';
import { FtError } from '../../src/common/errors';
import { TlsMaterial, type TlsPaths } from '../../src/transport/tls';
import { mayRead } from '../../src/transport/tls-names';

const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-pki-'));
const authority = path.join(folder, 'web');
const filesOf = (name: string): TlsPaths => ({
  ca: path.join(authority, name, 'ca.pem'),
  cert: path.join(authority, name, 'cert.pem'),
  key: path.join(authority, name, 'key.pem'),
});

let said = '';
beforeEach(() => {
  said = '';
  jest.spyOn(process.stdout, 'write').mockImplementation((text) => {
    said += String(text);
    return true;
  });
});
afterEach(() => jest.restoreAllMocks());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function ftctl(...words: string[]): unknown {
  const request = readCtlWords(CTL_COMMANDS, words);
  if (request.kind !== 'run') throw new Error('no command');
  return request.command.run(request.call);
}

function refusal(...words: string[]): FtError {
  try {
    ftctl(...words);
  } catch (thrown) {
    if (thrown instanceof FtError) return thrown;
    throw thrown;
  }
  throw new Error('nothing was refused');
}

test('an authority, two nodes that fit each other, and a reader that is no node', () => {
  expect(ftctl('pki', 'init', authority, '--pair', 'web')).toBe(0);
  expect(said).toContain('ftctl pki node');
  expect(statSync(authority).mode & 0o777).toBe(0o700);
  expect(statSync(path.join(authority, 'ca.key')).mode & 0o777).toBe(0o600);
  const ca = new X509Certificate(readFileSync(path.join(authority, 'ca.pem')));
  expect(ca.ca).toBe(true);
  // For hosts whose clocks are behind.
  const hoursAgo = (Date.now() - Date.parse(ca.validFrom)) / 3_600_000;
  expect(hoursAgo).toBeCloseTo(1, 1);
  const years = (Date.parse(ca.validTo) - Date.now()) / (365 * 86_400_000);
  expect(years).toBeCloseTo(10, 1);
  for (const node of ['a', 'b']) {
    ftctl('pki', 'node', authority, '--node', node, '--host', '192.0.2.1', '--host', 'x.example');
    const material = TlsMaterial.load(filesOf(node), { pair: 'web', node });
    expect(material.names).toEqual({ subject: `CN=${node}`, pairs: ['web'], node });
    expect(statSync(filesOf(node).key).mode & 0o777).toBe(0o600);
    const certificate = new X509Certificate(readFileSync(filesOf(node).cert));
    expect(certificate.checkHost('x.example')).toBe('x.example');
    expect(certificate.checkIP('192.0.2.1')).toBe('192.0.2.1');
    expect(certificate.ca).toBe(false);
    expect(Date.parse(certificate.validFrom)).toBeLessThan(Date.now() - 3_590_000);
  }
  ftctl('pki', 'reader', authority, '--name', 'prometheus');
  const load = (): unknown => TlsMaterial.load(filesOf('prometheus'), { pair: 'web', node: 'a' });
  expect(load).toThrow(/names no pair/);
  const certificate = new X509Certificate(readFileSync(filesOf('prometheus').cert));
  expect(certificate.checkIssued(ca)).toBe(true);
  expect([mayRead(certificate, 'web'), mayRead(certificate, 'other')]).toEqual([true, false]);
  expect(readdirSync(authority).filter((name) => name.startsWith('.'))).toEqual([]);
});

test('made again, a node’s certificate is a new one with a new key', () => {
  const before = readFileSync(filesOf('a').key, 'utf8');
  ftctl('pki', 'node', authority, '--node', 'a', '--host', '::1', '--days', '3');
  expect(readFileSync(filesOf('a').key, 'utf8')).not.toBe(before);
  const material = TlsMaterial.load(filesOf('a'), { pair: 'web', node: 'a' });
  expect((material.expirySeconds - Date.now() / 1000) / 86_400).toBeCloseTo(3, 1);
});

test('nobody’s key is replaced by that of somebody else', () => {
  const key = readFileSync(filesOf('a').key, 'utf8');
  const error = refusal('pki', 'reader', authority, '--name', 'a');
  expect(error.code).toBe('FT_ERR_PKI_EXISTS');
  expect(error.message).toMatch(/certificate of node a, and not of reader a/);
  const out = path.join(authority, 'a');
  const other = refusal('pki', 'node', authority, '--node', 'c', '--host', 'h', '--out', out);
  expect(other.code).toBe('FT_ERR_PKI_EXISTS');
  const reader = refusal('pki', 'node', authority, '--node', 'prometheus', '--host', 'h');
  expect(reader.code).toBe('FT_ERR_PKI_EXISTS');
  expect(readFileSync(filesOf('a').key, 'utf8')).toBe(key);
  expect(ftctl('pki', 'reader', authority, '--name', 'prometheus')).toBe(0);
});

test('the longest names fit into certificates', () => {
  const [pair, node] = ['p'.repeat(64), 'n'.repeat(64)];
  const long = path.join(folder, 'long $HOME #1');
  expect(ftctl('pki', 'init', long, '--pair', pair)).toBe(0);
  expect(ftctl('pki', 'node', long, '--node', node, '--host', 'h')).toBe(0);
  expect(ftctl('pki', 'node', long, '--node', node, '--host', 'h')).toBe(0);
});

test('what must not be is refused in words', () => {
  expect(refusal('pki', 'init', authority, '--pair', 'web').code).toBe('FT_ERR_PKI_EXISTS');
  const nowhere = path.join(folder, 'nowhere');
  expect(refusal('pki', 'node', nowhere, '--node', 'a', '--host', 'h').message).toMatch(/pki init/);
  for (const host of [
    'a b',
    'h,DNS:evil',
    'h:9100',
    '-x',
    'h\nURI:romulus:pair:other',
    '',
    'fe80::1%eth0',
  ]) {
    const error = refusal('pki', 'node', authority, '--node', 'a', '--host', host);
    expect(error.code).toBe('FT_ERR_CONFIG');
  }
  expect(refusal('pki', 'node', authority, '--node', 'a,b', '--host', 'h').code).toBe(
    'FT_ERR_CONFIG',
  );
  expect(refusal('pki', 'init', authority).message).toMatch(/--pair/);
  const { PATH } = process.env;
  process.env['PATH'] = '/nowhere';
  const error = refusal('pki', 'node', authority, '--node', 'a', '--host', 'h');
  process.env['PATH'] = PATH;
  expect(error.code).toBe('FT_ERR_OPENSSL_MISSING');
  expect(error.message).toMatch(/apt install openssl/);
});
