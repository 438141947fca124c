/**
 * The node's HTTP server off loopback, over TLS: which certificates open the reader's paths, and that
 * a new certificate is taken while the server runs.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { get } from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import { FEED_PROTOCOL, Feed } from '../../src/observe/dashboard/feed';
import { HttpAccess } from '../../src/observe/http-access';
import { HttpServer, type HttpTls, plain } from '../../src/observe/http-server';
import { namesOf } from '../../src/transport/tls-names';
import { type CertificateFiles, TestAuthority } from '../support/certificates';
import { pipelined, stretchOf } from '../support/pipelined';

const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-https-'));
const ours = new TestAuthority(folder, 'ours');
const theirs = new TestAuthority(folder, 'theirs');
const node = ours.issueNode('host-a', 'web');
const renewed = ours.issueNode('host-a', 'web', 'host-a-renewed');

const pem = (files: CertificateFiles): { cert: Buffer; key: Buffer } => ({
  cert: readFileSync(files.cert),
  key: readFileSync(files.key),
});

/** What transport's TlsMaterial is to the server. */
class Material implements HttpTls {
  private files: CertificateFiles = node;
  private changed: () => void = () => undefined;

  contextOptions(): { ca: Buffer; cert: Buffer; key: Buffer } {
    return { ca: readFileSync(ours.ca), ...pem(this.files) };
  }

  onReload(changed: () => void): void {
    this.changed = changed;
  }

  renew(): void {
    this.files = renewed;
    this.changed();
  }
}

const material = new Material();
const feed = new Feed(() => ({ type: 'hello' }));
let server: HttpServer;
let port = 0;

beforeAll(async () => {
  server = new HttpServer({
    access: new HttpAccess({
      tls: true,
      token: undefined,
      peers: [],
      host: '127.0.0.1',
      isReader: (certificate) => namesOf(certificate).pairs.includes('web'),
    }),
    tls: material,
    routes: new Map([
      ['/livez', { access: 'open', answer: () => plain(200, 'yes') }],
      ['/metrics', { access: 'reader', answer: () => plain(200, 'ft_x 1') }],
    ]),
    feedPath: '/feed',
    onFeed: (request, socket, head) => feed.accept(request, socket, head),
  });
  ({ port } = await server.listen({ host: '127.0.0.1', port: 0 }));
});

afterAll(async () => {
  feed.close();
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The status of a request; 0 when the connection ended without an answer. */
function status(where: string, files?: CertificateFiles): Promise<number> {
  const options = {
    ...{ host: '127.0.0.1', port, path: where, ca: readFileSync(ours.ca), agent: false },
    ...(files === undefined ? {} : pem(files)),
  };
  return new Promise((resolve) => {
    const asked = get(options, (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode ?? 0));
    });
    asked.on('error', () => resolve(0));
  });
}

function feedStatus(files?: CertificateFiles): Promise<number> {
  const options = { ca: readFileSync(ours.ca), ...(files === undefined ? {} : pem(files)) };
  return new Promise((resolve) => {
    const socket = new WebSocket(`wss://127.0.0.1:${port}/feed`, [FEED_PROTOCOL], options);
    socket.on('open', () => {
      socket.terminate();
      resolve(101);
    });
    socket.on('unexpected-response', (asked, response) => {
      asked.destroy();
      resolve(response.statusCode ?? 0);
    });
    socket.on('error', () => resolve(0));
  });
}

test.each([
  ['none', undefined, false],
  ['of another node of the pair', ours.issueNode('host-b', 'web'), true],
  ['of another pair, by the same authority', ours.issueNode('host-c', 'mail'), false],
  ['of no pair', ours.issue('somebody'), false],
  ['expired', ours.issueNodeAt('host-b', 'web', 2020), false],
  ['not valid yet', ours.issueNodeAt('host-b', 'web', 2090), false],
  ['by another authority', theirs.issueNode('host-b', 'web'), false],
])('certificate: %s', async (_name, files, isReader) => {
  expect(await status('/livez', files)).toBe(200);
  expect(await status('/metrics', files)).toBe(isReader ? 200 : 401);
  expect(await feedStatus(files)).toBe(isReader ? 101 : 401);
});

/** A connection of a stranger's, after the handshake. */
function open(session?: Buffer): Promise<TLSSocket> {
  const options = { host: '127.0.0.1', port, ca: readFileSync(ours.ca), session };
  return new Promise((resolve, reject) => {
    const socket = connect(options, () => resolve(socket));
    socket.on('error', reject);
  });
}

test('a packet of requests is answered one by one, and holds nobody else up', async () => {
  expect(await status('/livez')).toBe(200);
  const refused = await stretchOf(await open(), pipelined(2500, 'a', '/metrics'));
  expect(refused.got).toMatch(/^HTTP\/1\.1 401 /);
  expect(refused.got.match(/HTTP\/1\.1 /g)).toHaveLength(1);
  const answered = await stretchOf(await open(), pipelined(2500, '127.0.0.1'));
  expect(answered.got.match(/HTTP\/1\.1 200 /g)).toHaveLength(1000);
  expect([refused.longestMs, answered.longestMs].filter((ms) => ms >= 20)).toEqual([]);
  expect(await status('/livez')).toBe(200);
});

test('no session is taken up again: each connection shows its certificate', async () => {
  const socket = await open();
  const session = new Promise<Buffer>((resolve) => socket.once('session', resolve));
  const again = await open(await session);
  expect(again.isSessionReused()).toBe(false);
  socket.destroy();
  again.destroy();
});

test('older versions of TLS, and plain HTTP, are not spoken', async () => {
  const outcome = await new Promise<string>((resolve) => {
    const socket = connect({
      ...{ host: '127.0.0.1', port, ca: readFileSync(ours.ca) },
      ...{ minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' },
    });
    socket.on('secureConnect', () => resolve('connected'));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
  expect(outcome).toBe('ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  await expect(fetch(`http://127.0.0.1:${port}/livez`)).rejects.toThrow();
});

test('a new certificate is taken at once by who comes then, and nobody is cut off', async () => {
  const serial = (socket: TLSSocket): string => {
    const certificate: PeerCertificate = socket.getPeerCertificate();
    return certificate.serialNumber;
  };
  const before = await open();
  material.renew();
  const after = await open();
  expect(serial(after)).not.toBe(serial(before));
  before.write('GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
  const answer = await new Promise<string>((resolve) =>
    before.once('data', (bytes: Buffer) => resolve(bytes.toString('latin1'))),
  );
  expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  expect(await status('/metrics', ours.issueNode('host-d', 'web'))).toBe(200);
  before.destroy();
  after.destroy();
});
