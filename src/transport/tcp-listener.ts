/** The listening side of tcp.ts, with bounds on what strangers can make it hold. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Address, formatAddress } from '../common/address';
import { FtError } from '../common/errors';
import { cutOff } from './byte-stream';
import type { Connection } from './connection';
import { TcpConnection, type TcpOptions } from './tcp';

/** Connections that may wait for their handshake at one time; more are cut off at once. */
export const WAITING_MAX = 16;
/** What an owner should grant a connection to finish its handshake before closing it. */
export const HANDSHAKE_DEADLINE_MS = 2000;

/**
 * Accepts connections. One counts as waiting for its handshake until it closes or its owner calls
 * `setMaxBodyBytes`, which only a finished handshake justifies. The owner closes a connection whose
 * handshake takes longer than HANDSHAKE_DEADLINE_MS.
 */
export class TcpListener {
  /** Told of connections turned away because WAITING_MAX others wait, and of accept errors. */
  onTrouble: (error: FtError) => void = () => {};

  private readonly options: TcpOptions;
  private readonly waiting = new Set<TcpConnection>();
  private server: Server | undefined;
  private handler: ((connection: Connection) => void) | undefined;

  constructor(options: TcpOptions = {}) {
    this.options = options;
  }

  /**
   * Set by the owner, who may do so some time after listen(): whoever came before that is handed
   * over then. A dialler that nobody greets would wait for its whole deadline.
   */
  set onConnection(handler: (connection: Connection) => void) {
    const early = this.handler === undefined ? [...this.waiting] : [];
    this.handler = handler;
    for (const connection of early) handler(connection);
  }

  /** Connections whose handshake is not done. */
  get waitingConnections(): number {
    return this.waiting.size;
  }

  /**
   * Starts to listen; resolves with the address, the port filled in when it was 0. Rejects with
   * FT_ERR_PORT_TAKEN, or FT_ERR_LISTEN with the system's reason.
   */
  listen(address: Address): Promise<Address> {
    return new Promise((resolve, reject) => {
      const server = createServer({ noDelay: true, pauseOnConnect: true }, (socket) =>
        this.accepted(socket),
      );
      server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(address, error)));
      server.listen({ host: address.host, port: address.port, exclusive: true }, () => {
        server.removeAllListeners('error');
        server.on('error', (error) => {
          this.onTrouble(new FtError('FT_ERR_ACCEPT', `Cannot accept: ${error.message}.`));
        });
        this.server = server;
        resolve({ host: address.host, port: (server.address() as AddressInfo).port });
      });
    });
  }

  /** Stops listening and cuts off who still waits for a handshake; finished ones live on. */
  close(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    for (const connection of [...this.waiting]) connection.close();
    if (server === undefined) return Promise.resolve();
    // The server's own close event waits for every connection; the port is free before that.
    server.close();
    return Promise.resolve();
  }

  private accepted(socket: Socket): void {
    if (this.waiting.size >= WAITING_MAX) {
      const remote = `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`;
      socket.on('error', () => {});
      cutOff(socket);
      this.onTrouble(
        new FtError(
          'FT_ERR_TOO_MANY_HANDSHAKES',
          `A connection from ${remote} is turned away: ${WAITING_MAX} others have not finished ` +
            'their handshake.',
          { remote, waitingMax: WAITING_MAX },
        ),
      );
      return;
    }
    const connection = new TcpConnection(socket, this.options);
    this.waiting.add(connection);
    connection.whenHandshakeDone(() => this.waiting.delete(connection));
    this.handler?.(connection);
  }
}

function listenError(address: Address, error: NodeJS.ErrnoException): FtError {
  const where = formatAddress(address);
  if (error.code === 'EADDRINUSE') {
    return new FtError(
      'FT_ERR_PORT_TAKEN',
      `Cannot listen at ${where}: another program has this port. Stop it, or choose another port.`,
      { address: where },
      error,
    );
  }
  return new FtError(
    'FT_ERR_LISTEN',
    `Cannot listen at ${where}: ${error.message}. Check the address and the permission to use it.`,
    { address: where, cause: error.code },
    error,
  );
}
