/**
 * How often strangers may come to a node's HTTP server: the same gate and lobby that stand before
 * replication, with rates for browsers, probes and Prometheus, and the same bounds of a handshake.
 * What the server spends on whoever has not proved to be a reader is bounded: some ten TLS handshakes
 * a second, or some hundred requests.
 */

import type { HttpThrottle } from '../observe/http-server';
import { Gate, type GateRates } from '../transport/gate';
import { HandshakeBounds } from '../transport/handshake-bounds';
import { Lobby } from '../transport/lobby';

/** Connections. A browser opens six at once, and two for the feeds. */
const TLS_RATES: GateRates = {
  perAddress: { burst: 16, perSecond: 6 },
  strangers: { burst: 24, perSecond: 10 },
};
const PLAIN_RATES: GateRates = {
  perAddress: { burst: 48, perSecond: 40 },
  strangers: { burst: 48, perSecond: 40 },
};
/** Requests. A page is ten of them. */
const REQUEST_RATES: GateRates = {
  perAddress: { burst: 200, perSecond: 100 },
  strangers: { burst: 400, perSecond: 150 },
};
/** Requests for health, each a word. The bucket is their own: who asks for pages takes none of it. */
const PROBE_RATES: GateRates = {
  perAddress: { burst: 100, perSecond: 50 },
  strangers: { burst: 400, perSecond: 400 },
};

export function httpThrottle(tls: boolean): HttpThrottle {
  const connections = new Gate(tls ? TLS_RATES : PLAIN_RATES, performance.now());
  const requests = new Gate(REQUEST_RATES, performance.now());
  const probes = new Gate(PROBE_RATES, performance.now());
  return {
    handshakes: new HandshakeBounds(),
    lobby: (onEnter) => new Lobby(connections, onEnter, () => undefined),
    admitsRequest: (address) => requests.admit(address, performance.now()),
    admitsProbe: (address) => probes.admit(address, performance.now()),
    proved: (address) => {
      for (const gate of [connections, requests, probes]) gate.proved(address);
    },
  };
}
