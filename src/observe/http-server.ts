/**
 * The one HTTP server of a node: health, metrics, the dashboard's page and its live feed. What a
 * path answers is handed to it; here are the bounds that hold against whoever comes.
 *
 *   connection
 *        │  too often ─▶ waits in the lobby, for a second at most
 *        │  too many strangers ─▶ one of them goes: http-visitors.ts
 *        │  TLS 1.3 (off loopback) ── begins otherwise, too many bytes, late ─▶ cut off
 *        │  a client certificate is asked for and not demanded
 *   request head ── late, too long, nonsense ─▶ 4xx or cut off
 *        │  one at a time of a connection: head-filter.ts
 *        │  too many requests of one address ─▶ 429
 *        │  GET or HEAD, no body ─▶ else 405, 413
 *        │  Host (but for probes), Origin ─▶ else 403
 *        ├─ open route: health, page ─────────────────▶ answered
 *        └─ reader's route ── no proof ─▶ 401
 *              ├─ metrics ────────────────────────────▶ answered
 *              └─ feed, asks for a WebSocket ─────────▶ handed to the feed with its socket
 *
 * Other upgrades are passed over: an HTTP client that would like HTTP/2 gets its answer in HTTP/1.1.
 */
import { constants } from 'node:crypto';
import {
  createServer,
  type IncomingMessage,
  type Server,
  type ServerOptions,
  ServerResponse,
  STATUS_CODES,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { SecureContextOptions } from 'node:tls';
import { type Address, formatAddress } from '../common/address';
import { FtError } from '../common/errors';
import { HeadFilter } from './head-filter';
import type { HttpAccess } from './http-access';
import { type VisitorLimits, Visitors } from './http-visitors';

export interface HttpAnswer {
  readonly status: number;
  /** Content-Type. */
  readonly type: string;
  readonly body: string | Buffer;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface HttpRoute {
  /** "open" to whoever reaches the port, or for a "reader" alone. */
  readonly access: 'open' | 'reader';
  /**
   * Asked by load balancers, which know no name of this host and may send no Host header. It tells so
   * little that no other site's page gains by it; it has a rate of its own.
   */
  readonly isProbe?: boolean;
  /** Pages of other sites may learn that it was answered, or refused, and no more than that. */
  readonly isForOtherSites?: boolean;
  answer(request: IncomingMessage): HttpAnswer | Promise<HttpAnswer>;
}

/** What the server needs of a node's TLS material; transport's TlsMaterial is one. */
export interface HttpTls {
  contextOptions(): SecureContextOptions;
  /** `changed` is told whether other authorities are believed than before. */
  onReload(changed: (authorities: boolean) => void): void;
  /** When the certificate ends, Unix time in seconds. */
  readonly expirySeconds?: number;
}

/** Where connections wait that came too often; transport's Lobby is one. */
export interface HttpLobby {
  arrived(socket: Socket): void;
  close(): void;
}

/** What may be sent within a TLS handshake; transport's HandshakeBounds are such. */
export interface HttpHandshakes {
  /** Calls `begins` when TLS may be set to work, `breaks` when the socket shall be cut off. */
  watch(
    socket: Socket,
    handshake: { readonly remote: string; begins(): void; breaks(): void },
  ): void;
  /** The handshake is done. */
  done(socket: Socket): void;
}

/** Against strangers; what they cost grows with neither their number nor their haste. */
export interface HttpThrottle {
  /** Makes the lobby; it hands over whoever may enter. */
  lobby(onEnter: (socket: Socket) => void): HttpLobby;
  /** Used where there is TLS. */
  readonly handshakes: HttpHandshakes;
  /** Whether one more request from this address is answered now. */
  admitsRequest(address: string): boolean;
  /** The same for a probe's request, which costs little and must not wait for strangers. */
  admitsProbe(address: string): boolean;
  /** Whoever asked from this address was a reader. */
  proved(address: string): void;
}

/** Whoever speaks on the sockets of readers that ask for a WebSocket; dashboard's Feed is one. */
export interface HttpFeed {
  /** Takes the socket, and bounds how many there are. */
  accept(request: IncomingMessage, socket: Duplex, head: Buffer): void;
  /** Lets go of all of them. */
  dropAll(why: string): void;
}

export interface HttpServerOptions {
  readonly access: HttpAccess;
  readonly tls: HttpTls | undefined;
  /** Path → what is there. */
  readonly routes: ReadonlyMap<string, HttpRoute>;
  readonly feedPath: string;
  readonly feed: HttpFeed;
  /** Undefined: nobody is slowed down. */
  readonly throttle?: HttpThrottle | undefined;
}

/** Bounds; tests use others. */
export interface HttpLimits extends VisitorLimits {
  /** For a TLS handshake, for a request's head, and for all of a request. */
  readonly requestMsMax: number;
  readonly headBytesMax: number;
}

export const HTTP_LIMITS: HttpLimits = {
  strangersMax: 64,
  readersMax: 64,
  requestMsMax: 5000,
  headBytesMax: 8 * 1024,
};

const CHECK_MS = 500;
const REQUESTS_PER_CONNECTION_MAX = 1000;

const COMMON_HEADERS: Readonly<Record<string, string>> = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

export class HttpServer {
  private server: Server | undefined;
  private lobby: HttpLobby | undefined;
  private readonly visitors: Visitors;

  constructor(
    private readonly options: HttpServerOptions,
    private readonly limits: HttpLimits = HTTP_LIMITS,
  ) {
    this.visitors = new Visitors(limits);
  }

  /**
   * Starts to serve; resolves with the address, the port filled in when it was 0. Rejects with
   * FT_ERR_PORT_TAKEN or FT_ERR_LISTEN.
   */
  listen(address: Address): Promise<Address> {
    const where = formatAddress(address);
    return new Promise((resolve, reject) => {
      const server = this.create();
      server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(where, error)));
      server.listen({ host: address.host, port: address.port, exclusive: true }, () => {
        server.removeAllListeners('error');
        // Later errors (accepting, for want of descriptors) leave the node without its page for a
        // while, and never without its guest.
        server.on('error', () => undefined);
        this.server = server;
        resolve({ host: address.host, port: (server.address() as AddressInfo).port });
      });
    });
  }

  /** Frees the port and cuts off who is there; the feed's sockets are their owner's. */
  close(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    this.lobby?.close();
    server?.close();
    this.visitors.dropAll();
    return Promise.resolve();
  }

  /** Lets go of everybody, who may have come by a proof that is good no more. */
  dropAll(why: string): void {
    this.options.feed.dropAll(why);
    this.visitors.dropAll();
  }

  private create(): Server {
    const { limits } = this;
    const common: ServerOptions = {
      connectionsCheckingInterval: CHECK_MS,
      maxHeaderSize: limits.headBytesMax,
      headersTimeout: limits.requestMsMax,
      requestTimeout: limits.requestMsMax,
      keepAliveTimeout: limits.requestMsMax,
    };
    const server = this.createFor(common);
    // What is beyond the bounds of lobby and visitors: those whose end is not told yet.
    server.maxConnections = 2 * (limits.strangersMax + limits.readersMax);
    server.maxRequestsPerSocket = REQUESTS_PER_CONNECTION_MAX;
    // Who does not read its answer is not waited for.
    server.timeout = 2 * limits.requestMsMax;
    this.guardDoor(server);
    const received = (request: IncomingMessage, response: ServerResponse): void =>
      this.received(request, response);
    // Nobody is told to go on with a body.
    for (const name of ['request', 'checkContinue', 'checkExpectation']) server.on(name, received);
    server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) =>
      this.upgrade(request, socket, head),
    );
    server.on('clientError', (_error: Error, socket: Duplex) => socket.destroy());
    return server;
  }

  private createFor(common: ServerOptions): Server {
    const { tls } = this.options;
    if (tls === undefined) {
      const server = createServer(common);
      this.filterHeads(server, 'connection');
      return server;
    }
    const fixed = {
      minVersion: 'TLSv1.3',
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: ['http/1.1'],
      // Each connection shows its certificate again, which may have run out meanwhile.
      secureOptions: constants.SSL_OP_NO_TICKET,
    } as const;
    const server = createTlsServer({ ...common, ...tls.contextOptions(), ...fixed });
    this.filterHeads(server, 'secureConnection');
    tls.onReload((authorities) => {
      server.setSecureContext({ ...tls.contextOptions(), ...fixed });
      // A connection shows its certificate once, and may have shown one that is believed no more.
      if (authorities) this.dropAll('the authorities changed');
    });
    server.on('tlsClientError', (_error, socket) => socket.destroy());
    return server;
  }

  /** Puts bounds and lobby before what Node does with a connection. */
  private guardDoor(server: Server): void {
    const serve = server.listeners('connection');
    server.removeAllListeners('connection');
    const begin = (socket: Socket): void => {
      for (const listener of serve) listener.call(server, socket);
    };
    const { throttle, tls } = this.options;
    const enter = (socket: Socket): void => {
      this.visitors.enter(socket, tls === undefined ? undefined : this.limits.requestMsMax);
      if (tls === undefined || throttle === undefined) begin(socket);
      else
        throttle.handshakes.watch(socket, {
          remote: socket.remoteAddress ?? '',
          begins: () => begin(socket),
          breaks: () => socket.destroy(),
        });
    };
    this.lobby = throttle?.lobby(enter);
    // Whoever comes too often waits first, and is counted then: who is let go of at once is back at
    // once.
    server.on('connection', (socket: Socket) => {
      if (this.lobby === undefined) enter(socket);
      else this.lobby.arrived(socket);
    });
  }

  /** Puts a HeadFilter before what Node's server does with each connection. */
  private filterHeads(server: Server, event: 'connection' | 'secureConnection'): void {
    const serve = server.listeners(event);
    server.removeAllListeners(event);
    server.on(event, (socket: Socket) => {
      const raw = this.visitors.secured(socket);
      if (raw === undefined) {
        socket.destroy();
        return;
      }
      this.options.throttle?.handshakes.done(raw);
      const filter = new HeadFilter(socket);
      for (const listener of serve) listener.call(server, filter);
    });
  }

  private received(request: IncomingMessage, response: ServerResponse): void {
    const socket: Duplex = request.socket;
    response.once('close', () => {
      if (!(socket instanceof HeadFilter)) return;
      if (socket.heads < REQUESTS_PER_CONNECTION_MAX) socket.answered();
      else socket.destroySoon();
    });
    response.on('error', () => undefined);
    let refused: HttpAnswer | undefined;
    const answer = (): HttpAnswer | Promise<HttpAnswer> => {
      refused = this.refusal(request);
      if (refused !== undefined) return refused;
      const route = this.options.routes.get(pathOf(request));
      if (route !== undefined) return route.answer(request);
      if (pathOf(request) !== this.options.feedPath) return plain(404, 'There is nothing here.');
      return plain(426, 'This is a WebSocket.', { Upgrade: 'websocket' });
    };
    // Whatever is thrown is one request's end, and not the node's.
    Promise.resolve()
      .then(answer)
      .then((done) => {
        if (this.options.routes.get(pathOf(request))?.isForOtherSites === true) {
          response.setHeader('Cross-Origin-Resource-Policy', 'cross-origin');
        }
        reply(response, done, refused !== undefined);
      })
      .catch(() => reply(response, plain(500, 'This cannot be read now.'), true))
      .catch(() => socket.destroy());
  }

  /** Why a request is not answered; undefined when it may be. */
  private refusal(request: IncomingMessage): HttpAnswer | undefined {
    const { method, headers } = request;
    const { access, routes } = this.options;
    const route = routes.get(pathOf(request));
    const isReader = access.isReader(request);
    if (!this.isInTime(request, isReader && access.asksForProof, route)) {
      return plain(429, 'Too many requests; try again in a second.', { 'Retry-After': '1' });
    }
    if (method !== 'GET' && method !== 'HEAD') {
      return plain(405, 'Only GET and HEAD are answered here.', { Allow: 'GET, HEAD' });
    }
    if (headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0') {
      return plain(413, 'A request has no body here.');
    }
    if (route?.isProbe !== true && !access.hostIsOurs(request)) {
      return plain(403, 'The Host header names another server; use this one’s address.');
    }
    if (!access.originIsOurs(request)) {
      return plain(403, 'Pages of other sites are not answered (see --http-peer).');
    }
    if (route?.access === 'open' || isReader) return undefined;
    return plain(401, 'A client certificate or the token is needed.', {
      'WWW-Authenticate': 'Bearer realm="romulus"',
    });
  }

  /** Whether this address has not asked too often. */
  private isInTime({ socket }: IncomingMessage, hasProof: boolean, route?: HttpRoute): boolean {
    const { throttle } = this.options;
    const address = socket.remoteAddress ?? '';
    if (hasProof) {
      this.visitors.proved(socket);
      throttle?.proved(address);
      return true;
    }
    if (throttle === undefined) return true;
    return route?.isProbe === true
      ? throttle.admitsProbe(address)
      : throttle.admitsRequest(address);
  }

  private upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const isForFeed =
      pathOf(request) === this.options.feedPath &&
      request.headers.upgrade?.toLowerCase() === 'websocket';
    if (!isForFeed) {
      this.answerOnce(request, socket);
      return;
    }
    try {
      const refused = this.refusal(request);
      if (refused !== undefined) refuseUpgrade(socket, refused.status);
      else {
        this.visitors.handOver(request.socket);
        this.options.feed.accept(request, socket, head);
        if (socket instanceof HeadFilter) socket.passThrough();
      }
    } catch {
      refuseUpgrade(socket, 500);
    }
  }

  /** Answers a request for an upgrade that there is not as if it had not asked for one. */
  private answerOnce(request: IncomingMessage, socket: Duplex): void {
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    response.assignSocket(request.socket);
    socket.on('error', () => undefined);
    socket.once('close', () => response.destroy());
    response.once('finish', () => letGo(socket));
    this.received(request, response);
  }
}

/** Answers an upgrade with an HTTP status and lets go of the socket. */
export function refuseUpgrade(socket: Duplex, status: number): void {
  socket.on('error', () => undefined);
  const words = STATUS_CODES[status] ?? '';
  const lines = [`HTTP/1.1 ${status} ${words}`, 'Connection: close', 'Content-Length: 0'];
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  letGo(socket);
}

/** Ends a connection when what was written is sent; who does not read it is not waited for. */
function letGo(socket: Duplex): void {
  socket.once('finish', () => socket.destroy());
  socket.end();
  setTimeout(() => socket.destroy(), CHECK_MS).unref();
}

/** A short text. */
export function plain(
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): HttpAnswer {
  return { status, type: 'text/plain; charset=utf-8', body: `${text}\n`, headers };
}

function reply(response: ServerResponse, answer: HttpAnswer, last: boolean): void {
  if (response.headersSent || response.destroyed) return;
  for (const [name, value] of Object.entries(COMMON_HEADERS)) {
    if (!response.hasHeader(name)) response.setHeader(name, value);
  }
  response.writeHead(answer.status, {
    'Content-Type': answer.type,
    'Content-Length': Buffer.byteLength(answer.body),
    ...(last ? { Connection: 'close' } : {}),
    ...answer.headers,
  });
  response.end(answer.body);
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '').split('?', 1)[0] ?? '';
}

function listenError(where: string, error: NodeJS.ErrnoException): FtError {
  const facts = { address: where, cause: error.code };
  if (error.code === 'EADDRINUSE') {
    const text =
      `Cannot serve HTTP at ${where}: another program has this port. Stop it, or choose another ` +
      'port with --http.';
    return new FtError('FT_ERR_PORT_TAKEN', text, facts, error);
  }
  const text = `Cannot serve HTTP at ${where}: ${error.message}. Check --http.`;
  return new FtError('FT_ERR_LISTEN', text, facts, error);
}
