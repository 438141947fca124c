/** The network namespaces of the tests: whole, apart from the host, and gone afterwards. */
import { spawnSync } from 'node:child_process';
import { NetworkNamespace, sweep } from '../../src/drill/lan/netns';

const ip = (...args: string[]): string => spawnSync('ip', args, { encoding: 'utf8' }).stdout;
const rootDevices = (): string[] =>
  ip('-o', 'link')
    .split('\n')
    .map((line) => line.split(':')[1]?.trim() ?? '');

describe('network namespace', () => {
  test('has a bridge with its TAPs, and the host’s devices are untouched', () => {
    const before = rootDevices();
    const netns = NetworkNamespace.make(2);
    try {
      const inside = netns.run('ip', '-o', 'link');
      for (const device of ['br0', 'tap0', 'tap1']) expect(inside).toContain(`${device}:`);
      expect(inside.match(/master br0/g)).toHaveLength(2);
      expect(netns.run('ip', '-o', '-4', 'addr', 'show', 'br0')).toContain('10.77.0.1/24');
      expect(rootDevices()).toEqual(before);
    } finally {
      netns.close();
    }
    expect(ip('netns', 'list')).not.toContain(netns.name);
  });

  test('one whose maker is dead is swept, one whose maker lives is not', () => {
    // A process that has ended gives a number that nobody has.
    const dead = spawnSync('true').pid;
    const stale = `ft-${dead}-0`;
    ip('netns', 'add', stale);
    const alive = NetworkNamespace.make(1);
    try {
      sweep();
      const names = ip('netns', 'list');
      expect(names).not.toContain(stale);
      expect(names).toContain(alive.name);
    } finally {
      alive.close();
      ip('netns', 'del', stale);
    }
  });

  test('what fails says which command and why', () => {
    const netns = NetworkNamespace.make(0);
    try {
      expect(() => netns.run('ip', 'link', 'del', 'nothing')).toThrow(/ip .*nothing.*Cannot find/);
    } finally {
      netns.close();
    }
  });
});
