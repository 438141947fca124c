/**
 * The control socket: a UNIX socket, for the user alone that runs the node, with HTTP and JSON on
 * it. ftctl is its first client; `curl --unix-socket PATH http://node/v1/status` is another.
 *
 *   GET  /v1/status       200 { role, state, node, … }     as docs/status-lines.md has it
 *   POST /v1/switchover   200 { … }                        done; what it took
 *                         409 { code, message, … }         not done, and why
 *   anything else         404, 405, 413, 500 { code, message }
 *
 * A socket that a killed process left behind is taken over; one that answers is another node's.
 */
import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { FtError, toFtError } from '../common/errors';

/** What the socket lets its clients ask of the node. Answers are plain values for JSON. */
export interface ControlTarget {
  status(): object;
  /** Resolves with what it took, or with the FtError that says why it was not done. */
  switchover(): Promise<object | FtError>;
}

const CONNECTIONS_MAX = 16;
const REQUEST_MS_MAX = 5000;
const BODY_BYTES_MAX = 64 * 1024;
/** How long another process may take to accept at a socket that is in the way. */
const PROBE_MS = 1000;
const MODE = 0o600;

interface Answer {
  readonly status: number;
  readonly body: object;
}

export class ControlServer {
  private server: Server | undefined;

  constructor(private readonly target: ControlTarget) {}

  /**
   * Starts to serve. Rejects with FT_ERR_CONTROL_TAKEN (another process serves there, or what is
   * there is no socket), or FT_ERR_CONTROL with the system's reason.
   */
  async listen(path: string): Promise<void> {
    await makeWay(path);
    const server = createServer((request, response) => this.receive(request, response));
    server.maxConnections = CONNECTIONS_MAX;
    server.headersTimeout = REQUEST_MS_MAX;
    server.requestTimeout = REQUEST_MS_MAX;
    server.keepAliveTimeout = REQUEST_MS_MAX;
    await bind(server, path);
    // Later errors (accepting, for want of descriptors) must not end the node.
    server.on('error', () => undefined);
    this.server = server;
  }

  /** Takes nobody on any more, and removes the socket. Who waits for an answer may still get it:
   * that of a switchover after which the process ends. */
  close(): Promise<void> {
    this.server?.close();
    this.server?.closeIdleConnections();
    this.server = undefined;
    return Promise.resolve();
  }

  private receive(request: IncomingMessage, response: ServerResponse): void {
    let bytes = 0;
    request.on('data', (piece: Buffer) => {
      bytes += piece.length;
      if (bytes <= BODY_BYTES_MAX) return;
      const message = `A request has at most ${BODY_BYTES_MAX} bytes.`;
      reply(response, { status: 413, body: problem('FT_ERR_CONTROL_REQUEST', message) });
      request.destroy();
    });
    // A client that goes away is nobody's loss.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    request.on('end', () => {
      this.answer(request.method ?? '', (request.url ?? '').split('?', 1)[0] ?? '').then(
        (answer) => reply(response, answer),
        (thrown: unknown) => reply(response, { status: 500, body: describe(toFtError(thrown)) }),
      );
    });
  }

  private async answer(method: string, path: string): Promise<Answer> {
    const wanted = { '/v1/status': 'GET', '/v1/switchover': 'POST' }[path];
    if (wanted === undefined) {
      const message = 'There is GET /v1/status and POST /v1/switchover here, and nothing else.';
      return { status: 404, body: problem('FT_ERR_CONTROL_REQUEST', message) };
    }
    if (method !== wanted) {
      const message = `${path} is asked with ${wanted}, not with ${method}.`;
      return { status: 405, body: problem('FT_ERR_CONTROL_REQUEST', message) };
    }
    if (path === '/v1/status') return { status: 200, body: this.target.status() };
    const outcome = await this.target.switchover();
    if (outcome instanceof FtError) return { status: 409, body: describe(outcome) };
    return { status: 200, body: outcome };
  }
}

function reply(response: ServerResponse, { status, body }: Answer): void {
  if (response.writableEnded) return;
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, {
    Connection: 'close',
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Length': Buffer.byteLength(text),
  });
  response.end(text);
}

function problem(code: string, message: string): object {
  return { code, message };
}

function describe(error: FtError): object {
  return { ...error.facts, code: error.code, message: error.message };
}

/** Listens with the mode that the socket shall have from its first moment on. */
function bind(server: Server, path: string): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(path, error)));
    const before = process.umask(0o777 & ~MODE);
    try {
      // The name is made within this call.
      server.listen(path, () => {
        server.removeAllListeners('error');
        resolve();
      });
    } finally {
      process.umask(before);
    }
  }).then(() => chmodSync(path, MODE));
}

/** Removes a socket that nobody serves any more. */
async function makeWay(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) {
    const message = `${path} is there already and is no socket; name another path with --control.`;
    throw new FtError('FT_ERR_CONTROL_TAKEN', message, { path });
  }
  if (await isServed(path)) {
    const message =
      `Another process serves the control socket ${path}. End it, or give this node a --control ` +
      'of its own.';
    throw new FtError('FT_ERR_CONTROL_TAKEN', message, { path });
  }
  try {
    unlinkSync(path);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw listenError(path, thrown);
  }
}

/** Whether a process has the socket open; one that is there and silent counts. */
function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (served: boolean): void => {
      socket.destroy();
      resolve(served);
    };
    socket.setTimeout(PROBE_MS, () => done(true));
    socket.on('connect', () => done(true));
    socket.on('error', (error: NodeJS.ErrnoException) => done(error.code !== 'ECONNREFUSED'));
  });
}

function listenError(path: string, thrown: unknown): FtError {
  const { message } = toFtError(thrown);
  const text =
    `The control socket ${path} cannot be made (${message}). Its folder must exist, and this user ` +
    'must be allowed to write there.';
  return new FtError('FT_ERR_CONTROL', text, { path }, thrown);
}
