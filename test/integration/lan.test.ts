/**
 * The network of the drills does what it says: cables can be cut in one direction, and whoever sends
 * with the guest's address is seen at the port that it comes from.
 */
import { spawnSync } from 'node:child_process';
import { findDualActive } from '../../src/drill/lan/dual-active';
import { type HostName, Lan } from '../../src/drill/lan/lan';
import { GUEST_MAC } from '../../src/drill/lan/netns';
import { PortWatch } from '../../src/drill/lan/port-watch';
import { monotonicUs } from '../../src/drill/process/time';

describe('the drills’ network', () => {
  let lan: Lan;

  beforeEach(() => {
    lan = Lan.make();
  });

  afterEach(() => {
    lan.close();
  });

  const inside = (netns: string, ...words: string[]): boolean =>
    spawnSync('ip', ['netns', 'exec', netns, ...words], { encoding: 'utf8' }).status === 0;

  const reaches = (from: HostName, address: string): boolean =>
    inside(lan.hosts[from].netns, 'ping', '-q', '-c', '1', '-W', '0.3', address);

  /** Frames that the far side of a link has received, for one-way cuts. */
  const received = (host: HostName): number => {
    const file = '/sys/class/net/link0/statistics/rx_packets';
    const words = ['netns', 'exec', lan.hosts[host].netns, 'cat', file];
    return Number(spawnSync('ip', words, { encoding: 'utf8' }).stdout);
  };

  test('a cut link carries nothing, a mended one does', () => {
    expect(reaches('a', lan.hosts.b.address)).toBe(true);
    lan.cutLink();
    expect(reaches('a', lan.hosts.b.address)).toBe(false);
    lan.mend();
    expect(reaches('b', lan.hosts.a.address)).toBe(true);
  });

  test('a link can be cut in one direction alone', () => {
    expect(reaches('a', lan.hosts.b.address)).toBe(true);
    lan.cutLink(['b']);
    const before = { a: received('a'), b: received('b') };
    reaches('a', lan.hosts.b.address);
    expect(received('b')).toBe(before.b);
    reaches('b', lan.hosts.a.address);
    expect(received('a')).toBeGreaterThan(before.a);
  });

  test('the witness can be cut off from one host alone', () => {
    lan.cutWitness('a');
    expect(reaches('a', lan.hosts.a.witnessAddress)).toBe(false);
    expect(reaches('b', lan.hosts.b.witnessAddress)).toBe(true);
    expect(reaches('a', lan.hosts.b.address)).toBe(true);
  });

  test('two hosts that send with the guest’s address are found', async () => {
    for (const host of [lan.hosts.a, lan.hosts.b]) {
      const { netns } = host;
      const card = ['address', GUEST_MAC, 'type', 'veth', 'peer', 'name', 'card1'];
      expect(inside(netns, 'ip', 'link', 'add', 'card0', ...card)).toBe(true);
      expect(inside(netns, 'ip', 'addr', 'add', '10.77.0.2/24', 'dev', 'card0')).toBe(true);
      expect(inside(netns, 'ip', 'link', 'set', 'card1', 'master', 'br0', 'up')).toBe(true);
      expect(inside(netns, 'ip', 'link', 'set', 'card0', 'up')).toBe(true);
    }
    const watch = await PortWatch.start(lan, 'lan-test');
    const grants: { host: HostName; atUs: number }[] = [];
    const speak = (host: HostName): boolean => reaches(host, '10.77.0.1');
    for (const host of ['a', 'b'] as const) {
      grants.push({ host, atUs: monotonicUs() });
      expect(speak(host)).toBe(true);
    }
    const strangerUs = monotonicUs();
    speak('a');
    const frames = await watch.finish();
    const moments = findDualActive(frames, grants);
    expect(moments.map((moment) => moment.host)).toEqual(['a']);
    expect(moments[0]?.fromUs).toBeGreaterThan(strangerUs - 1000);
    expect(
      findDualActive(
        frames.filter((frame) => frame.atUs < strangerUs),
        grants,
      ),
    ).toEqual([]);
  });
});
