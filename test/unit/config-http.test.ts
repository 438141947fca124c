/** --http, --http-peer and --http-token-file: what goes together, and what is refused by name. */
import { FtError } from '../../src/common/errors';
import { readStandbyConfig, type StandbyConfig } from '../../src/config/config';
import type { HttpConfig } from '../../src/config/http';

const BASE = [
  ...['--machine', 'simulated', '--sim-port', '7777', '--witness', 'file:/w'],
  ...['--listen', '127.0.0.1:7001'],
];
const TLS = ['--tls-ca', 'ca.pem', '--tls-cert', 'node.pem', '--tls-key', 'node.key'];

function http(...words: string[]): HttpConfig | undefined {
  const request = readStandbyConfig([...BASE, ...words]);
  if (request.kind !== 'run') throw new Error(`expected a run, got ${request.kind}`);
  const config: StandbyConfig = request.config;
  return config.http;
}

function refusal(...words: string[]): string {
  try {
    http(...words);
  } catch (thrown) {
    if (thrown instanceof FtError && thrown.code === 'FT_ERR_CONFIG') return thrown.message;
  }
  throw new Error('nothing was refused');
}

test('nothing is served unless it is asked for', () => {
  expect(http()).toBeUndefined();
  expect(refusal('--http-peer', 'http://127.0.0.1:1')).toMatch(/--http-peer.*with --http only/);
  expect(refusal('--http-token-file', '/t')).toMatch(/--http-token-file.*with --http only/);
});

test('loopback is plain, with or without certificates; peers are origins', () => {
  const words = ['--http', '127.0.0.1:0', '--http-peer', 'http://127.0.0.1:9102/'];
  const expected = {
    address: { host: '127.0.0.1', port: 0 },
    ...{ tls: false, peers: ['http://127.0.0.1:9102'], tokenFile: undefined },
  };
  expect(http(...words)).toEqual(expected);
  expect(http(...words, ...TLS)).toEqual(expected);
});

test('off loopback there is TLS, or the operator says that the network is trusted', () => {
  const words = ['--http', '0.0.0.0:9100', '--http-token-file', '/t'];
  expect(refusal(...words)).toMatch(/--http 0\.0\.0\.0:9100 .*--tls-cert.*--insecure/);
  expect(http(...words, '--insecure')).toMatchObject({ tls: false, tokenFile: '/t' });
  expect(http(...words, ...TLS)).toMatchObject({ tls: true });
  // Browsers open no plain socket from a page that came by HTTPS.
  const mixed = refusal(...words, ...TLS, '--http-peer', 'http://host-b:9100');
  expect(mixed).toMatch(/--http-peer.*https:/);
});

test.each([
  'host-b:9100',
  'ftp://host-b',
  'http://u:p@host-b',
  'http://host-b/path',
  'http://',
  '',
])('a peer is no %j', (peer) => {
  expect(refusal('--http', '127.0.0.1:0', `--http-peer=${peer}`)).toContain('--http-peer');
});

test('peers are counted', () => {
  const peers = Array.from({ length: 9 }, (_, n) => ['--http-peer', `http://127.0.0.1:${n + 1}`]);
  expect(http('--http', '127.0.0.1:0', ...peers.slice(1).flat())?.peers).toHaveLength(8);
  expect(refusal('--http', '127.0.0.1:0', ...peers.flat())).toMatch(/at most 8/);
});
