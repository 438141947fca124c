/** How often strangers may try, and that a peer is never limited by them. */
import { oldestOfMost, placeOf } from '../../src/common/place';
import { Gate, PLAIN_RATES, TLS_RATES } from '../../src/transport/gate';

describe('the gate of a listener', () => {
  const tries = (gate: Gate, host: string, nowMs: number, count: number): number =>
    Array.from({ length: count }).filter(() => gate.admit(host, nowMs)).length;

  test('one address has its burst, then its rate', () => {
    const gate = new Gate(TLS_RATES, 0);
    const { burst, perSecond } = TLS_RATES.perAddress;
    expect(tries(gate, '192.0.2.1', 0, 100)).toBe(burst);
    expect(tries(gate, '192.0.2.1', 1000, 100)).toBe(perSecond);
    expect(tries(gate, '192.0.2.1', 3_600_000, 100)).toBe(burst);
  });

  test('a peer gets its tries back, however often it comes', () => {
    const gate = new Gate(TLS_RATES, 0);
    for (let n = 0; n < 1000; n += 1) {
      expect(gate.admit('192.0.2.1', 0)).toBe(true);
      gate.proved('192.0.2.1');
    }
  });

  test('strangers share one rate, from however many addresses; a known address is not among them', () => {
    const gate = new Gate(TLS_RATES, 0);
    expect(gate.admit('192.0.2.1', 0)).toBe(true);
    gate.proved('192.0.2.1');
    let admitted = 0;
    for (let n = 0; n < 5000; n += 1) {
      if (gate.admit(`10.0.${n >> 8}.${n & 255}`, 10)) admitted += 1;
    }
    expect(admitted).toBe(TLS_RATES.strangers.burst);
    expect(gate.admit('192.0.2.1', 10)).toBe(true);
    expect(gate.admit('192.0.2.2', 10)).toBe(false);
  });

  test('time that stands still, or seems to go back, gives no tries', () => {
    const gate = new Gate(PLAIN_RATES, 1000);
    const { burst } = PLAIN_RATES.perAddress;
    expect(tries(gate, '::1', 1000, 100)).toBe(burst);
    expect(tries(gate, '::1', 10, 100)).toBe(0);
  });

  test.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::9', '2001:db8:1:2::/64'],
    ['2001:DB8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
  ])('%s counts as %s', (host, place) => {
    expect(placeOf(host)).toBe(place);
  });

  test('the oldest of the place that has most makes room', () => {
    const at = (...places: string[]): number | undefined =>
      oldestOfMost(places.map((place, n) => ({ place, n })))?.n;
    expect(at('a', 'b', 'b', 'a', 'b')).toBe(1);
    expect(at('a', 'b')).toBe(0);
    expect(at()).toBeUndefined();
  });
});
