/**
 * The simulated machine's network card: UDP on a loopback port when it runs as a process, an
 * in-memory one in tests.
 *
 * After a failover both processes may hold the port for a moment. The socket is bound with
 * SO_REUSEADDR, and Linux hands a datagram to the socket bound last: the promoted side takes the
 * address over, as gratuitous ARP does for a real guest.
 */
import dgram from 'node:dgram';
import { FtError, toFtError } from '../common/errors';

export interface SimulatedNetwork {
  /** Brings the card up: packets come in through `onPacket`. `onError`: it cannot go on. */
  open(onPacket: (payload: Buffer, from: string) => void, onError: (error: FtError) => void): void;
  send(payload: Buffer, to: string): void;
  close(): void;
}

/** UDP on 127.0.0.1:`port`. A client's address is the string "host:port". */
export class UdpNetwork implements SimulatedNetwork {
  private socket: dgram.Socket | undefined;

  constructor(private readonly port: number) {}

  open(onPacket: (payload: Buffer, from: string) => void, onError: (error: FtError) => void): void {
    const socket = dgram.createSocket({ type: 'udp4', reuseAddr: true });
    socket.on('message', (payload, from) => onPacket(payload, `${from.address}:${from.port}`));
    socket.on('error', (thrown) => {
      const facts = { port: this.port, cause: toFtError(thrown).message };
      const message = `The guest's UDP port ${this.port} failed; choose another with --sim-port.`;
      onError(new FtError('FT_ERR_SIM_PORT', message, facts, thrown));
    });
    socket.bind(this.port, '127.0.0.1');
    this.socket = socket;
  }

  send(payload: Buffer, to: string): void {
    const colon = to.lastIndexOf(':');
    // A client that is gone is the client's loss, as on any network.
    this.socket?.send(payload, Number(to.slice(colon + 1)), to.slice(0, colon), () => undefined);
  }

  close(): void {
    this.socket?.close();
    this.socket = undefined;
  }
}

/** No network at all. */
export const noNetwork: SimulatedNetwork = { open() {}, send() {}, close() {} };
