/**
 * The node's HTTP server off loopback, over TLS: which certificates open the reader's paths, what a
 * handshake may cost, and that new certificates and authorities are taken while the server runs.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { get } from 'node:https';
import { connect as connectPlain } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { connect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { WebSocket } from 'ws';
import { httpThrottle } from '../../src/cli/http-throttle';
import { FEED_PROTOCOL, Feed } from '../../src/observe/dashboard/feed';
import { HttpAccess } from '../../src/observe/http-access';
import {
  HTTP_LIMITS,
  type HttpLimits,
  type HttpRoute,
  HttpServer,
  type HttpThrottle,
  type HttpTls,
  plain,
} from '../../src/observe/http-server';
import { namesOf } from '../../src/transport/tls-names';
import { type CertificateFiles, TestAuthority } from '../support/certificates';
import { pipelined, STRETCH_MS_MAX, stretchOf } from '../support/pipelined';

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
  private ca = ours.ca;
  private changed: (authorities: boolean) => void = () => undefined;

  contextOptions(): { ca: Buffer; cert: Buffer; key: Buffer } {
    return { ca: readFileSync(this.ca), ...pem(this.files) };
  }

  onReload(changed: (authorities: boolean) => void): void {
    this.changed = changed;
  }

  renew(): void {
    this.files = renewed;
    this.changed(false);
  }

  believe(ca: string): void {
    this.ca = ca;
    this.changed(true);
  }
}

/** A server with two routes, and a feed of its own. */
function makeServer(
  tls: Material,
  limits: Partial<HttpLimits> = {},
  throttle?: HttpThrottle,
): HttpServer {
  const feed = new Feed(() => ({ type: 'hello' }));
  feeds.push(feed);
  const access = new HttpAccess({
    tls: true,
    token: undefined,
    peers: [],
    host: '127.0.0.1',
    isReader: (certificate) => namesOf(certificate).pairs.includes('web'),
  });
  const routes = new Map<string, HttpRoute>([
    ['/livez', { access: 'open', answer: () => plain(200, 'yes') }],
    ['/metrics', { access: 'reader', answer: () => plain(200, 'ft_x 1') }],
  ]);
  const options = { access, tls, routes, feedPath: '/feed', feed, throttle };
  return new HttpServer(options, { ...HTTP_LIMITS, ...limits });
}

const material = new Material();
const feeds: Feed[] = [];
const server = makeServer(material);
let port = 0;

beforeAll(async () => {
  ({ port } = await server.listen({ host: '127.0.0.1', port: 0 }));
});

afterAll(async () => {
  for (const feed of feeds) feed.close();
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

/** A connection of a stranger's, or of whoever has these files, after the handshake. */
function open(session?: Buffer, files?: CertificateFiles, at = port): Promise<TLSSocket> {
  const shown = files === undefined ? {} : pem(files);
  const options = { host: '127.0.0.1', port: at, ca: readFileSync(ours.ca), session, ...shown };
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
  expect([refused.longestMs, answered.longestMs].filter((ms) => ms >= STRETCH_MS_MAX)).toEqual([]);
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

test('other authorities: whoever came by the ones before is let go, and is no reader again', async () => {
  const files = ours.issueNode('host-e', 'web');
  const stays = await open(undefined, files);
  const closed = new Promise((resolve) => stays.once('close', resolve));
  const options = { ca: readFileSync(ours.ca), ...pem(files) };
  const feed = new WebSocket(`wss://127.0.0.1:${port}/feed`, [FEED_PROTOCOL], options);
  await new Promise((resolve) => feed.once('open', resolve));
  const left = new Promise<number>((resolve) => feed.once('close', resolve));
  material.believe(theirs.ca);
  await closed;
  expect(await left).toBe(1001);
  expect(await status('/metrics', files)).toBe(401);
  material.believe(ours.ca);
  expect(await status('/metrics', files)).toBe(200);
});

describe('before a handshake is done', () => {
  const hurried = makeServer(new Material(), { requestMsMax: 1000 }, httpThrottle(true));
  let at = 0;

  beforeAll(async () => {
    ({ port: at } = await hurried.listen({ host: '127.0.0.1', port: 0 }));
  });

  afterAll(() => hurried.close());

  /** How long a connection is borne that sends this, and nothing more. */
  function borneMs(bytes: Buffer): Promise<number> {
    const since = performance.now();
    return new Promise((resolve) => {
      const socket = connectPlain({ host: '127.0.0.1', port: at }, () => socket.write(bytes));
      socket.on('error', () => undefined);
      socket.on('close', () => resolve(performance.now() - since));
    });
  }

  test('what begins no handshake, or a long one, is cut off at once; slow ones later', async () => {
    expect(await borneMs(Buffer.from('GET /livez HTTP/1.1\r\n\r\n'))).toBeLessThan(500);
    // The beginning of a hello of 8 KB, whose rest TLS would wait for.
    expect(await borneMs(Buffer.from([0x16, 3, 1, 0x20, 0, 1]))).toBeLessThan(500);
    const slow = await Promise.all([borneMs(Buffer.alloc(0)), borneMs(Buffer.from([0x16, 3, 1]))]);
    for (const ms of slow) expect(ms).toBeGreaterThan(800);
  });

  test('only a handshake is short of bytes: whoever is through may send on', async () => {
    const reader = await open(undefined, ours.issueNode('host-f', 'web'), at);
    const got = await new Promise<string>((resolve) => {
      let text = '';
      reader.on('data', (bytes: Buffer) => {
        text += bytes.toString('latin1');
      });
      reader.on('close', () => resolve(text));
      const one = `GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(500)}\r\n`;
      reader.write(`${`${one}\r\n`.repeat(100)}${one}Connection: close\r\n\r\n`);
    });
    expect(got.match(/HTTP\/1\.1 200 /g)).toHaveLength(101);
  });
});
