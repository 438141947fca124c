/** The node's HTTP server against friends and strangers: what it answers, and what it does not. */
import { rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import os from 'node:os';
import { WebSocket } from 'ws';
import { httpThrottle } from '../../src/cli/http-throttle';
import { FEED_PROTOCOL, Feed } from '../../src/observe/dashboard/feed';
import { HttpAccess } from '../../src/observe/http-access';
import { HttpServer, type HttpThrottle } from '../../src/observe/http-server';
import {
  ask,
  folder,
  listener,
  listenTo,
  OTHER,
  raw,
  serve,
  servers,
  TOKEN,
  tokenPath,
  until,
} from '../support/http-serving';
import { pipelined, STRETCH_MS_MAX, stretchOf } from '../support/pipelined';

afterEach(async () => {
  for (const close of servers.splice(0)) await close();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('routes', () => {
  test('paths that there are, and nothing else; with headers that browsers obey', async () => {
    const { port } = await serve();
    const good = await ask(port, '/metrics?x=1');
    expect([good.status, good.text]).toEqual([200, 'ft_x 1\n']);
    expect(good.headers).toMatchObject({
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
    });
    expect((await ask(port, '/livez', {}, 'HEAD')).text).toBe('');
    for (const path of ['/', '/metrics/', '/../etc/passwd', '//livez', '/%6civez']) {
      expect([path, (await ask(port, path)).status]).toEqual([path, 404]);
    }
    expect((await ask(port, '/feed')).status).toBe(426);
    expect((await ask(port, '/broken')).status).toBe(500);
  });

  test('other methods and bodies are refused, and the connection is closed', async () => {
    const { port } = await serve();
    const posted = await ask(port, '/metrics', {}, 'POST', 'x');
    expect([posted.status, posted.headers.allow]).toEqual([405, 'GET, HEAD']);
    expect(posted.headers.connection).toBe('close');
    expect((await ask(port, '/livez', { 'Content-Length': '3' }, 'GET', 'abc')).status).toBe(413);
  });

  test('a taken port is refused in words', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
    const { port } = taken.address() as AddressInfo;
    const access = new HttpAccess({ tls: false, token: undefined, peers: [], host: '' });
    const feed = new Feed(() => ({}));
    const options = { tls: undefined, routes: new Map(), feedPath: '/feed', feed };
    const server = new HttpServer({ access, ...options });
    await expect(server.listen({ host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'FT_ERR_PORT_TAKEN',
    });
    await new Promise((resolve) => taken.close(resolve));
  });
});

describe('who may ask', () => {
  test.each([
    ['127.0.0.1:1', 200],
    ['[::1]', 200],
    ['10.0.0.7:9100', 200],
    ['LOCALHOST:8080', 200],
    [os.hostname(), 200],
    ['rebound.example', 403],
    ['localhost.evil.example:9100', 403],
    ['127.0.0.1.evil.example', 403],
    ['a b', 403],
    ['user@127.0.0.1', 403],
  ])('Host: %s → %d', async (host, status) => {
    const { port } = await serve();
    expect((await ask(port, '/open', { Host: host })).status).toBe(status);
  });

  test('probes of load balancers, which name no host or would like HTTP/2', async () => {
    const { port } = await serve();
    const haproxy = (where: string): Promise<string> => raw(port, `GET ${where} HTTP/1.0\r\n\r\n`);
    expect(await haproxy('/livez')).toMatch(/^HTTP\/1\.1 200 .*open\n$/s);
    expect(await haproxy('/open')).toMatch(/^HTTP\/1\.1 403 /);
    expect((await ask(port, '/livez', { Host: 'rebound.example' })).status).toBe(200);
    const h2c = { Connection: 'Upgrade, HTTP2-Settings', Upgrade: 'h2c', 'HTTP2-Settings': 'AAE' };
    for (const [where, status] of [
      ['/livez', 200],
      ['/metrics', 200],
      ['/broken', 500],
      ['/nothing', 404],
      ['/feed', 426],
    ] as const) {
      expect([where, (await ask(port, where, h2c)).status]).toEqual([where, status]);
    }
    const webSocket = { Connection: 'Upgrade', Upgrade: 'websocket' };
    expect((await ask(port, '/livez', webSocket)).text).toBe('open\n');
  });

  test.each([
    ['own', (port: number) => `http://127.0.0.1:${port}`, true],
    ['a peer', () => 'http://127.0.0.1:9', true],
    ['a peer by another name of the loopback', () => 'http://localhost:9', true],
    ['another port', () => 'http://127.0.0.1:10', false],
    ['own, over https', (port: number) => `https://127.0.0.1:${port}`, false],
    ['a stranger', () => 'https://evil.example', false],
    ['none that can be told', () => 'null', false],
  ])('Origin: %s', async (_name, origin, isLetIn) => {
    const { port } = await serve({ peers: ['http://127.0.0.1:9'] });
    const headers = { Origin: origin(port) };
    expect((await ask(port, '/metrics', headers)).status).toBe(isLetIn ? 200 : 403);
    const socket = await listenTo(port, headers);
    expect(typeof socket === 'number' ? socket : 101).toBe(isLetIn ? 101 : 403);
  });

  test('with a token, only who has it reads; health stays open', async () => {
    const { port, feed } = await serve({ token: TOKEN });
    const bearer = (token: string): Record<string, string> => ({
      Authorization: `Bearer ${token}`,
    });
    const offer = (token: string): string[] => [
      FEED_PROTOCOL,
      `token.${Buffer.from(token).toString('base64url')}`,
    ];
    expect((await ask(port, '/livez')).status).toBe(200);
    const refused = await ask(port, '/metrics');
    expect([refused.status, refused.headers['www-authenticate']]).toEqual([
      401,
      'Bearer realm="romulus"',
    ]);
    for (const wrong of [OTHER, `${TOKEN}x`, TOKEN.slice(1), 'x', '']) {
      expect((await ask(port, '/metrics', bearer(wrong))).status).toBe(401);
      expect(await listenTo(port, {}, offer(wrong))).toBe(401);
    }
    expect((await ask(port, `/metrics?token=${TOKEN}`)).status).toBe(401);
    expect((await ask(port, '/feed')).status).toBe(401);
    expect((await ask(port, '/metrics', bearer(TOKEN))).status).toBe(200);
    const socket = await listenTo(port, {}, offer(TOKEN));
    // What is answered is the feed's name, never the token.
    expect(socket instanceof WebSocket && socket.protocol).toBe(FEED_PROTOCOL);
    expect(feed.readerCount).toBe(1);
  });

  test('a token is read again; a file that holds none changes nothing', async () => {
    const { port, token } = await serve({ token: TOKEN });
    const status = async (value: string): Promise<number> =>
      (await ask(port, '/metrics', { Authorization: `Bearer ${value}` })).status;
    writeFileSync(tokenPath, 'short\n');
    expect(token?.reload()).toMatchObject({ code: 'FT_ERR_HTTP_TOKEN' });
    expect([await status(TOKEN), await status('short')]).toEqual([200, 401]);
    writeFileSync(tokenPath, `${OTHER}\nwhat follows is not read`);
    expect(token?.reload()).toBeUndefined();
    expect([await status(TOKEN), await status(OTHER)]).toEqual([401, 200]);
    rmSync(tokenPath);
    expect(token?.reload()?.message).toMatch(/--http-token-file/);
    expect(await status(OTHER)).toBe(200);
  });
});

describe('bounds', () => {
  test('a slow head, a long head and garbage are cut off', async () => {
    const { port } = await serve({ limits: { requestMsMax: 300, headBytesMax: 2048 } });
    expect(await raw(port, 'GET /livez HTTP/1.1\r\nHost: localhost\r\n')).not.toContain('200');
    expect(await raw(port, '')).toBe('');
    const long = `GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ${'x'.repeat(4000)}\r\n\r\n`;
    expect(await raw(port, long)).not.toContain('200');
    expect(await raw(port, '\x16\x03\x01\x02\x00\x01\x00garbage')).not.toContain('200');
    const endless = 'POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n';
    const got = await raw(port, endless, (socket) => {
      const timer = setInterval(() => socket.write(`400\r\n${'x'.repeat(1024)}\r\n`), 10);
      socket.on('close', () => clearInterval(timer));
    });
    expect(got).toMatch(/^HTTP\/1\.1 405 /);
    expect((await ask(port, '/livez')).status).toBe(200);
  });

  test('a packet of requests is answered one by one, and holds nobody else up', async () => {
    const { port } = await serve();
    const attack = (host: string): ReturnType<typeof stretchOf> =>
      stretchOf(connect({ host: '127.0.0.1', port }), pipelined(2500, host));
    await raw(port, `${pipelined(3, 'localhost')}GET /livez HTTP/1.0\r\n\r\n`);
    const refused = await stretchOf(
      connect({ host: '127.0.0.1', port }),
      pipelined(2500, 'a', '/open'),
    );
    expect(refused.got.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(refused.got).toMatch(/^HTTP\/1\.1 403 /);
    const answering = attack('localhost');
    expect((await ask(port, '/livez')).status).toBe(200);
    const answered = await answering;
    // As many as one connection has, the last of them with a farewell.
    expect(answered.got.match(/HTTP\/1\.1 200 /g)).toHaveLength(1000);
    expect(answered.got.match(/Connection: close/g)).toHaveLength(1);
    expect([refused.longestMs, answered.longestMs].filter((ms) => ms >= STRETCH_MS_MAX)).toEqual(
      [],
    );
  });

  test('a head in pieces, and one that comes with the end of another, are answered', async () => {
    const { port } = await serve();
    const text = `\r\n${pipelined(2, 'localhost')}GET /metrics HTTP/1.0\r\nHost: [::1]\r\n\r\n`;
    for (const size of [1, 7, 50]) {
      const pieces = text.match(new RegExp(`.{1,${size}}`, 'gs')) ?? [];
      const got = await raw(port, '', (socket) => {
        socket.setNoDelay();
        const next = (): void => {
          const piece = pieces.shift();
          if (piece !== undefined) socket.write(piece, () => setImmediate(next));
        };
        next();
      });
      expect(got.match(/HTTP\/1\.1 200 /g)).toHaveLength(3);
      expect(got).toMatch(/ft_x 1\n$/);
    }
  });

  test('who has said all it has to say is answered yet', async () => {
    const { port } = await serve();
    const got = await raw(port, pipelined(3, 'localhost'), (socket) => socket.end());
    expect(got.match(/HTTP\/1\.1 200 /g)).toHaveLength(3);
  });

  test('what throws ends one request, and not the node', async () => {
    const throttle: HttpThrottle = {
      ...httpThrottle(false),
      admitsRequest: () => {
        throw new Error('broken');
      },
    };
    const { port } = await serve({ throttle });
    expect((await ask(port, '/metrics')).status).toBe(500);
    expect(await listenTo(port)).toBe(500);
    expect((await ask(port, '/livez')).status).toBe(200);
  });
});

describe('who stays', () => {
  /** A connection from some place that was answered once and is kept, with what becomes of it. */
  async function stay(
    port: number,
    from: string,
    headers = '',
  ): Promise<{ socket: Socket; again(): Promise<boolean> }> {
    const socket = connect({ host: '127.0.0.1', port, localAddress: from });
    socket.on('error', () => undefined);
    /** Whether one more request is answered. */
    const again = (): Promise<boolean> =>
      new Promise((resolve) => {
        socket.once('data', () => resolve(true));
        socket.once('close', () => resolve(false));
        if (socket.destroyed) resolve(false);
        else socket.write(`GET /open HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`);
      });
    kept.push(socket);
    await again();
    return { socket, again };
  }
  const kept: Socket[] = [];
  afterEach(() => {
    for (const socket of kept.splice(0)) socket.destroy();
  });
  const open = (): number => kept.filter((socket) => !socket.destroyed).length;

  test('strangers of some places leave room for others, and for each other', async () => {
    const { port } = await serve({ limits: { strangersMax: 8 } });
    const first = await stay(port, '127.0.0.2');
    for (const place of [3, 4, 4, 4, 5, 5, 5]) await stay(port, `127.0.0.${place}`);
    expect(open()).toBe(8);
    for (let n = 0; n < 4; n += 1) expect((await ask(port, '/livez')).status).toBe(200);
    for (let n = 0; n < 20; n += 1) await stay(port, '127.0.0.6');
    await until('so many to be left', () => open() <= 8);
    // Those who came often made room, and not whoever came once.
    expect(await first.again()).toBe(true);
  });

  test('a reader makes room for no stranger; too many readers are strangers', async () => {
    const { port } = await serve({ token: TOKEN, limits: { strangersMax: 2, readersMax: 1 } });
    const bearer = `Authorization: Bearer ${TOKEN}\r\n`;
    const reader = await stay(port, '127.0.0.1', bearer);
    const second = await stay(port, '127.0.0.1', bearer);
    for (let n = 0; n < 10; n += 1) await stay(port, `127.0.0.${2 + (n % 4)}`);
    expect(await reader.again()).toBe(true);
    expect(await second.again()).toBe(false);
  });

  test('a feed is counted by the feed alone', async () => {
    const { port, feed } = await serve({ limits: { strangersMax: 2 } });
    await listener(port);
    for (let n = 0; n < 6; n += 1) await stay(port, '127.0.0.1');
    await until('so many to be left', () => open() <= 2);
    expect(feed.readerCount).toBe(1);
  });

  test('everybody goes when what they proved counts no more', async () => {
    const { port, server, feed } = await serve({ token: TOKEN });
    const bearer = `Authorization: Bearer ${TOKEN}`;
    const reader = await stay(port, '127.0.0.1', `${bearer}\r\n`);
    const socket = await listenTo(port, { Authorization: `Bearer ${TOKEN}` });
    const closed = new Promise<number>((resolve) => {
      if (socket instanceof WebSocket) socket.on('close', resolve);
    });
    server.dropAll('there is another token');
    expect(await reader.again()).toBe(false);
    expect(await closed).toBe(1001);
    expect(feed.readerCount).toBe(0);
  });
});

describe('who comes too often', () => {
  test('waits for its turn, with what it has sent already, and is answered then', async () => {
    const { port } = await serve({ throttle: httpThrottle(false) });
    const fromMs = performance.now();
    const many = Array.from({ length: 60 }, () => ask(port, '/livez'));
    const statuses = (await Promise.all(many)).map(({ status }) => status);
    expect(statuses).toEqual(statuses.map(() => 200));
    // 48 at once, then 40 a second, looked at every 100 ms.
    expect(performance.now() - fromMs).toBeGreaterThan(200);
  });

  test('takes nothing of what probes have, nor of what known readers have', () => {
    const throttle = httpThrottle(false);
    throttle.proved('192.0.2.1');
    for (let n = 0; n < 4000; n += 1) throttle.admitsRequest(`10.0.0.${n % 200}`);
    expect(throttle.admitsRequest('10.0.1.1')).toBe(false);
    expect(throttle.admitsRequest('192.0.2.1')).toBe(true);
    expect(throttle.admitsProbe('10.0.1.1')).toBe(true);
    for (let n = 0; n < 4000; n += 1) throttle.admitsProbe(`10.0.0.${n % 200}`);
    expect(throttle.admitsProbe('10.0.1.1')).toBe(false);
    expect(throttle.admitsProbe('192.0.2.1')).toBe(true);
  });

  test('is not answered on one connection for ever, either; a reader with a token is', async () => {
    const { port } = await serve({ token: TOKEN, throttle: httpThrottle(false) });
    const flood = async (headers: string): Promise<string> => {
      const one = `GET /open HTTP/1.1\r\nHost: localhost\r\n${headers}\r\n`;
      const last = `GET /open HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n`;
      return raw(port, one.repeat(400) + last);
    };
    const stranger = await flood('');
    expect(stranger.match(/HTTP\/1\.1 200/g)?.length).toBeGreaterThanOrEqual(200);
    expect(stranger.match(/HTTP\/1\.1 200/g)?.length).toBeLessThan(400);
    expect(stranger).toMatch(/HTTP\/1\.1 429/);
    const reader = await flood(`Authorization: Bearer ${TOKEN}\r\n`);
    expect(reader.match(/HTTP\/1\.1 200/g)?.length).toBe(401);
  });
});

describe('the feed', () => {
  test('greets, publishes to all, and lets go of who speaks', async () => {
    const { port, feed } = await serve();
    const [one, two] = [await listener(port), await listener(port)];
    const heard: string[] = [];
    for (const socket of [one, two]) {
      socket.on('message', (data) => heard.push(String(data)));
    }
    await until('both', () => feed.readerCount === 2);
    feed.publish({ type: 'sample', n: 1 });
    await until('the sample', () => heard.filter((text) => text.includes('sample')).length === 2);
    const closed = new Promise<number>((resolve) => one.on('close', resolve));
    one.send('{}');
    expect(await closed).toBe(1008);
    const tooLong = new Promise<number>((resolve) => two.on('close', resolve));
    two.send('x'.repeat(1000));
    expect(await tooLong).toBe(1009);
    await until('nobody', () => feed.readerCount === 0);
  });

  test('what comes with the request for it is heard', async () => {
    const { port, feed } = await serve();
    const head =
      'GET /feed HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n' +
      `Sec-WebSocket-Protocol: ${FEED_PROTOCOL}\r\n\r\n`;
    // A ping of the word "hi", masked with zeros, and a farewell.
    const ping = '\x89\x82\0\0\0\0hi';
    const text = `${head}${ping}\x88\x80\0\0\0\0`;
    const got = await raw(port, '', (socket) => socket.write(text, 'latin1'));
    expect(got).toMatch(/^HTTP\/1\.1 101 /);
    expect(got).toContain('"hello"');
    expect(got).toContain('\x8a\x02hi');
    await until('it to be gone', () => feed.readerCount === 0);
  });

  test('has room for so many, and knows its own protocol alone', async () => {
    const { port, feed } = await serve();
    expect(await listenTo(port, {}, ['chat'])).toBe(400);
    await listener(port);
    const second = await listener(port);
    // A browser would hide a refusal's status from the page.
    const third = await listener(port);
    expect(await new Promise((resolve) => third.once('close', resolve))).toBe(1013);
    expect(feed.readerCount).toBe(2);
    second.terminate();
    await until('room', () => feed.readerCount === 1);
    await listener(port);
  });

  test('a reader that takes nothing is dropped, with what it was owed', async () => {
    const { port, feed } = await serve();
    const slow = await listener(port);
    slow.pause();
    const words = 'x'.repeat(64 * 1024);
    let sent = 0;
    const before = process.memoryUsage().external;
    while (feed.readerCount > 0 && sent < 2000) {
      feed.publish({ words });
      sent += 1;
      await new Promise((resolve) => setImmediate(resolve));
    }
    // The system's own buffers took some; then the bound was reached.
    expect(feed.readerCount).toBe(0);
    expect(sent).toBeLessThan(500);
    expect(process.memoryUsage().external - before).toBeLessThan(64 * 1024 * 1024);
    slow.terminate();
  });

  test('a reader may ping, and not for ever', async () => {
    const { port, feed } = await serve();
    const reader = await listener(port);
    let pongs = 0;
    reader.on('pong', () => {
      pongs += 1;
    });
    reader.ping('a');
    await until('an answer', () => pongs === 1);
    reader.on('error', () => undefined);
    for (let n = 0; n < 1000; n += 1) reader.ping();
    await until('it to go', () => feed.readerCount === 0);
    expect(pongs).toBeLessThan(10);
  });

  test('a reader that answers no ping is dropped', async () => {
    const { port, feed } = await serve({ pingMs: 50 });
    const good = await listener(port);
    const mute = await listenTo(port, {}, [FEED_PROTOCOL]);
    if (typeof mute === 'number') throw new Error('refused');
    mute.pause();
    await until('the mute one to go', () => feed.readerCount === 1);
    expect(good.readyState).toBe(good.OPEN);
    mute.terminate();
  });

  test('everybody goes when the feed is closed', async () => {
    const { port, feed } = await serve();
    const socket = await listener(port);
    const closed = new Promise<number>((resolve) => socket.on('close', resolve));
    feed.close();
    expect(await closed).toBe(1001);
    expect(feed.readerCount).toBe(0);
  });
});
