/** TLS between nodes: who gets in, who does not and what it is told, and new certificates. */
import { X509Certificate } from 'node:crypto';
import { appendFileSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket } from 'node:tls';
import type { Address } from '../../src/common/address';
import { FtError } from '../../src/common/errors';
import { nativeSockets } from '../../src/machine';
import { CLIENT_HELLO_BYTES_MAX, judgeClientHello } from '../../src/transport/client-hello';
import { type Connection, closedByPeer } from '../../src/transport/connection';
import { dial, type TcpConnection } from '../../src/transport/tcp';
import { HANDSHAKE_DEADLINE_MS, TcpListener } from '../../src/transport/tcp-listener';
import { TlsMaterial, type TlsPaths } from '../../src/transport/tls';
import { mayRead, uriNames } from '../../src/transport/tls-names';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import { BODY_BYTES_MAX, type FrameHeader, FrameType } from '../../src/wire/frame';
import { unpackRefuse } from '../../src/wire/messages';
import { type CertificateFiles, nodeNames, TestAuthority } from '../support/certificates';

const LOOPBACK: Address = { host: '127.0.0.1', port: 0 };
const HEADER: FrameHeader = { type: FrameType.epoch, flags: 0, generation: 1, epoch: 1 };

/** More and longer names than one message could hold. */
const MANY_PAIRS = Array.from({ length: 64 }, (_, n) => `p${n}-`.padEnd(64, 'x'));

const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-tls-'));
const authority = new TestAuthority(folder, 'ours');
const strangers = new TestAuthority(folder, 'theirs');
const nameless = new TestAuthority(folder, 'nameless', '/');
const pathsOf = (files: CertificateFiles, ca = authority.ca): TlsPaths => ({ ca, ...files });
const files = {
  a: authority.issueNode('a', 'drill'),
  b: authority.issueNode('b', 'drill'),
  otherPair: authority.issueNode('c', 'other'),
  expired: authority.issueNodeAt('d', 'drill', 2020),
  future: authority.issueNodeAt('e', 'drill', 2090),
  otherCa: strangers.issueNode('a', 'drill'),
  noSubject: authority.issue('n', nodeNames('a', 'drill'), '/'),
  noIssuer: nameless.issueNode('a', 'drill'),
  noNames: { cert: nameless.ca, key: path.join(folder, 'nameless.key') },
  manyPairs: authority.issue(
    'm',
    MANY_PAIRS.map((pair) => `URI:romulus:pair:${pair}`),
  ),
};
const load = (which: CertificateFiles, node: string, pair = 'drill'): TlsMaterial =>
  TlsMaterial.load(pathsOf(which), { pair, node });
const a = load(files.a, 'a');
const pem = (file: string): Buffer => readFileSync(file);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error('waited 5 s in vain');
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function faultOf(call: () => unknown): FtError {
  try {
    call();
  } catch (thrown) {
    if (thrown instanceof FtError) return thrown;
    throw thrown;
  }
  throw new Error('nothing was thrown');
}

describe('a node’s own certificate', () => {
  test('names pair, node and the day it expires', () => {
    expect(a.names).toEqual({ subject: 'CN=a', pairs: ['drill'], node: 'a' });
    const days = (a.expirySeconds - Date.now() / 1000) / 86_400;
    expect(days).toBeGreaterThan(1.9);
    expect(days).toBeLessThan(2.1);
    expect(a.contextOptions()).toMatchObject({ minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' });
  });

  test.each<[string, () => TlsPaths, string, RegExp]>([
    ['a file that is not there', () => ({ ...pathsOf(files.a), ca: '/nowhere' }), 'FILE', /ENOENT/],
    [
      'a key for a certificate',
      () => ({ ...pathsOf(files.a), cert: files.a.key }),
      'FILE',
      /--tls-cert/,
    ],
    ['no key', () => ({ ...pathsOf(files.a), key: files.a.cert }), 'FILE', /--tls-key/],
    ['another’s key', () => ({ ...pathsOf(files.a), key: files.b.key }), 'KEY', /not that of/],
    ['another authority', () => pathsOf(files.a, strangers.ca), 'ISSUER', /not signed by/],
    ['an old certificate', () => pathsOf(files.expired), 'EXPIRED', /2020-02-01.*ftctl pki node/],
    ['one for later', () => pathsOf(files.future), 'NOT_YET_VALID', /clocks of both hosts/],
    ['another pair’s', () => pathsOf(files.otherPair), 'PAIR', /is of pair other.*pair drill/],
    ['another node’s', () => pathsOf(files.b), 'NODE', /--node b/],
  ])('%s is refused in words', (_what, paths, code, words) => {
    const error = faultOf(() => TlsMaterial.load(paths(), { pair: 'drill', node: 'a' }));
    expect(error.code).toBe(`FT_ERR_TLS_${code}`);
    expect(error.message).toMatch(words);
  });

  test('one that OpenSSL refuses is an error with its words, and the old one stays in use', () => {
    const weak = authority.issue('weak', nodeNames('a', 'drill'), '/CN=a', ['rsa:512']);
    const own = { cert: path.join(folder, 'renew.pem'), key: path.join(folder, 'renew.key') };
    copyFileSync(files.a.cert, own.cert);
    copyFileSync(files.a.key, own.key);
    const material = load(own, 'a');
    const before = material.secureContext();
    copyFileSync(weak.cert, own.cert);
    copyFileSync(weak.key, own.key);
    const error = material.reload();
    expect(error?.code).toBe('FT_ERR_TLS_FILE');
    expect(error?.message).toMatch(/renew\.pem.*too small.*ftctl pki node/);
    expect(material.secureContext()).toBe(before);
    const again = faultOf(() => load(weak, 'a'));
    expect(again.code).toBe('FT_ERR_TLS_FILE');
  });

  test('names in a certificate cannot pretend to be others', () => {
    const text = 'DNS:"x, URI:romulus:pair:drill", URI:romulus:pair:real, IP Address:127.0.0.1';
    expect(uriNames(text)).toEqual(['romulus:pair:real']);
    expect(uriNames('DNS:h, URI:"romulus:pair:a\\"b, URI:romulus:pair:c", URI:x:y')).toEqual([
      'x:y',
    ]);
    expect(uriNames('')).toEqual([]);
  });
});

describe('a listener with a certificate', () => {
  let listener: TcpListener;
  let address: Address;
  let material: TlsMaterial;
  const accepted: Connection[] = [];
  const troubles: FtError[] = [];
  const sockets: Socket[] = [];

  beforeEach(async () => {
    for (const list of [accepted, troubles, sockets]) list.length = 0;
    const ownCa = path.join(folder, 'own-ca.pem');
    const own = { cert: path.join(folder, 'own.pem'), key: path.join(folder, 'own.key') };
    copyFileSync(files.b.cert, own.cert);
    copyFileSync(files.b.key, own.key);
    copyFileSync(authority.ca, ownCa);
    material = TlsMaterial.load(pathsOf(own, ownCa), { pair: 'drill', node: 'b' });
    listener = new TcpListener({ tls: material, openRaw: nativeSockets() });
    listener.onConnection = (connection) => accepted.push(connection);
    listener.onTrouble = (error) => troubles.push(error);
    address = await listener.listen(LOOPBACK);
  });

  afterEach(async () => {
    await listener.close();
    for (const connection of accepted) connection.close(new FtError('FT_ERR_TEST', 'over'));
    for (const socket of sockets) socket.destroy();
  });

  const reach = (tls: TlsMaterial | undefined): Promise<TcpConnection> =>
    dial(address, 2000, { tls, openRaw: nativeSockets() });

  /** A client that shows what it likes, and believes everything. */
  const impose = (show: CertificateFiles | undefined): TLSSocket => {
    const shown = show === undefined ? {} : { cert: pem(show.cert), key: pem(show.key) };
    const { host, port } = address;
    const socket = connectTls({ host, port, rejectUnauthorized: false, ...shown });
    socket.on('error', () => {});
    sockets.push(socket);
    return socket;
  };

  const stranger = async (): Promise<Socket> => {
    const socket = connect({ host: address.host, port: address.port });
    socket.on('error', () => {});
    sockets.push(socket);
    await new Promise((resolve) => socket.once('connect', resolve));
    return socket;
  };

  const gone = (socket: Socket): Promise<void> =>
    new Promise((resolve) => {
      socket.resume();
      socket.once('close', () => resolve());
    });

  test('a peer gets in; frames pass both ways; each knows the other’s name', async () => {
    const near = await reach(a);
    await until(() => accepted.length === 1);
    const far = accepted[0] as Connection;
    expect([near.peerNode, far.peerNode]).toEqual(['b', 'a']);
    const heard: string[] = [];
    far.setMaxBodyBytes(BODY_BYTES_MAX);
    far.onFrame = (frame) => heard.push(Buffer.from(frame.body).toString('latin1'));
    near.onFrame = (frame) => heard.push(`back ${frame.epoch}`);
    let flushed = 0;
    for (let epoch = 1; epoch <= 200; epoch += 1) {
      const buffer = allocFrameBuffer(100_000);
      const bytes = buffer.body.fill(65 + (epoch % 26), 0, epoch * 100) && epoch * 100;
      near.send({ ...HEADER, epoch }, buffer, bytes, () => flushed++);
    }
    far.send(HEADER, allocFrameBuffer(0), 0);
    await until(() => heard.length === 201 && flushed === 200);
    expect([far.bytesReceived, near.bytesReceived]).toEqual([near.bytesSent, far.bytesSent]);
    expect(heard.filter((text) => text.startsWith('back'))).toEqual(['back 1']);
    const bodies = heard.filter((text) => !text.startsWith('back'));
    bodies.forEach((body, n) => {
      expect(body).toBe(String.fromCharCode(65 + ((n + 1) % 26)).repeat((n + 1) * 100));
    });
    near.close();
  });

  test('an end, a reset and a kill are told apart as without TLS', async () => {
    const near = await reach(a);
    await until(() => accepted.length === 1);
    const far = accepted[0] as Connection;
    far.onFrame = () => {};
    const closed = new Promise<FtError | undefined>((resolve) => {
      far.onClose = resolve;
    });
    near.close(new FtError('FT_ERR_TEST', 'cut off'));
    const error = await closed;
    expect(closedByPeer(error)).toBe(true);
    const second = await reach(a);
    await until(() => accepted.length === 2);
    const farther = accepted[1] as Connection;
    farther.onFrame = () => {};
    const ended = new Promise<FtError | undefined>((resolve) => {
      farther.onClose = resolve;
    });
    second.close();
    expect(await ended).toBeUndefined();
  });

  test.each<[string, () => CertificateFiles | undefined, string]>([
    ['none', () => undefined, 'FT_ERR_TLS_NO_CERTIFICATE'],
    ['one of another authority', () => files.otherCa, 'FT_ERR_TLS_ISSUER'],
    ['an expired one', () => files.expired, 'FT_ERR_TLS_EXPIRED'],
    ['one for later', () => files.future, 'FT_ERR_TLS_NOT_YET_VALID'],
    ['one of another pair', () => files.otherPair, 'FT_ERR_TLS_PAIR'],
    ['one whose issuer has no name', () => files.noIssuer, 'FT_ERR_TLS_ISSUER'],
    ['one of nobody by nobody', () => files.noNames, 'FT_ERR_TLS_ISSUER'],
  ])('who shows %s is told so and never handed over', async (_what, show, code) => {
    const socket = impose(show());
    const pieces: Buffer[] = [];
    socket.on('data', (piece: Buffer) => pieces.push(piece));
    await gone(socket);
    expect(troubles.map((error) => error.code)).toEqual([code]);
    expect(unpackRefuse(Buffer.concat(pieces).subarray(40))).toMatchObject({ code });
    expect(accepted).toEqual([]);
    await until(() => listener.waitingConnections === 0);
    const near = await reach(a);
    await until(() => accepted.length === 1);
    near.close();
  });

  test('who is of many other pairs is told some of them, within what a message may hold', async () => {
    const socket = impose(files.manyPairs);
    const pieces: Buffer[] = [];
    socket.on('data', (piece: Buffer) => pieces.push(piece));
    await gone(socket);
    const refuse = unpackRefuse(Buffer.concat(pieces).subarray(40));
    const some = MANY_PAIRS.slice(0, 4).join(', ');
    expect(refuse).toMatchObject({
      code: 'FT_ERR_TLS_PAIR',
      message: expect.stringContaining(
        `of pair ${some} and 60 more (CN=m), and this is pair drill`,
      ),
    });
    expect(troubles.map((error) => error.code)).toEqual(['FT_ERR_TLS_PAIR']);
    expect(JSON.stringify(troubles[0]?.facts).length).toBeLessThan(500);
  });

  test('a node whose certificate has no subject gets in, and is believed by a dialler', async () => {
    const near = await reach(load(files.noSubject, 'a'));
    await until(() => accepted.length === 1);
    expect(accepted[0]?.peerNode).toBe('a');
    near.close();
    expect(mayRead(new X509Certificate(pem(files.noSubject.cert)), 'drill')).toBe(true);
    expect(mayRead(new X509Certificate(pem(files.noNames.cert)), 'drill')).toBe(false);
  });

  test.each<[string, () => CertificateFiles]>([
    ['whose issuer has no name', () => files.noIssuer],
    ['of nobody by nobody', () => files.noNames],
  ])('a dialler that is shown a certificate %s says so', async (_what, show) => {
    const imposter = createTlsServer({ cert: pem(show().cert), key: pem(show().key) });
    imposter.on('tlsClientError', () => {});
    await new Promise<void>((resolve) => imposter.listen(0, LOOPBACK.host, resolve));
    const { port } = imposter.address() as AddressInfo;
    const dialled = dial({ ...LOOPBACK, port }, 2000, { tls: a });
    await expect(dialled).rejects.toMatchObject({ code: 'FT_ERR_TLS_ISSUER' });
    imposter.close();
  });

  test('what throws at a connection costs that connection, and is told with its stack', async () => {
    listener.onConnection = () => {
      throw new TypeError('of our own');
    };
    const near = await reach(a);
    near.onFrame = () => {};
    const ended = new Promise((resolve) => {
      near.onClose = resolve;
    });
    await ended;
    expect(troubles.map((error) => error.code)).toEqual(['FT_ERR_DEFECT']);
    expect(troubles[0]?.facts['stack']).toMatch(/^TypeError: of our own\n +at /);
    await until(() => listener.waitingConnections === 0);
    listener.onConnection = (connection) => accepted.push(connection);
    (await reach(a)).close();
    await until(() => accepted.length === 1);
  });

  test('a dialler finds out who is not its peer', async () => {
    const misled = TlsMaterial.load(pathsOf(files.otherPair), { pair: 'other', node: 'c' });
    await expect(reach(misled)).rejects.toMatchObject({ code: 'FT_ERR_TLS_PAIR' });
    const foreign = TlsMaterial.load(pathsOf(files.otherCa, strangers.ca), {
      pair: 'drill',
      node: 'a',
    });
    await expect(reach(foreign)).rejects.toMatchObject({ code: 'FT_ERR_TLS_ISSUER' });
    expect(accepted).toEqual([]);
  });

  test('TLS to a listener without it, and the other way round, is said in words', async () => {
    const plain = new TcpListener({});
    plain.onConnection = (connection) => {
      connection.onFrame = () => {};
    };
    const where = await plain.listen(LOOPBACK);
    const refused = dial(where, 2000, { tls: a });
    await expect(refused).rejects.toMatchObject({ code: 'FT_ERR_TLS_HANDSHAKE' });
    await plain.close();
    const near = await reach(undefined);
    const refusals: unknown[] = [];
    near.onFrame = (frame) => refusals.push(unpackRefuse(frame.body));
    near.send({ ...HEADER, type: FrameType.hello, epoch: 0 }, allocFrameBuffer(0), 0);
    await until(() => refusals.length === 1);
    expect(refusals[0]).toMatchObject({ code: 'FT_ERR_TLS_PLAINTEXT' });
    near.close();
  });

  test('sessions are not resumed, and nothing older than TLS 1.3 is spoken', async () => {
    const first = impose(files.a);
    let ticket: Buffer | undefined;
    first.on('session', (session: Buffer) => {
      ticket = session;
    });
    await until(() => ticket !== undefined);
    const { host, port } = address;
    const shown = { cert: pem(files.a.cert), key: pem(files.a.key), rejectUnauthorized: false };
    const again = connectTls({ host, port, ...shown, session: ticket });
    sockets.push(again);
    await new Promise((resolve) => again.once('secureConnect', resolve));
    expect(again.isSessionReused()).toBe(false);
    const old = connectTls({ host, port, ...shown, maxVersion: 'TLSv1.2' });
    sockets.push(old);
    const error = await new Promise<Error>((resolve) => old.once('error', resolve));
    expect(error.message).toMatch(/protocol version/);
  });

  test('bytes that begin no handshake are cut off at once, too many of them as well', async () => {
    for (const bytes of [Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(100_000, 0x16)]) {
      const socket = await stranger();
      const since = performance.now();
      socket.write(bytes);
      await gone(socket);
      expect(performance.now() - since).toBeLessThan(HANDSHAKE_DEADLINE_MS / 2);
    }
    const codes = troubles.map((error) => error.code);
    expect(codes).toEqual(['FT_ERR_TLS_GARBAGE', 'FT_ERR_TLS_GARBAGE']);
    expect(accepted).toEqual([]);
  });

  test('who goes on sending after its hello is stopped by the bytes, not by the clock', async () => {
    const socket = await stranger();
    // A true hello, taken from a true client, then empty records that TLS passes over.
    const hello = await trueHello();
    socket.write(hello);
    const passedOver = Buffer.from([0x14, 3, 3, 0, 1, 1]);
    const flood = Buffer.concat(Array.from({ length: 2000 }, () => passedOver));
    const since = performance.now();
    const timer = setInterval(() => socket.write(flood), 1);
    await gone(socket);
    clearInterval(timer);
    expect(performance.now() - since).toBeLessThan(HANDSHAKE_DEADLINE_MS / 2);
    expect(['FT_ERR_TLS_TOO_MUCH', 'FT_ERR_TLS_HANDSHAKE']).toContain(troubles[0]?.code);
  });

  test('slow ones have their deadline, in TLS and before a hello', async () => {
    const silent = await stranger();
    const halfway = await stranger();
    halfway.write((await trueHello()).subarray(0, 20));
    const greeted = impose(files.a);
    const since = performance.now();
    await Promise.all([gone(silent), gone(halfway), gone(greeted)]);
    const tookMs = performance.now() - since;
    expect(tookMs).toBeGreaterThan(HANDSHAKE_DEADLINE_MS * 0.8);
    expect(tookMs).toBeLessThan(HANDSHAKE_DEADLINE_MS * 1.5);
    expect(listener.waitingConnections).toBe(0);
  });

  test('a new certificate holds for new connections; the open ones live on', async () => {
    const early = await reach(a);
    await until(() => accepted.length === 1);
    copyFileSync(files.a.key, material.paths.key);
    expect(material.changedFiles()).toBeDefined();
    // Half way through a change the old one stays in use.
    expect(material.reload()?.code).toBe('FT_ERR_TLS_KEY');
    (await reach(a)).close();
    const others: boolean[] = [];
    material.onReload((authorities) => others.push(authorities));
    const renewed = authority.issueNode('b', 'drill', 'b-renewed');
    copyFileSync(renewed.cert, material.paths.cert);
    copyFileSync(renewed.key, material.paths.key);
    const before = impose(files.a);
    await new Promise((resolve) => before.once('secureConnect', resolve));
    const oldSerial = before.getPeerX509Certificate()?.serialNumber;
    expect(material.reload()).toBeUndefined();
    expect(material.changedFiles()).toBeUndefined();
    const after = impose(files.a);
    await new Promise((resolve) => after.once('secureConnect', resolve));
    expect(after.getPeerX509Certificate()?.serialNumber).not.toBe(oldSerial);
    const heard: number[] = [];
    (accepted[0] as Connection).onFrame = (frame) => heard.push(frame.epoch);
    early.send(HEADER, allocFrameBuffer(0), 0);
    await until(() => heard.length === 1);
    early.close();
    // Listeners hear when it is others that are believed, and not only this node's own certificate.
    appendFileSync(material.paths.ca, readFileSync(new TestAuthority(folder, 'next').ca));
    expect(material.reload()).toBeUndefined();
    expect(others).toEqual([false, true]);
  });

  test('a flood from one address costs no more than its tries, and a known peer gets in', async () => {
    (await reach(a)).close();
    let over = false;
    let turned = 0;
    const lane = async (): Promise<void> => {
      while (!over) {
        const socket = connect({
          host: address.host,
          port: address.port,
          localAddress: '127.0.0.9',
        });
        socket.on('error', () => {});
        sockets.push(socket);
        socket.write('rubbish, and more of it');
        await gone(socket);
        turned += 1;
      }
    };
    const lanes = Array.from({ length: 50 }, lane);
    await new Promise((resolve) => setTimeout(resolve, 500));
    const since = performance.now();
    const near = await reach(a);
    expect(performance.now() - since).toBeLessThan(500);
    near.close();
    over = true;
    await Promise.all(lanes);
    expect(turned).toBeLessThan(150);
    expect(troubles.length).toBeLessThan(150);
  });

  async function trueHello(): Promise<Buffer> {
    return new Promise((resolve) => {
      const trap = createServer((socket) => {
        socket.once('data', (bytes) => {
          resolve(bytes);
          socket.destroy();
          trap.close();
        });
        socket.on('error', () => {});
      });
      trap.listen(0, '127.0.0.1', () => {
        const { port } = trap.address() as { port: number };
        connectTls({ host: '127.0.0.1', port }).on('error', () => {});
      });
    });
  }
});

test('a ClientHello is judged the same however it is cut', () => {
  const body = Buffer.alloc(200, 7);
  const hello = Buffer.concat([Buffer.from([0x16, 3, 1, 0, 200, 1]), body.subarray(1)]);
  for (let cut = 0; cut < hello.length; cut += 1) {
    expect(judgeClientHello(hello.subarray(0, cut), 'x')).toBe('more');
  }
  expect(judgeClientHello(hello, 'x')).toBe('whole');
  const codeOf = (bytes: Buffer): unknown => (judgeClientHello(bytes, 'x') as FtError).code;
  expect(codeOf(Buffer.concat([hello, Buffer.from([1])]))).toBe('FT_ERR_TLS_TOO_MUCH');
  const long = Buffer.from([0x16, 3, 1, CLIENT_HELLO_BYTES_MAX >> 8, 0xff, 1]);
  expect(codeOf(long)).toBe('FT_ERR_TLS_TOO_MUCH');
  expect(codeOf(Buffer.from('RMLS'))).toBe('FT_ERR_TLS_GARBAGE');
  expect(codeOf(Buffer.from([0x16, 3, 1, 0, 10, 2]))).toBe('FT_ERR_TLS_GARBAGE');
});
