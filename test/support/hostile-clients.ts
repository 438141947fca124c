/**
 * Many hostile clients at once against one port, as a process of its own:
 *
 *   hostile-clients JSON      {"kind":"replication|http|control", "host":…, "port":…, "path":…,
 *                              "clients":50, "ms":4000, "addresses":["127.0.0.1", …],
 *                              "certificates":{"stranger":{cert,key},"expired":…,"otherPair":…}}
 *
 * Each client does one hostile thing after the other, in an order of its own, and begins the next one
 * as soon as it was cut off. Says {"event":"ready"} when it begins, and at the end {"event":"done",
 * "counts":{…}, "letIn":[…]}: what came in return that only a friend should get.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { FRAME_HEADER_BYTES, FrameType } from '../../src/wire/frame';
import { randomBytes, strangeFrames } from './strange-frames';

export interface HostileOrder {
  readonly kind: 'replication' | 'http' | 'control';
  /** TCP; a control socket has a path instead. */
  readonly host?: string;
  readonly port?: number;
  readonly path?: string;
  /** The port speaks TLS. */
  readonly tls: boolean;
  readonly clients: number;
  readonly ms: number;
  /** Local addresses that clients come from in turn; none: whatever the system takes. */
  readonly addresses?: readonly string[];
  readonly certificates?: Readonly<Record<string, { readonly cert: string; readonly key: string }>>;
}

/** One hostile thing: does it on a connected socket; what comes back is judged elsewhere. */
type Deed = (client: Client) => void;

/** How long a client waits to be cut off before it lets go itself. */
const PATIENCE_MS = 3000;
const TRICKLE_MS = 50;
const FLOOD_BYTES = 64 * 1024;
const FLOOD_EVERY_MS = 2;

class Client {
  readonly timers: NodeJS.Timeout[] = [];
  answer = '';

  constructor(readonly socket: Socket) {}

  /** Sends again and again until the connection is gone. */
  keepSending(everyMs: number, piece: () => Buffer): void {
    this.timers.push(
      setInterval(() => {
        if (this.socket.writableLength < FLOOD_BYTES * 4) this.socket.write(piece());
      }, everyMs),
    );
  }
}

/** Sends a text byte by byte and never comes to its end. */
function trickle(text: Buffer): Deed {
  return (client) => {
    let at = 0;
    client.keepSending(TRICKLE_MS, () => {
      const piece = text.subarray(at % text.length, (at % text.length) + 1);
      at += 1;
      return piece;
    });
  };
}

const RECORD = Buffer.from([0x16, 3, 1, 0x0f, 0xf0, 1, 0, 0x0f, 0xec, 3, 3]);
const once =
  (make: () => Buffer): Deed =>
  ({ socket }) =>
    void socket.write(make());
/** The same piece again and again: what a flood costs is to be the node's, not the client's. */
const flood =
  (piece: Buffer): Deed =>
  (client) => {
    client.socket.write(piece);
    client.keepSending(FLOOD_EVERY_MS, () => piece);
  };

/** On a bare TCP or UNIX connection. */
const anywhere: Readonly<Record<string, Deed>> = {
  garbage: once(() => randomBytes(1 + Math.floor(Math.random() * 4000))),
  oversized: flood(randomBytes(FLOOD_BYTES)),
  silent: () => undefined,
  halfOpen: ({ socket }) => void socket.end(),
  // A UNIX socket knows no reset.
  reset: ({ socket }) =>
    void (socket.remoteAddress === undefined ? socket.destroy() : socket.resetAndDestroy()),
};

const bareTls: Readonly<Record<string, Deed>> = {
  slowHello: trickle(Buffer.concat([RECORD, randomBytes(4000)])),
  badHello: once(() => Buffer.concat([RECORD, randomBytes(0x0ff0 - 6)])),
  hugeHello: flood(Buffer.concat([RECORD, randomBytes(FLOOD_BYTES)])),
};

const HTTP_HEAD = 'GET /metrics HTTP/1.1\r\nHost: 10.77.0.1\r\n';
const http: Readonly<Record<string, Deed>> = {
  read: once(() => Buffer.from(`${HTTP_HEAD}Connection: close\r\n\r\n`)),
  wrongToken: once(() => Buffer.from(`${HTTP_HEAD}Authorization: Bearer guess\r\n\r\n`)),
  feed: once(() =>
    Buffer.from(
      'GET /feed HTTP/1.1\r\nHost: 10.77.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
        'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n',
    ),
  ),
  slowloris: trickle(Buffer.from(`${HTTP_HEAD}X-A: ${'a'.repeat(60_000)}`)),
  hugeHeader: flood(Buffer.from(`${HTTP_HEAD}X-A: ${'a'.repeat(FLOOD_BYTES)}`)),
  hugeBody: flood(
    Buffer.from(
      `POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n${'b'.repeat(FLOOD_BYTES)}`,
    ),
  ),
  pipelined: once(() => Buffer.from(`${HTTP_HEAD}\r\n`.repeat(500))),
};

const frames: Readonly<Record<string, Deed>> = Object.fromEntries(
  Object.entries(strangeFrames).map(([name, make]) => [name, once(make)]),
);

/** What only a friend gets: a welcome, or a page of figures. */
function isLetIn(kind: HostileOrder['kind'], answer: Buffer): string | undefined {
  if (kind === 'replication') {
    const framed =
      answer.length >= FRAME_HEADER_BYTES && answer.toString('latin1', 0, 4) === 'RMLS';
    return framed && answer[5] === FrameType.welcome ? 'welcome' : undefined;
  }
  const status = /^HTTP\/1\.1 (\d{3})/.exec(answer.toString('latin1', 0, 20))?.[1];
  if (kind === 'http') return status === '200' || status === '101' ? status : undefined;
  return undefined;
}

class Attack {
  readonly counts: Record<string, number> = {};
  readonly letIn: Record<string, number> = {};
  private over = false;
  private came = 0;
  private readonly shown: ReadonlyMap<string, { readonly cert: Buffer; readonly key: Buffer }>;

  constructor(private readonly order: HostileOrder) {
    this.shown = new Map(
      Object.entries(order.certificates ?? {}).map(([name, files]) => [
        name,
        { cert: readFileSync(files.cert), key: readFileSync(files.key) },
      ]),
    );
  }

  async run(): Promise<void> {
    const deeds = this.deeds();
    const timer = setTimeout(() => {
      this.over = true;
    }, this.order.ms);
    const lane = async (first: number): Promise<void> => {
      for (let n = first; !this.over; n += 1) {
        const [name, deed] = deeds[n % deeds.length] ?? ['', () => Promise.resolve()];
        this.counts[name] = (this.counts[name] ?? 0) + 1;
        await deed(name);
      }
    };
    await Promise.all(Array.from({ length: this.order.clients }, (_, n) => lane(n * 7)));
    clearTimeout(timer);
  }

  private deeds(): [string, (name: string) => Promise<void>][] {
    const { kind, tls } = this.order;
    const plain = {
      ...anywhere,
      ...(tls ? bareTls : {}),
      ...(kind === 'replication' ? frames : {}),
    };
    const inside = kind === 'replication' ? frames : http;
    const list = Object.entries(plain).map(
      ([name, deed]): [string, (name: string) => Promise<void>] => [
        name,
        (told) => this.bare(deed, told),
      ],
    );
    if (!tls) {
      for (const [name, deed] of Object.entries(kind === 'replication' ? {} : http)) {
        list.push([name, (told) => this.bare(deed, told)]);
      }
      return list;
    }
    for (const who of ['nobody', ...this.shown.keys()]) {
      for (const [name, deed] of Object.entries(inside)) {
        list.push([`${who}:${name}`, (told) => this.secured(deed, told, who)]);
      }
    }
    return list;
  }

  private reach(): Socket {
    const { host = '', port = 0, path, addresses = [] } = this.order;
    if (path !== undefined) return connect({ path });
    const localAddress = addresses[this.came++ % Math.max(1, addresses.length)];
    return connect({ host, port, ...(localAddress === undefined ? {} : { localAddress }) });
  }

  private bare(deed: Deed, name: string): Promise<void> {
    const socket = this.reach();
    return this.through(socket, socket, 'connect', deed, name);
  }

  private secured(deed: Deed, name: string, who: string): Promise<void> {
    const raw = this.reach();
    const socket: TLSSocket = connectTls({
      ...{ socket: raw, rejectUnauthorized: false, minVersion: 'TLSv1.3' as const },
      ...this.shown.get(who),
    });
    return this.through(socket, raw, 'secureConnect', deed, name);
  }

  private through(
    socket: Socket,
    raw: Socket,
    event: string,
    deed: Deed,
    name: string,
  ): Promise<void> {
    const client = new Client(socket);
    const pieces: Buffer[] = [];
    return new Promise((resolve) => {
      const patience = setTimeout(() => {
        this.counts['patienceLost'] = (this.counts['patienceLost'] ?? 0) + 1;
        raw.destroy();
        socket.destroy();
      }, PATIENCE_MS);
      for (const one of new Set([socket, raw])) {
        one.on('error', () => {
          raw.destroy();
          socket.destroy();
        });
      }
      socket.on('data', (piece: Buffer) => {
        if (pieces.length < 4) pieces.push(piece);
      });
      socket.on('end', () => socket.end());
      socket.once(event, () => deed(client));
      socket.once('close', () => {
        clearTimeout(patience);
        for (const timer of client.timers) clearInterval(timer);
        raw.destroy();
        const found = isLetIn(this.order.kind, Buffer.concat(pieces));
        if (found !== undefined) {
          const what = `${name}: ${found}`;
          this.letIn[what] = (this.letIn[what] ?? 0) + 1;
        }
        resolve();
      });
    });
  }
}

if (require.main === module) {
  const order = JSON.parse(process.argv[2] ?? '{}') as HostileOrder;
  const attack = new Attack(order);
  process.stdout.write('{"event":"ready"}\n');
  void attack.run().then(() => {
    const { user, system } = process.cpuUsage();
    const { counts, letIn } = attack;
    const done = { event: 'done', counts, letIn, cpuMs: Math.round((user + system) / 1000) };
    process.stdout.write(`${JSON.stringify(done)}\n`, () => process.exit(0));
  });
}
