/** The control API: code and description name the same routes; the server's bounds and refusals. */
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Duplex } from 'node:stream';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { FtError } from '../../src/common/errors';
import { silentLogger } from '../../src/common/logger';
import { ConsoleDoor } from '../../src/node/console-door';
import { CONTROL_ROUTES } from '../../src/node/control-routes';
import { ControlServer } from '../../src/node/control-server';
import { Journal } from '../../src/node/journal';
import { ControlSchema } from '../support/control-schema';

const schema = new ControlSchema();

/** Memory that somebody still holds: what is garbage is collected first. */
function bytesKept(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

describe('docs/control-api.openapi.yaml', () => {
  test('has the routes of the code, and no others', () => {
    const routes = CONTROL_ROUTES.map(({ method, path: url }) => `${method} ${url}`);
    expect(schema.operations.sort()).toEqual(routes.sort());
  });

  test('its examples are as its schemas say', () => {
    let seen = 0;
    for (const { method, path: url } of CONTROL_ROUTES) {
      for (const status of Object.keys(schema.operation(method, url).responses)) {
        if (status === '101') continue;
        for (const { value } of Object.values(
          schema.mediaType(method, url, Number(status)).examples ?? {},
        )) {
          seen += 1;
          expect(schema.faults(method, url, Number(status), value)).toEqual([]);
        }
      }
    }
    expect(seen).toBeGreaterThan(3);
  });

  test('its schemas refuse what is wrong', () => {
    expect(schema.faults('GET', '/v1/status', 200, { role: 'primary' })).not.toEqual([]);
    expect(schema.faults('POST', '/v1/drain', 409, { code: 'no', message: '' })).not.toEqual([]);
    const event = { seq: 1, at: 'yesterday', level: 'loud' };
    expect(schema.faults('GET', '/v1/events', 200, event)).not.toEqual([]);
  });
});

interface Reply {
  readonly status: number;
  readonly text: string;
}

describe('the control server', () => {
  let folder = '';
  let socketPath = '';
  let server: ControlServer;
  let journal: Journal;
  let outcome: object | FtError = {};
  let sample: () => object = () => ({});
  let requests: number;
  let forced: boolean[] = [];
  const agents: net.Socket[] = [];

  const ask = (method: string, url: string, body = '', headers = {}): Promise<Reply> =>
    new Promise((resolve, reject) => {
      const asked = http.request({ socketPath, method, path: url, headers }, (response) => {
        let text = '';
        response.on('data', (piece) => {
          text += piece;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      asked.on('error', reject);
      asked.end(body);
    });

  /** A client that has asked and reads only when told to. */
  const connect = (request: string): Promise<net.Socket> =>
    new Promise((resolve) => {
      const socket = net.connect(socketPath, () => {
        socket.write(request);
        resolve(socket);
      });
      socket.on('error', () => undefined);
      agents.push(socket);
    });

  beforeEach(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-api-'));
    socketPath = path.join(folder, 'node.sock');
    journal = new Journal();
    outcome = {};
    requests = 0;
    forced = [];
    sample = () => ({ epochsPerSecond: 1 });
    const node = { machine: {}, primary: {} };
    server = new ControlServer({
      status: () => {
        requests += 1;
        return { role: 'primary' };
      },
      samples: () => ({ next: () => sample(), close: () => undefined }),
      journal,
      switchover: () => Promise.resolve(outcome),
      drain: (force) => {
        forced.push(force);
        return Promise.resolve(outcome);
      },
      config: () => ({ settings: {} }),
      reload: () => outcome,
      console: new ConsoleDoor(node, silentLogger),
    });
    await server.listen(socketPath);
  });

  afterEach(async () => {
    for (const socket of agents.splice(0)) socket.destroy();
    await server.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('an FtError is 409 with its code, its sentence and its facts', async () => {
    outcome = new FtError('FT_ERR_X', 'It cannot be now. Try again.', { state: 'solo' });
    for (const url of ['/v1/switchover', '/v1/drain', '/v1/reload']) {
      const { status, text } = await ask('POST', url);
      expect(status).toBe(409);
      expect(JSON.parse(text)).toEqual({
        ...{ code: 'FT_ERR_X', message: 'It cannot be now. Try again.', state: 'solo' },
      });
      expect(schema.faults('POST', url, 409, JSON.parse(text))).toEqual([]);
    }
  });

  test('who asks in a tight loop is answered at a bounded rate, and others are answered still', async () => {
    let served = 0;
    let over = false;
    const loop = async (): Promise<void> => {
      while (!over) {
        const socket = await connect('GET /v1/status HTTP/1.1\r\nHost: node\r\n\r\n');
        socket.once('data', () => {
          served += 1;
        });
        await new Promise((resolve) => socket.once('close', resolve));
      }
    };
    const loops = Array.from({ length: 8 }, loop);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect((await ask('GET', '/v1/status')).status).toBe(200);
    over = true;
    // Fifty at once, fifty a second, of what may be two seconds.
    expect(served).toBeGreaterThan(40);
    expect(served).toBeLessThan(170);
    await Promise.all(loops);
  });

  test.each([
    ['FT_ERR_SWITCHOVER_WORD', 504],
    ['FT_ERR_SWITCHOVER_ENDED', 504],
    ['FT_ERR_SWITCHOVER_FAILED', 409],
    ['FT_ERR_UNEXPECTED', 500],
  ])('%s is %d: what may have been done is not called undone', async (code, wanted) => {
    outcome = new FtError(code, 'It is so.');
    for (const url of ['/v1/switchover', '/v1/drain']) {
      const { status, text } = await ask('POST', url);
      expect(status).toBe(wanted);
      expect(schema.faults('POST', url, wanted, JSON.parse(text))).toEqual([]);
    }
  });

  test('who came and went while it waited to be let in takes no place', async () => {
    for (let n = 0; n < 90; n += 1) (await connect('')).end();
    await new Promise((resolve) => setTimeout(resolve, 1500));
    // All are gone: fifty were let in at once, the others were let in later or cut off.
    const open = await new Promise((resolve) =>
      (server as unknown as { server: net.Server }).server.getConnections((_, count) =>
        resolve(count),
      ),
    );
    expect(open).toBe(0);
    expect((await ask('GET', '/v1/status')).status).toBe(200);
  });

  test('of many requests in one packet the first is answered, and no other is looked at', async () => {
    const many = 'GET /v1/status HTTP/1.1\r\nHost: node\r\n\r\n'.repeat(1000);
    const socket = await connect(many);
    let answers = '';
    socket.on('data', (piece: Buffer) => {
      answers += piece.toString();
    });
    await new Promise((resolve) => socket.once('close', resolve));
    expect(answers.split('HTTP/1.1 200').length - 1).toBe(1);
    expect(requests).toBe(1);
  });

  test('a body without a length is refused', async () => {
    const socket = await connect(
      'POST /v1/drain HTTP/1.1\r\nHost: node\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
    );
    const answer = await new Promise<string>((resolve) =>
      socket.once('data', (piece: Buffer) => resolve(piece.toString())),
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('Content-Length');
    expect(forced).toEqual([]);
  });

  test.each([
    ['', 200, false],
    ['{}', 200, false],
    ['{"force":true}', 200, true],
    ['{"force":"yes"}', 400, undefined],
    ['{"farce":true}', 400, undefined],
    ['[]', 400, undefined],
    ['{', 400, undefined],
  ])('POST /v1/drain with %s is %d', async (body, wanted, force) => {
    const { status, text } = await ask('POST', '/v1/drain', body);
    expect(status).toBe(wanted);
    expect(forced).toEqual(force === undefined ? [] : [force]);
    if (wanted === 400) {
      expect(schema.faults('POST', '/v1/drain', 400, JSON.parse(text))).toEqual([]);
    }
  });

  test.each([
    ['/v1/events?since=x'],
    ['/v1/events?since=-1'],
    ['/v1/events?follow=maybe'],
    ['/v1/samples?intervalMs=249'],
    ['/v1/samples?intervalMs=1e3'],
  ])('GET %s is refused with what is allowed', async (url) => {
    const { status, text } = await ask('GET', url);
    expect(status).toBe(400);
    const [route = ''] = url.split('?');
    expect(schema.faults('GET', route, 400, JSON.parse(text))).toEqual([]);
    expect(JSON.parse(text).message).toMatch(/must be/);
  });

  test('the console needs an upgrade, the right one, and a guest that has one', async () => {
    const plain = await ask('GET', '/v1/console');
    expect(plain.status).toBe(426);
    expect(schema.faults('GET', '/v1/console', 426, JSON.parse(plain.text))).toEqual([]);
    const wrong = await ask('GET', '/v1/console', '', {
      Connection: 'Upgrade',
      Upgrade: 'websocket',
    });
    expect(wrong.status).toBe(400);
    const elsewhere = await ask('GET', '/v1/status', '', { Connection: 'Upgrade', Upgrade: 'x' });
    expect(elsewhere.status).toBe(400);
    const none = await ask('GET', '/v1/console', '', {
      ...{ Connection: 'Upgrade', Upgrade: 'romulus-console' },
    });
    expect(none.status).toBe(409);
    expect(JSON.parse(none.text).code).toBe('FT_ERR_CONSOLE_NONE');
    expect(schema.faults('GET', '/v1/console', 409, JSON.parse(none.text))).toEqual([]);
  });

  test('streams are bounded in number, and a place is free again when one ends', async () => {
    const request = 'GET /v1/events?follow=1 HTTP/1.1\r\nHost: node\r\n\r\n';
    const streams: net.Socket[] = [];
    for (let n = 0; n < 12; n += 1) {
      const socket = await connect(request);
      await new Promise((resolve) => socket.once('data', resolve));
      streams.push(socket);
    }
    const refused = await ask('GET', '/v1/events');
    expect(refused.status).toBe(429);
    expect(schema.faults('GET', '/v1/events', 429, JSON.parse(refused.text))).toEqual([]);
    // Others are still answered.
    expect((await ask('GET', '/v1/status')).status).toBe(200);
    streams[0]?.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await ask('GET', '/v1/events')).status).toBe(200);
  });

  test('a reader that is slow is not waited for and nothing is queued for it', async () => {
    const socket = await connect('GET /v1/events?follow=1 HTTP/1.1\r\nHost: node\r\n\r\n');
    socket.pause();
    await new Promise((resolve) => setTimeout(resolve, 50));
    const before = bytesKept();
    const events = 50_000;
    for (let n = 0; n < events; n += 1) {
      journal.add('info', `event ${n} ${'x'.repeat(1500)}`, { event: 'state' });
      if (n % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    // 75 MB were said; the ring holds 1,000 events, the connection what the system takes.
    expect(bytesKept() - before).toBeLessThan(10_000_000);
    let text = '';
    socket.on('data', (piece: Buffer) => {
      text += piece.toString('utf8');
    });
    socket.resume();
    const newest = `event ${events - 1} `;
    for (let n = 0; n < 200 && !text.includes(newest); n += 1) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(text).toContain(newest);
    const seqs = [...text.matchAll(/\{"seq":(\d+),/g)].map((match) => Number(match[1]));
    expect(seqs).toEqual([...seqs].sort((a, b) => a - b));
    expect(seqs.length).toBeLessThan(5000);
  });

  test('a sample that cannot be taken is an answer with an error, or the end of a stream', async () => {
    const taken = sample;
    sample = () => {
      throw new Error('the machine is closed');
    };
    expect((await ask('GET', '/v1/samples')).status).toBe(500);
    // The second is thrown at whoever begins a stream when its head is out already.
    let events = 0;
    jest.spyOn(journal, 'since').mockImplementationOnce(() => {
      events += 1;
      throw new Error('a defect');
    });
    const socket = await connect('GET /v1/events HTTP/1.1\r\nHost: node\r\n\r\n');
    socket.resume();
    await new Promise((resolve) => socket.once('close', resolve));
    expect(events).toBe(1);
    sample = taken;
    expect((await ask('GET', '/v1/status')).status).toBe(200);
  });

  test('a client that goes away takes its stream with it', async () => {
    const socket = await connect('GET /v1/samples?intervalMs=250 HTTP/1.1\r\nHost: node\r\n\r\n');
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect((await ask('GET', '/v1/status')).status).toBe(200);
  });
});

describe('the console over the control socket', () => {
  /** A console as the native one is, by hand. */
  class FakeConsole {
    text = '';
    room = 1000;
    typed = '';
    onOutput: (() => void) | undefined;
    readonly kept = 100;
    get head(): number {
      return this.text.length;
    }
    read(from: number, into: Uint8Array): { first: number; bytes: number } {
      const first = Math.min(this.head, Math.max(from, this.head - this.kept));
      const piece = Buffer.from(this.text.slice(first, first + into.length), 'latin1');
      into.set(piece);
      return { first, bytes: piece.length };
    }
    type(typed: Uint8Array): number {
      const taken = Math.min(this.room, typed.length);
      this.typed += Buffer.from(typed.subarray(0, taken)).toString('latin1');
      this.room -= taken;
      return taken;
    }
    watch(onOutput: (() => void) | undefined): void {
      this.onOutput = onOutput;
    }
    print(text: string): void {
      this.text += text;
      this.onOutput?.();
    }
  }

  /** The client's end of a connection that takes as much as the test lets it. */
  class FakeClient extends Duplex {
    shown = '';
    blocked: (() => void) | undefined;
    stuck = false;
    constructor() {
      super({ writableHighWaterMark: 64, allowHalfOpen: true });
    }
    override _read(): void {}
    override _write(piece: Buffer, _encoding: string, done: () => void): void {
      this.shown += piece.toString('latin1');
      if (this.stuck) this.blocked = done;
      else done();
    }
  }

  const turn = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));
  const nothing = Buffer.alloc(0);

  test('shows the past, then what comes; types while the guest runs here', async () => {
    const console = new FakeConsole();
    const door = new ConsoleDoor({ machine: { console }, primary: {} }, silentLogger);
    console.print('login: ');
    expect(console.onOutput).toBeUndefined();
    const client = new FakeClient();
    door.attach(client, Buffer.from('ro'));
    client.push('ot\n');
    await turn();
    console.print('root\n# ');
    await turn();
    expect(client.shown).toBe('login: root\n# ');
    expect(console.typed).toBe('root\n');
    client.push(null);
    await turn();
    // Nobody watches any more.
    expect(console.onOutput).toBeUndefined();
  });

  test('what the guest has no room for waits, and is typed when there is', async () => {
    const console = new FakeConsole();
    console.room = 3;
    const door = new ConsoleDoor({ machine: { console }, primary: {} }, silentLogger);
    const client = new FakeClient();
    door.attach(client, nothing);
    client.push('abcdef');
    await turn();
    expect(console.typed).toBe('abc');
    expect(client.isPaused()).toBe(true);
    console.room = 10;
    await new Promise((resolve) => setTimeout(resolve, 40));
    expect(console.typed).toBe('abcdef');
    expect(client.isPaused()).toBe(false);
    door.close();
  });

  test('a standby says so, throws keys away, and is the console after a takeover', async () => {
    const console = new FakeConsole();
    const node = { machine: { console }, primary: undefined as object | undefined };
    const door = new ConsoleDoor(node, silentLogger);
    const client = new FakeClient();
    door.attach(client, nothing);
    client.push('lost');
    await turn();
    expect(client.shown).toMatch(/^romulus: standby; the guest runs elsewhere/);
    expect(console.typed).toBe('');
    node.primary = {};
    door.nodeChanged();
    console.print('here');
    client.push('kept');
    await turn();
    expect(client.shown).toMatch(/here$/);
    expect(console.typed).toBe('kept');
    door.close();
  });

  test('another life: the console of the new machine, from its beginning', async () => {
    const old = new FakeConsole();
    const node = { machine: { console: old }, primary: {} as object | undefined };
    const door = new ConsoleDoor(node, silentLogger);
    const client = new FakeClient();
    door.attach(client, nothing);
    old.print('old');
    await turn();
    const fresh = new FakeConsole();
    node.machine = { console: fresh };
    node.primary = undefined;
    door.nodeChanged();
    fresh.print('new');
    await turn();
    expect(client.shown).toMatch(/^old\r\nromulus: the guest left this node.*\r\nnew$/s);
    expect(old.onOutput).toBeUndefined();
    door.close();
  });

  test('a client that does not read misses bytes and is told how many', async () => {
    const console = new FakeConsole();
    const door = new ConsoleDoor({ machine: { console }, primary: {} }, silentLogger);
    const client = new FakeClient();
    client.stuck = true;
    door.attach(client, nothing);
    for (let n = 0; n < 100; n += 1) console.print(`line ${String(n).padStart(4, '0')}\n`);
    await turn();
    // Its buffer is 64 bytes: whatever came after that stayed in the ring of 100.
    expect(client.writableLength).toBeLessThan(200);
    client.stuck = false;
    client.blocked?.();
    await turn();
    expect(client.shown).toMatch(/romulus: \d+ bytes of output were skipped here/);
    expect(client.shown).toMatch(/line 0099\n$/);
    door.close();
  });

  test('four at once, and the fifth is refused', () => {
    const console = new FakeConsole();
    const door = new ConsoleDoor({ machine: { console }, primary: {} }, silentLogger);
    for (let n = 0; n < 4; n += 1) {
      expect(door.fault()).toBeUndefined();
      door.attach(new FakeClient(), nothing);
    }
    expect(door.fault()?.code).toBe('FT_ERR_CONTROL_BUSY');
    door.close();
    expect(door.fault()).toBeUndefined();
  });
});
