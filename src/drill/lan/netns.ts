/**
 * A network of its own for each test: a namespace with a bridge and TAP devices, so that nothing of
 * the host's network is touched and nothing of it can disturb a measurement.
 *
 *   ┌ namespace ft-<pid>-<n> ──────────────────────────────┐
 *   │  lo   br0 10.77.0.1/24 ── clients                     │
 *   │        ├── tap0 ── node a ┐                           │
 *   │        └── tap1 ── node b ┘ one guest, 10.77.0.2      │
 *   └───────────────────────────────────────────────────────┘
 *
 * Removed on close, on exit and on a signal; those whose maker is dead are swept when the next one
 * is made.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { atExit } from '../process/process-exit';

export const BRIDGE_ADDRESS = '10.77.0.1';
export const GUEST_ADDRESS = '10.77.0.2';
/** The address of its card, which is not the one that every guest has by default. */
export const GUEST_MAC = '52:54:00:4d:00:02';

const open = new Set<NetworkNamespace>();
let made = 0;

export class NetworkNamespace {
  readonly taps: readonly string[];

  private constructor(
    readonly name: string,
    tapCount: number,
  ) {
    this.taps = Array.from({ length: tapCount }, (_, n) => `tap${n}`);
  }

  /** Makes the namespace with `tapCount` TAPs on its bridge. Needs root. */
  static make(tapCount = 2): NetworkNamespace {
    return NetworkNamespace.built(tapCount, (netns) => netns.build());
  }

  /** Makes a namespace in which only the loopback is up; the maker does the rest. Needs root. */
  static bare(): NetworkNamespace {
    return NetworkNamespace.built(0, (netns) => netns.buildBare());
  }

  private static built(
    tapCount: number,
    build: (netns: NetworkNamespace) => void,
  ): NetworkNamespace {
    sweep();
    atExit('network namespaces', closeAll);
    const netns = new NetworkNamespace(`ft-${process.pid}-${made++}`, tapCount);
    ip(['netns', 'add', netns.name]);
    open.add(netns);
    try {
      build(netns);
    } catch (thrown) {
      netns.close();
      throw thrown;
    }
    return netns;
  }

  /** Runs a command in the namespace to its end; returns its output, throws when it fails. */
  run(command: string, ...args: string[]): string {
    return run('ip', ['netns', 'exec', this.name, command, ...args]);
  }

  addTap(name: string): void {
    this.ip('tuntap', 'add', 'dev', name, 'mode', 'tap');
    this.ip('link', 'set', name, 'master', 'br0', 'up');
  }

  removeTap(name: string): void {
    this.ip('link', 'del', name);
  }

  /** The processes that live in it. */
  pids(): number[] {
    return processesIn(this.name);
  }

  close(): void {
    if (open.delete(this)) spawnSync('ip', ['netns', 'del', this.name]);
  }

  /** Runs `ip` on the devices and addresses of this namespace. */
  ip(...args: string[]): void {
    ip(['-n', this.name, ...args]);
  }

  /** Adds a bridge that forwards at once, without a spanning tree. */
  addBridge(name: string): void {
    this.ip('link', 'add', name, 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0');
    this.ip('link', 'set', name, 'up');
  }

  private buildBare(): void {
    // IPv6 would send router solicitations of its own into the TAPs.
    this.run('sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1');
    this.run('sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1');
    this.ip('link', 'set', 'lo', 'up');
  }

  private build(): void {
    this.buildBare();
    this.addBridge('br0');
    this.ip('addr', 'add', `${BRIDGE_ADDRESS}/24`, 'dev', 'br0');
    for (const tap of this.taps) this.addTap(tap);
  }
}

/** Removes namespaces whose maker is gone. */
export function sweep(): void {
  for (const line of run('ip', ['netns', 'list']).split('\n')) {
    const match = /^ft-(\d+)-\d+\b/.exec(line);
    if (match === null || existsSync(`/proc/${match[1]}`)) continue;
    const name = line.split(' ')[0] ?? '';
    // Whoever still runs in there belongs to the dead maker.
    for (const pid of processesIn(name)) killQuietly(pid);
    spawnSync('ip', ['netns', 'del', name]);
  }
}

function processesIn(name: string): number[] {
  const lines = run('ip', ['netns', 'pids', name]).split('\n');
  return lines.filter((line) => line !== '').map(Number);
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It ended by itself meanwhile.
  }
}

function closeAll(): void {
  for (const netns of [...open]) netns.close();
}

function ip(args: readonly string[]): void {
  run('ip', args);
}

function run(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, [...args], { encoding: 'utf8' });
  if (status === 0) return stdout;
  const why = error?.message ?? stderr.trim();
  throw new Error(`${command} ${args.join(' ')} failed (${status}): ${why}`);
}
