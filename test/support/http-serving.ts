/** A node's HTTP server with some routes, as tests open it, and the clients that they ask it with. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { WebSocket } from 'ws';
import { FEED_PROTOCOL, Feed } from '../../src/observe/dashboard/feed';
import { HttpAccess, TokenFile } from '../../src/observe/http-access';
import {
  HTTP_LIMITS,
  type HttpLimits,
  type HttpRoute,
  HttpServer,
  type HttpThrottle,
  plain,
} from '../../src/observe/http-server';

export const TOKEN = 'a-token-of-enough-characters';
export const OTHER = 'another-token-of-some-length';
export const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-http-'));
export const tokenPath = path.join(folder, 'token');
export const servers: (() => Promise<void>)[] = [];

export interface Served {
  readonly port: number;
  readonly server: HttpServer;
  readonly feed: Feed;
  readonly token: TokenFile | undefined;
}

/** A server as a node opens it, with two routes. */
export async function serve(
  options: {
    token?: string;
    limits?: Partial<HttpLimits>;
    peers?: string[];
    pingMs?: number;
    throttle?: HttpThrottle;
  } = {},
): Promise<Served> {
  if (options.token !== undefined) writeFileSync(tokenPath, `${options.token}\n`);
  const token = options.token === undefined ? undefined : TokenFile.load(tokenPath);
  const feed = new Feed(() => ({ type: 'hello' }), {
    readersMax: 2,
    bufferedBytesMax: 256 * 1024,
    pingMs: options.pingMs ?? 5000,
  });
  const open: HttpRoute = { access: 'open', answer: () => plain(200, 'open') };
  const secret: HttpRoute = { access: 'reader', answer: () => plain(200, 'ft_x 1') };
  const probe: HttpRoute = { ...open, isProbe: true };
  const broken: HttpRoute = { access: 'open', answer: () => Promise.reject(new Error('no')) };
  const peers = options.peers ?? [];
  const server = new HttpServer(
    {
      access: new HttpAccess({ tls: false, token, peers, host: '127.0.0.1' }),
      tls: undefined,
      routes: new Map([
        ['/livez', probe],
        ['/open', open],
        ['/metrics', secret],
        ['/broken', broken],
      ]),
      feedPath: '/feed',
      feed,
      throttle: options.throttle,
    },
    { ...HTTP_LIMITS, ...options.limits },
  );
  const { port } = await server.listen({ host: '127.0.0.1', port: 0 });
  servers.push(async () => {
    feed.close();
    await server.close();
  });
  return { port, server, feed, token };
}

export interface Got {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

export function ask(
  port: number,
  url: string,
  headers: Record<string, string> = {},
  method = 'GET',
  body = '',
): Promise<Got> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, path: url, headers, method, agent: false });
    asked.on('error', reject);
    asked.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
      );
    });
    asked.end(body);
  });
}

/** Opens a feed; resolves with the socket, or with the HTTP status of the refusal. */
export function listenTo(
  port: number,
  headers: Record<string, string> = {},
  protocols: string[] = [FEED_PROTOCOL],
): Promise<WebSocket | number> {
  return new Promise((resolve) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/feed`, protocols, { headers });
    socket.on('open', () => resolve(socket));
    socket.on('unexpected-response', (asked, response) => {
      resolve(response.statusCode ?? 0);
      asked.destroy();
    });
    socket.on('error', () => resolve(0));
  });
}

export async function listener(port: number): Promise<WebSocket> {
  const socket = await listenTo(port);
  if (typeof socket === 'number') throw new Error(`The feed was refused: ${socket}.`);
  return socket;
}

/** What a raw connection is sent until it is closed; rejects when that takes too long. */
export function raw(port: number, text: string, more?: (socket: Socket) => void): Promise<string> {
  return new Promise((resolve, reject) => {
    let got = '';
    const socket = connect({ host: '127.0.0.1', port });
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`It was not closed; it sent ${JSON.stringify(got)}.`));
    }, 5000);
    socket.on('connect', () => {
      socket.write(text);
      more?.(socket);
    });
    socket.on('data', (piece) => {
      got += piece.toString('latin1');
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(got);
    });
  });
}

export const until = async (what: string, isTrue: () => boolean): Promise<void> => {
  const endMs = performance.now() + 5000;
  while (!isTrue()) {
    if (performance.now() > endMs) throw new Error(`Waited in vain for ${what}.`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};
