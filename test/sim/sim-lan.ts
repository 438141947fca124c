/**
 * The simulated clients' side of the world: a LAN that carries requests to whichever card was
 * plugged in last, and a client that checks every answer against all it has seen.
 */
import type { Clock } from '../../src/common/clock';
import type { FtError } from '../../src/common/errors';
import type { SimulatedNetwork } from '../../src/machine/simulated-network';
import type { HostGate } from './host-gate';

interface Card {
  readonly node: string;
  readonly onPacket: (payload: Buffer, from: string) => void;
  readonly onError: (error: FtError) => void;
}

/** One answer that left a host. */
export interface SeenAnswer {
  readonly node: string;
  readonly sequence: number;
  readonly counter: number;
  readonly hash: bigint;
  readonly previousHash: bigint;
  readonly requestId: number;
  readonly client: number;
}

export class SimLan {
  private readonly cards: Card[] = [];
  onAnswer: (answer: SeenAnswer) => void = () => undefined;

  constructor(private readonly clock: Clock) {}

  card(node: string, gate: HostGate): SimulatedNetwork {
    let mine: Card | undefined;
    return {
      open: (onPacket, onError) => {
        mine = {
          node,
          onError,
          onPacket: (payload, from) => gate.pass(() => onPacket(payload, from)),
        };
        this.cards.push(mine);
      },
      send: (payload) => {
        if (gate.effect()) this.answered(node, payload);
      },
      close: () => this.unplug(mine),
    };
  }

  /** The guest of a node runs: its card is up. */
  isUp(node: string): boolean {
    return this.cards.some((card) => card.node === node);
  }

  /** Takes a dead host's card away. */
  unplugNode(node: string): void {
    for (const card of this.cards.filter((one) => one.node === node)) this.unplug(card);
  }

  /** The card of a node breaks. */
  fail(node: string, error: FtError): void {
    this.cards.find((card) => card.node === node)?.onError(error);
  }

  request(payload: Buffer): void {
    const card = this.cards.at(-1);
    if (card !== undefined) this.clock.soon(() => card.onPacket(payload, 'client'));
  }

  private unplug(card: Card | undefined): void {
    const at = card === undefined ? -1 : this.cards.indexOf(card);
    if (at >= 0) this.cards.splice(at, 1);
  }

  private answered(node: string, payload: Buffer): void {
    this.onAnswer({
      node,
      client: payload.readUInt32LE(8),
      requestId: payload.readUInt32LE(12),
      sequence: Number(payload.readBigUInt64LE(24)),
      previousHash: payload.readBigUInt64LE(32),
      hash: payload.readBigUInt64LE(40),
      counter: Number(payload.readBigUInt64LE(48)),
    });
  }
}

/** A beacon request. */
export function beaconRequest(
  op: 'incr' | 'put' | 'get' | 'stats' | 'load' | 'end',
  client: number,
  requestId: number,
  a = 0n,
  b = 0n,
  c = 0n,
): Buffer {
  const request = Buffer.alloc(40);
  request.write('FTBQ', 0, 'latin1');
  request[4] = 1;
  request[5] = { incr: 1, put: 2, get: 3, stats: 4, load: 5, end: 9 }[op];
  request.writeUInt32LE(client, 8);
  request.writeUInt32LE(requestId, 12);
  request.writeBigUInt64LE(a, 16);
  request.writeBigUInt64LE(b, 24);
  request.writeBigUInt64LE(c, 32);
  return request;
}
