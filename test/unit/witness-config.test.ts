/** The flags of the etcd witness: what they become, and what is refused. */
import { FtError } from '../../src/common/errors';
import { readStandbyConfig } from '../../src/config/config';
import type { WitnessConfig } from '../../src/config/witness';

const BASE = ['--machine', 'simulated', '--sim-port', '7777', '--listen', '127.0.0.1:1'];
const LOCAL = 'etcd:http://127.0.0.1:2379';
const SECURE = 'etcd:https://etcd-1.example:2379';

function witnessOf(...words: string[]): WitnessConfig {
  const request = readStandbyConfig([...BASE, '--witness', ...words]);
  if (request.kind !== 'run') throw new Error(`expected a run, got ${request.kind}`);
  return request.config.witness;
}

function refusalOf(...words: string[]): string {
  try {
    witnessOf(...words);
  } catch (thrown) {
    if (thrown instanceof FtError && thrown.code === 'FT_ERR_CONFIG') return thrown.message;
  }
  throw new Error('nothing was refused');
}

test('one endpoint, and the defaults', () => {
  expect(witnessOf(LOCAL)).toEqual({
    ...{ kind: 'etcd', endpoints: ['http://127.0.0.1:2379'], prefix: '/romulus' },
    ...{ tls: { ca: undefined, cert: undefined, key: undefined }, user: undefined },
  });
});

test('everything', () => {
  const config = witnessOf(
    `${SECURE},https://[2001:db8::2]:2379/`,
    ...['--witness-prefix', '/site/romulus', '--witness-ca', 'ca.pem'],
    ...['--witness-cert', 'c.pem', '--witness-key', 'k.pem'],
    ...['--witness-user', 'romulus', '--witness-password-file', 'secret'],
  );
  expect(config).toEqual({
    kind: 'etcd',
    endpoints: ['https://etcd-1.example:2379', 'https://[2001:db8::2]:2379'],
    prefix: '/site/romulus',
    tls: { ca: 'ca.pem', cert: 'c.pem', key: 'k.pem' },
    user: { name: 'romulus', passwordFile: 'secret' },
  });
});

test('plain http leaves the host only by --insecure', () => {
  const remote = 'etcd:http://192.0.2.7:2379';
  expect(refusalOf(remote)).toMatch(/http is not encrypted; use https, or add --insecure/);
  expect(witnessOf(remote, '--insecure')).toMatchObject({ endpoints: ['http://192.0.2.7:2379'] });
});

test.each([
  ['a key without its certificate', [SECURE, '--witness-key', 'k'], '--witness-cert is missing'],
  ['a certificate without its key', [SECURE, '--witness-cert', 'c'], '--witness-key is missing'],
  ['a user without a password', [LOCAL, '--witness-user', 'u'], 'password-file is missing'],
  ['a password of nobody', [LOCAL, '--witness-password-file', 'p'], '--witness-user is missing'],
  ['a CA over http', [LOCAL, '--witness-ca', 'ca.pem'], 'https:// endpoints only'],
  ['a prefix without a slash', [LOCAL, '--witness-prefix', 'romulus'], 'such as /romulus'],
  ['a prefix that ends in one', [LOCAL, '--witness-prefix', '/romulus/'], 'such as /romulus'],
  ['an empty prefix', [LOCAL, '--witness-prefix', ''], 'such as /romulus'],
  ['etcd flags with a directory', ['file:/w', '--witness-user', 'u'], '--witness etcd:URL only'],
  ['etcd flags with no witness', ['none', '--witness-prefix', '/x'], '--witness etcd:URL only'],
])('%s is refused', (_what, words, text) => {
  expect(refusalOf(...words)).toContain(text);
});
