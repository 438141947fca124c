/**
 * Who is connected to a node's HTTP server. Strangers are few and make room for each other; whoever
 * proved to be a reader makes room for nobody, so strangers cannot keep readers out by staying.
 *
 *   enter ─▶ stranger ── certificate, token ─▶ reader ── takes the feed ─▶ the feed's to count
 *               │                                │
 *               ├─ one more than there may be    ├─ dropAll ─▶ cut off
 *               │  of them: the oldest goes, of  │
 *               │  the place that has most       │
 *               ▼                                ▼
 *            cut off                          cut off
 */
import type { Socket } from 'node:net';
import { oldestOfMost, placeOf } from '../common/place';

/** The far end of a connection; no two open ones of a server share it. */
export type FarEnd = Pick<Socket, 'remoteAddress' | 'remotePort'>;

/** How many may be connected at one time. */
export interface VisitorLimits {
  /** Connections that have proved nothing. */
  readonly strangersMax: number;
  /** Connections of readers; one that comes beyond that stays a stranger. */
  readonly readersMax: number;
}

interface Visitor {
  readonly key: string;
  /** Below TLS, where there is TLS. */
  readonly raw: Socket;
  readonly place: string;
  isReader: boolean;
  /** Ends a TLS handshake that takes too long. */
  deadline: NodeJS.Timeout | undefined;
}

/** The connections of one server, up to the feed. */
export class Visitors {
  /** By their far ends, the oldest first. */
  private readonly present = new Map<string, Visitor>();

  constructor(private readonly limits: VisitorLimits) {}

  /**
   * Lets one more in, for which another may have to go. It must be secured() within `handshakeMs`,
   * if that is given, or is cut off.
   */
  enter(raw: Socket, handshakeMs?: number): void {
    const strangers = this.those(false);
    if (strangers.length >= this.limits.strangersMax) this.drop(oldestOfMost(strangers));
    const visitor: Visitor = {
      ...{ key: keyOf(raw), raw, place: placeOf(raw.remoteAddress ?? ''), isReader: false },
      deadline:
        handshakeMs === undefined ? undefined : setTimeout(() => this.drop(visitor), handshakeMs),
    };
    this.present.set(visitor.key, visitor);
    raw.on('error', () => undefined);
    raw.once('close', () => this.forget(visitor));
  }

  /** Its handshake is done. Returns the socket below it; undefined when it is gone already. */
  secured(end: FarEnd): Socket | undefined {
    const visitor = this.present.get(keyOf(end));
    clearTimeout(visitor?.deadline);
    return visitor?.raw;
  }

  /** Whoever is there is a reader. */
  proved(end: FarEnd): void {
    const visitor = this.present.get(keyOf(end));
    if (visitor === undefined || this.those(true).length >= this.limits.readersMax) return;
    visitor.isReader = true;
  }

  /** Somebody else counts it from now on, and ends it. */
  handOver(end: FarEnd): void {
    this.present.delete(keyOf(end));
  }

  /** Cuts everybody off, readers as well. */
  dropAll(): void {
    for (const one of [...this.present.values()]) this.drop(one);
  }

  /** It counts no more from this moment on, and not only when its end is told. */
  private drop(visitor: Visitor | undefined): void {
    if (visitor === undefined) return;
    this.forget(visitor);
    visitor.raw.destroy();
  }

  private forget(visitor: Visitor): void {
    clearTimeout(visitor.deadline);
    if (this.present.get(visitor.key) === visitor) this.present.delete(visitor.key);
  }

  private those(isReader: boolean): Visitor[] {
    return [...this.present.values()].filter((one) => one.isReader === isReader);
  }
}

function keyOf({ remoteAddress, remotePort }: FarEnd): string {
  return `${remoteAddress} ${remotePort}`;
}
