/**
 * The control socket: a UNIX socket, for the user alone that runs the node, with HTTP and JSON on
 * it. ftctl is its first client; `curl --unix-socket PATH http://node/v1/status` is another. The
 * routes are in control-routes.ts, each described in docs/control-api.openapi.yaml.
 *
 *   200 { … }                    done, or what was asked for
 *   400, 404, 405, 413, 426      { code, message }: not understood
 *   409 { code, message, … }     not done, and why; the guest is where it was
 *   429 { code, message }        too many streams or consoles at once
 *   500 { code, message }        an error of our own
 *   504 { code, message, … }     begun, and this node does not know how it ended
 *
 * Bounded: connections and how fast they come, streams, the bytes of a request, the time that one may
 * take to come in, and what is queued for a reader (control-lines.ts, console-door.ts).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { FtError, toFtError } from '../common/errors';
import { HeadFilter } from '../observe/head-filter';
import { SWITCHOVER_UNKNOWN } from '../primary/switchover';
import { Gate } from '../transport/gate';
import { HELD_MAX, Lobby } from '../transport/lobby';
import { streamEvents, streamSamples } from './control-lines';
import { badRequest, type ControlTarget, findRoute, numberOf, switchOf } from './control-routes';
import { listenAtPath } from './control-socket';

export type { ControlTarget } from './control-routes';

const CONNECTIONS_MAX = 24;
/** A script that asks in a loop must not take the epochs' time. All clients are one user's: one place. */
const RATE = { burst: 50, perSecond: 50 } as const;
const PLACE = 'control';
/** Of events and samples; the rest is left for those who ask something. */
const STREAMS_MAX = 12;
const REQUEST_MS_MAX = 5000;
/** How often Node looks who is over it. */
const CHECK_MS = 500;
const BODY_BYTES_MAX = 64 * 1024;
/** As much of a longer one is read and forgotten, so that who still sends it can read the answer. */
const DISCARDED_BYTES_MAX = 1024 * 1024;
const SINCE_MAX = Number.MAX_SAFE_INTEGER;
const INTERVAL_MS = [250, 60_000, 1000] as const;
/** What follows the 101 of an attached console. */
const CONSOLE_PROTOCOL = 'romulus-console';

interface Answer {
  readonly status: number;
  readonly body: object;
}

const TOO_LONG: Answer = {
  status: 413,
  body: describe(badRequest(`A request has at most ${BODY_BYTES_MAX} bytes.`)),
};

export class ControlServer {
  private server: Server | undefined;
  private lobby: Lobby | undefined;
  private connections = 0;
  /** How to end each stream that is read. */
  private readonly streams = new Set<() => void>();

  constructor(private readonly target: ControlTarget) {}

  /** Starts to serve. Rejects as listenAtPath() does. */
  async listen(path: string): Promise<void> {
    const server = createServer({ connectionsCheckingInterval: CHECK_MS }, (request, response) =>
      this.receive(request, response),
    );
    server.maxConnections = CONNECTIONS_MAX + HELD_MAX;
    this.guardDoor(server);
    server.headersTimeout = REQUEST_MS_MAX;
    server.requestTimeout = REQUEST_MS_MAX;
    server.on('upgrade', (request, socket, head) => this.upgrade(request, socket, head));
    await listenAtPath(server, path);
    // Later errors (accepting, for want of descriptors) must not end the node.
    server.on('error', () => undefined);
    this.server = server;
  }

  /** Takes nobody on any more, and removes the socket. Who waits for an answer may still get it:
   * that of a switchover after which the process ends. */
  close(): Promise<void> {
    this.lobby?.close();
    this.server?.close();
    this.server?.closeIdleConnections();
    this.server = undefined;
    this.target.console.close();
    // Their last events first, which are told in this turn or the next.
    setImmediate(() => {
      for (const end of [...this.streams]) end();
    });
    return Promise.resolve();
  }

  /** Puts the lobby, the bound and a HeadFilter before what Node does with a connection. */
  private guardDoor(server: Server): void {
    const serve = server.listeners('connection');
    server.removeAllListeners('connection');
    const enter = (socket: Socket): void => {
      if (this.connections >= CONNECTIONS_MAX) {
        socket.destroy();
        return;
      }
      this.connections += 1;
      socket.once('close', () => {
        this.connections -= 1;
      });
      const filter = new HeadFilter(socket);
      for (const listener of serve) listener.call(server, filter);
    };
    const gate = new Gate({ perAddress: RATE, strangers: RATE }, performance.now());
    const lobby = new Lobby(gate, enter, () => undefined);
    this.lobby = lobby;
    server.on('connection', (socket: Socket) => lobby.arrived(socket, PLACE));
  }

  private receive(request: IncomingMessage, response: ServerResponse): void {
    const pieces: Buffer[] = [];
    let bytes = 0;
    request.on('data', (piece: Buffer) => {
      bytes += piece.length;
      if (bytes <= BODY_BYTES_MAX) {
        pieces.push(piece);
        return;
      }
      pieces.length = 0;
      if (bytes <= DISCARDED_BYTES_MAX) return;
      response.once('finish', () => request.destroy());
      reply(response, TOO_LONG);
    });
    // A client that goes away is nobody's loss.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const bodyBytes = bodyBytesOf(request);
    if (bodyBytes instanceof FtError) {
      reply(response, refused(400, bodyBytes));
      return;
    }
    const socket: Duplex = request.socket;
    if (socket instanceof HeadFilter) socket.expectBody(bodyBytes);
    request.on('end', () => {
      if (bytes > BODY_BYTES_MAX) {
        reply(response, TOO_LONG);
        return;
      }
      this.serve(request, response, Buffer.concat(pieces)).then(
        (answer) => answer !== undefined && reply(response, answer),
        (thrown: unknown) => reply(response, { status: 500, body: describe(toFtError(thrown)) }),
      );
    });
  }

  /** The answer; undefined when a stream has begun. */
  private async serve(
    request: IncomingMessage,
    response: ServerResponse,
    body: Buffer,
  ): Promise<Answer | undefined> {
    const found = findRoute(request.method ?? '', request.url ?? '');
    if ('error' in found) return { status: found.status, body: describe(found.error) };
    const { target } = this;
    switch (found.route.path) {
      case '/v1/status':
        return { status: 200, body: target.status() };
      case '/v1/config':
        return { status: 200, body: target.config() };
      case '/v1/switchover':
        return outcome(await target.switchover());
      case '/v1/reload':
        return outcome(target.reload());
      case '/v1/drain': {
        const force = readForce(body);
        return force instanceof FtError ? refused(400, force) : outcome(await target.drain(force));
      }
      case '/v1/events':
      case '/v1/samples':
        return this.stream(found.route.path, found.query, response);
      case '/v1/console': {
        const message = `/v1/console speaks another protocol: ask with "Upgrade: ${CONSOLE_PROTOCOL}".`;
        return refused(426, badRequest(message));
      }
    }
  }

  private stream(
    path: '/v1/events' | '/v1/samples',
    query: URLSearchParams,
    response: ServerResponse,
  ): Answer | undefined {
    const since = numberOf(query, 'since', [0, SINCE_MAX, 0]);
    const follow = switchOf(query, 'follow');
    const intervalMs = numberOf(query, 'intervalMs', INTERVAL_MS);
    for (const read of [since, follow, intervalMs]) {
      if (read instanceof FtError) return refused(400, read);
    }
    if (this.streams.size >= STREAMS_MAX) {
      const message = `${STREAMS_MAX} streams are read at once already; end one of them.`;
      return refused(429, new FtError('FT_ERR_CONTROL_BUSY', message, { streams: STREAMS_MAX }));
    }
    const { target } = this;
    let end = (): void => undefined;
    const onDone = (): void => {
      this.streams.delete(end);
    };
    if (path === '/v1/samples') {
      end = streamSamples(response, target.samples(), Number(intervalMs), onDone);
    } else {
      const from = { since: Number(since), follow: follow === true };
      end = streamEvents(response, target.journal, from, onDone);
    }
    this.streams.add(end);
    const socket = response.socket as Duplex | null;
    if (socket instanceof HeadFilter) socket.answerIsEndless();
    return undefined;
  }

  private upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    if (socket instanceof HeadFilter) socket.passThrough();
    socket.on('error', () => undefined);
    const found = findRoute(request.method ?? '', request.url ?? '');
    if ('error' in found) {
      refuseUpgrade(socket, found.status, found.error);
      return;
    }
    const wanted = (request.headers.upgrade ?? '').toLowerCase();
    if (found.route.kind !== 'upgrade' || wanted !== CONSOLE_PROTOCOL) {
      const message = `${found.route.path} does not speak ${JSON.stringify(wanted)}.`;
      refuseUpgrade(socket, 400, badRequest(message));
      return;
    }
    const fault = this.target.console.fault();
    if (fault !== undefined) {
      refuseUpgrade(socket, fault.code === 'FT_ERR_CONTROL_BUSY' ? 429 : 409, fault);
      return;
    }
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${CONSOLE_PROTOCOL}\r\n\r\n`,
    );
    this.target.console.attach(socket, head);
  }
}

/** How long a request says that its body is. */
function bodyBytesOf({ headers }: IncomingMessage): number | FtError {
  if (headers['transfer-encoding'] === undefined) return Number(headers['content-length'] ?? 0);
  return badRequest('A request says how long its body is: send Content-Length.');
}

/** POST /v1/drain takes nothing, or { "force": true | false }. */
function readForce(body: Buffer): boolean | FtError {
  if (body.length === 0) return false;
  const wanted = 'The body of /v1/drain is empty, or {"force": true}, or {"force": false}.';
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return badRequest(wanted);
    }
    const { force = false, ...others } = value as Record<string, unknown>;
    if (typeof force !== 'boolean' || Object.keys(others).length > 0) return badRequest(wanted);
    return force;
  } catch {
    return badRequest(wanted);
  }
}

function outcome(value: object | FtError): Answer {
  if (!(value instanceof FtError)) return { status: 200, body: value };
  if (value.code === 'FT_ERR_UNEXPECTED') return refused(500, value);
  return refused(SWITCHOVER_UNKNOWN.has(value.code) ? 504 : 409, value);
}

function refused(status: number, error: FtError): Answer {
  return { status, body: describe(error) };
}

function reply(response: ServerResponse, { status, body }: Answer): void {
  if (response.writableEnded) return;
  // A stream has begun, so there is no head any more to say it in.
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, {
    Connection: 'close',
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(text);
}

function refuseUpgrade(socket: Duplex, status: number, error: FtError): void {
  const text = `${JSON.stringify(describe(error))}\n`;
  const lines = [
    `HTTP/1.1 ${status} Refused`,
    'Connection: close',
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(text)}`,
  ];
  socket.end(`${lines.join('\r\n')}\r\n\r\n${text}`);
}

function describe(error: FtError): object {
  return { ...error.facts, code: error.code, message: error.message };
}
