/**
 * Where connections stand that came too often: not read, not answered, until their address has a try
 * again (the newest first, since the oldest may have given up) or their time is over. Whoever is
 * turned away at once comes back at once; who waits for it does not.
 *
 *   arrived ─▶ gate has a try ─────────────▶ onEnter
 *                └ none ─▶ stands here ──────▶ onEnter, when there is one
 *                            └ HOLD_MS over ─▶ cut off; so is the oldest when the lobby is full
 */
import type { Socket } from 'node:net';
import { cutOff } from './byte-stream';
import type { Gate } from './gate';

/** How long a connection stands here. Less than what a dialler waits for. */
export const HOLD_MS = 1000;
export const HELD_MAX = 64;
const LOOK_MS = 100;

interface Held {
  readonly socket: Socket;
  readonly host: string;
  readonly sinceMs: number;
}

export class Lobby {
  private readonly held: Held[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly gate: Gate,
    private readonly onEnter: (socket: Socket, host: string) => void,
    /** One was cut off without having been let in. */
    private readonly onTurnedAway: (host: string) => void,
  ) {}

  get size(): number {
    return this.held.length;
  }

  /** `host` is where it comes from; a UNIX socket has no address, so its server names one for all. */
  arrived(socket: Socket, host = socket.remoteAddress): void {
    socket.on('error', () => undefined);
    if (host === undefined) {
      socket.destroy();
      return;
    }
    const nowMs = performance.now();
    if (this.gate.admit(host, nowMs)) {
      this.onEnter(socket, host);
      return;
    }
    this.held.push({ socket, host, sinceMs: nowMs });
    if (this.held.length > HELD_MAX) this.turnAwayOldest();
    this.timer ??= setInterval(() => this.look(performance.now()), LOOK_MS);
  }

  close(): void {
    while (this.held.length > 0) this.turnAwayOldest();
    this.rest();
  }

  private look(nowMs: number): void {
    while (this.held[0] !== undefined && nowMs - this.held[0].sinceMs >= HOLD_MS) {
      this.turnAwayOldest();
    }
    for (let n = this.held.length - 1; n >= 0; n -= 1) {
      const one = this.held[n];
      if (one === undefined) continue;
      // Who went away while it waited takes nobody's try, and nobody counts it any more.
      if (one.socket.destroyed || one.socket.readableEnded) {
        this.held.splice(n, 1);
        one.socket.destroy();
        continue;
      }
      if (!this.gate.admit(one.host, nowMs)) continue;
      this.held.splice(n, 1);
      this.onEnter(one.socket, one.host);
    }
    if (this.held.length === 0) this.rest();
  }

  private turnAwayOldest(): void {
    const oldest = this.held.shift();
    if (oldest === undefined) return;
    cutOff(oldest.socket);
    this.onTurnedAway(oldest.host);
  }

  private rest(): void {
    if (this.timer !== undefined) clearInterval(this.timer);
    this.timer = undefined;
  }
}
