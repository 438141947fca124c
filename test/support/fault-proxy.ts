/**
 * A TCP proxy on loopback that does to requests and answers what networks and stalled hosts do.
 *
 *   client ──▶ [ proxy: what to do with each piece is asked when it comes ] ──▶ server
 *
 *   pass          hands on at once
 *   hold          keeps requests until release(), and then delivers them, client gone or not
 *   drop-answer   delivers requests; answers vanish
 *   late-answer   delivers requests; answers wait for `delayMs`
 *   late-request  requests wait for `delayMs`, and are then delivered, client gone or not
 *   blackhole     both vanish
 *   reset         the connection is reset as soon as a request comes
 *   cut           the request is delivered, and the connection reset as soon as the answer comes
 *
 * A client that goes away does not take back what it sent, as in a real network.
 */
import net from 'node:net';

export type Fault =
  | 'pass'
  | 'hold'
  | 'drop-answer'
  | 'late-answer'
  | 'late-request'
  | 'blackhole'
  | 'reset'
  | 'cut';

export const FAULTS: readonly Fault[] = [
  ...(['pass', 'drop-answer', 'late-answer', 'late-request'] as const),
  ...(['blackhole', 'reset', 'cut'] as const),
];

export class FaultProxy {
  fault: Fault = 'pass';
  delayMs = 0;
  /** Only requests that contain this text suffer the fault, with their answers. */
  only = '';
  /** Only connections whose first piece contains this text suffer the fault. */
  onlyBegunWith = '';
  private readonly server: net.Server;
  private readonly sockets = new Set<net.Socket>();
  private readonly timers = new Set<NodeJS.Timeout>();
  private held: (() => void)[] = [];

  private constructor(private readonly targetPort: number) {
    this.server = net.createServer((client) => this.join(client));
  }

  static async start(targetPort: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(targetPort);
    await new Promise<void>((resolve) => proxy.server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.server.address() as net.AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get heldCount(): number {
    return this.held.length;
  }

  /** Delivers what was held. */
  release(): void {
    for (const deliver of this.held.splice(0)) deliver();
  }

  async close(): Promise<void> {
    for (const timer of this.timers) clearTimeout(timer);
    for (const socket of this.sockets) socket.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private join(client: net.Socket): void {
    const upstream = net.connect(this.targetPort, '127.0.0.1');
    for (const socket of [client, upstream]) {
      this.sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => undefined);
      socket.on('close', () => this.sockets.delete(socket));
    }
    /** What the newest request on this connection suffers. */
    let fault: Fault = 'pass';
    let first: Buffer | undefined;
    client.on('data', (piece: Buffer) => {
      first ??= Buffer.from(piece);
      const meant = piece.includes(this.only) && first.includes(this.onlyBegunWith);
      fault = meant ? this.fault : 'pass';
      const deliver = (): void => {
        if (!upstream.destroyed) upstream.write(piece);
      };
      if (fault === 'hold') this.held.push(deliver);
      else if (fault === 'late-request') this.later(deliver);
      else if (fault === 'reset') client.resetAndDestroy();
      else if (fault !== 'blackhole') deliver();
    });
    upstream.on('data', (piece: Buffer) => {
      const deliver = (): void => {
        if (!client.destroyed) client.write(piece);
      };
      if (fault === 'late-answer') this.later(deliver);
      else if (fault === 'cut') client.resetAndDestroy();
      else if (fault !== 'drop-answer' && fault !== 'blackhole') deliver();
    });
    upstream.on('close', () => client.destroy());
    // The server is not told that the client left while something is still to be delivered to it.
    client.on('close', () => {
      if (fault === 'pass' || fault === 'reset') upstream.destroy();
    });
  }

  private later(act: () => void): void {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      act();
    }, this.delayMs);
    this.timers.add(timer);
  }
}
