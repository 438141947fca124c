/**
 * How many strangers may try a listener's door, and how often. A connection costs a try; whoever
 * turns out to be a peer gets it back. So a peer is never limited by its own reconnects, and what
 * strangers can make this node do is bounded: a TLS handshake is a millisecond of its processor.
 *
 *   per address   a bucket of tries each (an IPv6 /64 counts as one address)
 *   strangers     one bucket for all addresses from which no peer has come yet
 *   known         an address from which a peer came is not limited by what other addresses do
 *
 * Time is handed in, in milliseconds of any monotonic clock. No sockets here.
 */

import { placeOf } from '../common/place';

export interface Rate {
  /** Tries that may come at once. */
  readonly burst: number;
  readonly perSecond: number;
}

export interface GateRates {
  readonly perAddress: Rate;
  readonly strangers: Rate;
}

/** Without TLS a stranger costs a hello's decoding at most. */
export const PLAIN_RATES: GateRates = {
  perAddress: { burst: 32, perSecond: 20 },
  strangers: { burst: 64, perSecond: 50 },
};

/** With it, a signature and two key exchanges. */
export const TLS_RATES: GateRates = {
  perAddress: { burst: 8, perSecond: 4 },
  strangers: { burst: 16, perSecond: 8 },
};

const ADDRESSES_MAX = 256;
const KNOWN_MAX = 16;

class Bucket {
  private tries: number;

  constructor(
    private readonly rate: Rate,
    private atMs: number,
  ) {
    this.tries = rate.burst;
  }

  has(nowMs: number): boolean {
    const more = (Math.max(0, nowMs - this.atMs) * this.rate.perSecond) / 1000;
    this.tries = Math.min(this.rate.burst, this.tries + more);
    this.atMs = nowMs;
    return this.tries >= 1;
  }

  take(): void {
    this.tries -= 1;
  }

  giveBack(): void {
    this.tries = Math.min(this.rate.burst, this.tries + 1);
  }
}

export class Gate {
  /** The least recently used first; the oldest is forgotten for a new one. */
  private readonly buckets = new Map<string, Bucket>();
  private readonly known = new Set<string>();
  private readonly strangers: Bucket;

  constructor(
    private readonly rates: GateRates,
    nowMs: number,
  ) {
    this.strangers = new Bucket(rates.strangers, nowMs);
  }

  /** Whether a connection from `host` may try now; if so, a try is taken. */
  admit(host: string, nowMs: number): boolean {
    const place = placeOf(host);
    const own = this.bucketOf(place, nowMs);
    if (!own.has(nowMs)) return false;
    if (!this.known.has(place)) {
      if (!this.strangers.has(nowMs)) return false;
      this.strangers.take();
    }
    own.take();
    return true;
  }

  /** Whoever was admitted from `host` is a peer. */
  proved(host: string): void {
    const place = placeOf(host);
    this.buckets.get(place)?.giveBack();
    if (!this.known.has(place)) this.strangers.giveBack();
    this.known.delete(place);
    this.known.add(place);
    if (this.known.size > KNOWN_MAX) forgetOldest(this.known);
  }

  private bucketOf(place: string, nowMs: number): Bucket {
    const found = this.buckets.get(place) ?? new Bucket(this.rates.perAddress, nowMs);
    this.buckets.delete(place);
    this.buckets.set(place, found);
    if (this.buckets.size > ADDRESSES_MAX) forgetOldest(this.buckets);
    return found;
  }
}

function forgetOldest(kept: Map<string, unknown> | Set<string>): void {
  const [oldest] = kept.keys();
  if (oldest !== undefined) kept.delete(oldest);
}
