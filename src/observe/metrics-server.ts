/** GET /metrics over HTTP, for Prometheus. Bound to loopback unless told otherwise. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Address, formatAddress, isLoopback } from '../common/address';
import { FtError } from '../common/errors';

/** What the server shows; NodeMetrics is one. */
export interface MetricsPage {
  readonly contentType: string;
  text(): Promise<string>;
}

export interface MetricsServerOptions {
  /** The page has no password: another machine may read it only if this is set. */
  readonly allowRemote?: boolean;
}

const CONNECTIONS_MAX = 16;
const REQUEST_MS_MAX = 5000;

export class MetricsServer {
  private readonly page: MetricsPage;
  private server: Server | undefined;

  constructor(page: MetricsPage) {
    this.page = page;
  }

  /**
   * Starts to serve; resolves with the address, the port filled in when it was 0. Rejects with
   * FT_ERR_METRICS_ADDRESS (not loopback, and not allowed), FT_ERR_PORT_TAKEN or FT_ERR_LISTEN.
   */
  listen(address: Address, options: MetricsServerOptions = {}): Promise<Address> {
    const where = formatAddress(address);
    if (!isLoopback(address.host) && options.allowRemote !== true) {
      const text = `The metrics page would be open to other machines at ${where}. Use a loopback address.`;
      return Promise.reject(new FtError('FT_ERR_METRICS_ADDRESS', text, { address: where }));
    }
    return new Promise((resolve, reject) => {
      const server = createServer((request, response) => this.answer(request, response));
      server.maxConnections = CONNECTIONS_MAX;
      server.headersTimeout = REQUEST_MS_MAX;
      server.requestTimeout = REQUEST_MS_MAX;
      server.keepAliveTimeout = REQUEST_MS_MAX;
      server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(where, error)));
      server.listen({ host: address.host, port: address.port, exclusive: true }, () => {
        server.removeAllListeners('error');
        // Later errors (accepting, for want of descriptors) leave the node without metrics for a
        // while, and never without its guest.
        server.on('error', () => {});
        this.server = server;
        resolve({ host: address.host, port: (server.address() as AddressInfo).port });
      });
    });
  }

  close(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    if (server === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const path = (request.url ?? '').split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      plain(response, 405, 'Only GET is answered here.');
    } else if (path === '/metrics') {
      this.page.text().then(
        (text) => {
          response.writeHead(200, { 'Content-Type': this.page.contentType });
          response.end(text);
        },
        () => plain(response, 500, 'The metrics cannot be read.'),
      );
    } else {
      plain(response, 404, 'The metrics are at /metrics.');
    }
  }
}

function plain(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' });
  response.end(`${text}\n`);
}

function listenError(where: string, error: NodeJS.ErrnoException): FtError {
  const facts = { address: where, cause: error.code };
  if (error.code === 'EADDRINUSE') {
    const text =
      `Cannot serve metrics at ${where}: another program has this port. Stop it, or choose ` +
      'another port.';
    return new FtError('FT_ERR_PORT_TAKEN', text, facts, error);
  }
  const text = `Cannot serve metrics at ${where}: ${error.message}.`;
  return new FtError('FT_ERR_LISTEN', text, facts, error);
}
