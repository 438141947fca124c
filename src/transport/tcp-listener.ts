/**
 * The listening side of tcp.ts, with bounds on what strangers can make it hold and do.
 *
 *   accepted ─▶ lobby: has its address a try? ─▶ waiting ─▶ TLS, when the node has a certificate
 *                 └ held, cut off                  │           └ no peer: told why, or cut off
 *                                                  ▼
 *                             handed over ─▶ setMaxBodyBytes: its handshake is done
 *
 * At most WAITING_MAX wait at one time. When one more comes, the one that has waited longest makes
 * room, of the place that has most of them here: a peer is through within a few round trips, so it
 * is not a peer. Whoever waits longer than HANDSHAKE_DEADLINE_MS, TLS included, is cut off.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { type Address, formatAddress } from '../common/address';
import { defectError, FtError } from '../common/errors';
import { oldestOfMost, placeOf } from '../common/place';
import { FrameType } from '../wire/frame';
import { packFrame, type Refuse, TEXT_CHARS_MAX } from '../wire/messages';
import { cutOff } from './byte-stream';
import type { Connection } from './connection';
import { Gate, PLAIN_RATES, TLS_RATES } from './gate';
import { Lobby } from './lobby';
import { TcpConnection, type TcpOptions } from './tcp';
import { TlsAcceptor, type TlsOutcome, type TlsRefusal } from './tls-accept';

/** Connections that may wait for their handshake at one time. */
export const WAITING_MAX = 16;
/** How long a connection may take for its handshake, TLS and hello together. */
export const HANDSHAKE_DEADLINE_MS = 2000;

interface Waiting {
  readonly raw: Socket;
  readonly host: string;
  readonly place: string;
  readonly deadline: NodeJS.Timeout;
  /** Undefined until TLS is done. */
  connection: TcpConnection | undefined;
}

/**
 * Accepts connections. One counts as waiting for its handshake until it closes or its owner calls
 * `setMaxBodyBytes`, which only a finished handshake justifies.
 */
export class TcpListener {
  /** Told of connections turned away, and of accept errors. */
  onTrouble: (error: FtError) => void = () => {};

  /** The longest waiting first. */
  private readonly waiting = new Set<Waiting>();
  private readonly gate: Gate;
  private readonly lobby: Lobby;
  private readonly acceptor: TlsAcceptor | undefined;
  private server: Server | undefined;
  private handler: ((connection: Connection) => void) | undefined;

  constructor(private readonly options: TcpOptions = {}) {
    const { tls } = options;
    this.gate = new Gate(tls === undefined ? PLAIN_RATES : TLS_RATES, performance.now());
    this.lobby = new Lobby(
      this.gate,
      (socket, host) => this.entered(socket, host),
      (host) => this.tooMany(host),
    );
    this.acceptor = tls === undefined ? undefined : new TlsAcceptor(tls);
  }

  /**
   * Set by the owner, who may do so some time after listen(): whoever came before that is handed
   * over then. A dialler that nobody greets would wait for its whole deadline.
   */
  set onConnection(handler: (connection: Connection) => void) {
    const early = this.handler === undefined ? [...this.waiting] : [];
    this.handler = handler;
    for (const { connection } of early) if (connection !== undefined) handler(connection);
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
        this.lobby.arrived(socket),
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
    this.lobby.close();
    for (const one of [...this.waiting]) {
      if (one.connection === undefined) this.drop(one);
      else one.connection.close();
    }
    // The server's own close event waits for every connection; the port is free before that.
    server?.close();
    return Promise.resolve();
  }

  /** Its address had a try. */
  private entered(raw: Socket, host: string): void {
    if (this.waiting.size >= WAITING_MAX) this.makeRoom();
    const deadline = setTimeout(() => this.late(one), HANDSHAKE_DEADLINE_MS);
    const one: Waiting = { raw, host, place: placeOf(host), deadline, connection: undefined };
    this.waiting.add(one);
    raw.once('close', () => this.release(one));
    this.guarded(one, () => {
      if (this.acceptor === undefined) this.handOver(one, new TcpConnection(raw, this.options));
      else
        this.acceptor.accept(raw, (outcome) => this.guarded(one, () => this.judged(one, outcome)));
    });
  }

  /** What a stranger makes fail costs it the connection; thrown out of an event it ends the process. */
  private guarded(one: Waiting, step: () => void): void {
    try {
      step();
    } catch (thrown) {
      const error = defectError(one.host, thrown);
      this.onTrouble(error);
      // Not here: Node does not survive the end of a socket within the event that ends its handshake.
      setImmediate(() => {
        one.connection?.close(error);
        this.drop(one);
      });
    }
  }

  private judged(one: Waiting, outcome: TlsOutcome): void {
    if (!this.waiting.has(one)) return;
    if ('refusal' in outcome) {
      this.refuse(one, outcome.refusal);
      return;
    }
    this.gate.proved(one.host);
    const { socket, node } = outcome.peer;
    this.handOver(one, new TcpConnection(socket, this.options, { raw: one.raw, peerNode: node }));
  }

  private handOver(one: Waiting, connection: TcpConnection): void {
    one.connection = connection;
    connection.whenHandshakeDone((done) => {
      if (done && this.acceptor === undefined) this.gate.proved(one.host);
      this.release(one);
    });
    this.handler?.(connection);
  }

  /** It hears why, where there is somebody who can act on it; its own log is where it is read. */
  private refuse(one: Waiting, refusal: TlsRefusal): void {
    const { error, tell, trusted } = refusal;
    this.onTrouble(error);
    if (tell === undefined) {
      this.drop(one);
      return;
    }
    const connection = new TcpConnection(tell, {}, { raw: one.raw, peerNode: undefined });
    one.connection = connection;
    connection.whenHandshakeDone(() => this.release(one));
    const header = { type: FrameType.refuse, flags: 0, generation: 0, epoch: 0 };
    const { buffer, bytes } = packFrame(refuseMessage(error, trusted));
    connection.send(header, buffer, bytes);
    connection.close();
  }

  private late(one: Waiting): void {
    const remote = formatAddress({ host: one.host, port: one.raw.remotePort ?? 0 });
    const message = `${remote} did not finish its handshake within ${HANDSHAKE_DEADLINE_MS} ms.`;
    const error = new FtError('FT_ERR_GREETING_TIMEOUT', message, { remote });
    if (one.connection !== undefined) {
      one.connection.close(error);
      return;
    }
    this.onTrouble(error);
    this.drop(one);
  }

  private makeRoom(): void {
    const oldest = oldestOfMost(this.waiting);
    if (oldest === undefined) return;
    const error = this.tooMany(oldest.host);
    oldest.connection?.close(error);
    this.drop(oldest);
  }

  private tooMany(host: string): FtError {
    const message =
      `A connection from ${host} is turned away: too many come at once without finishing a ` +
      'handshake. If no node of this pair is there, a firewall should keep that host off this port.';
    const facts = { remote: host, waitingMax: WAITING_MAX };
    const error = new FtError('FT_ERR_TOO_MANY_HANDSHAKES', message, facts);
    this.onTrouble(error);
    return error;
  }

  private drop(one: Waiting): void {
    this.release(one);
    cutOff(one.raw);
  }

  private release(one: Waiting): void {
    clearTimeout(one.deadline);
    this.waiting.delete(one);
  }
}

/** Whoever is not of our authority hears no names; who is has a say in how long the message is. */
function refuseMessage(error: FtError, trusted: boolean): Refuse {
  const message =
    trusted || error.code === 'FT_ERR_TLS_PLAINTEXT'
      ? error.message
      : 'This node does not believe the certificate that it was shown; its log says why.';
  const { code } = error;
  return {
    code,
    field: 'certificate',
    ours: '',
    theirs: '',
    message: message.slice(0, TEXT_CHARS_MAX),
  };
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
