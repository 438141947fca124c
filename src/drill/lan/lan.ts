/**
 * Two hosts, a witness and a switch, each in a network namespace of its own, so that every cable
 * between them can be cut alone and in one direction:
 *
 *   host a                     switch                          host b
 *   tap0 ─ br0 ─ guest0 ═══ guest-a ─ br-guest ─ guest-b ═══ guest0 ─ br0 ─ tap0
 *                             clients: br-guest 10.77.0.1
 *          link0 ══════════ link-a ── br-link ── link-b ═══════════ link0
 *          10.78.0.1                                            10.78.0.2
 *                             witness
 *          wit0 ══════════ wit-a        wit-b ═════════════════════ wit0
 *          10.79.1.2      10.79.1.1    10.79.2.1                10.79.2.2
 *
 * `═══` is a veth pair, a cable. What travels over a cut cable is swallowed where it would leave a
 * port (a "blackhole" queue): no carrier is lost and nobody gets an error, as when a switch far away
 * dies. A slow cable is a token bucket with a long queue at both of its ports.
 */
import { spawnSync } from 'node:child_process';
import { monotonicUs } from '../process/time';
import type { Deed } from '../timeline';
import { BRIDGE_ADDRESS, NetworkNamespace } from './netns';

export type HostName = 'a' | 'b';
export const HOST_NAMES: readonly HostName[] = ['a', 'b'];

/** One host of the LAN, and where others find it. */
export interface LanHost {
  readonly name: HostName;
  readonly netns: string;
  readonly tap: string;
  /** Its address on the cable between the hosts. */
  readonly address: string;
  /** Where it finds the witness. */
  readonly witnessAddress: string;
}

/** A port: where a queue can be put. */
interface Port {
  readonly netns: NetworkNamespace;
  readonly device: string;
}

const BLACKHOLE = ['blackhole'] as const;
const DEEDS_MAX = 100;

export class Lan {
  readonly hosts: Readonly<Record<HostName, LanHost>>;
  readonly clients: NetworkNamespace;
  readonly witness: NetworkNamespace;
  private readonly namespaces: readonly NetworkNamespace[];
  private readonly hostNamespaces: Readonly<Record<HostName, NetworkNamespace>>;
  private readonly changed = new Map<string, Port>();
  /** When cables became whole again; the newest DEEDS_MAX. */
  readonly deeds: Deed[] = [];

  private constructor() {
    const made: NetworkNamespace[] = [];
    const bare = (): NetworkNamespace => {
      const netns = NetworkNamespace.bare();
      made.push(netns);
      return netns;
    };
    this.namespaces = made;
    try {
      this.clients = bare();
      this.witness = bare();
      this.hostNamespaces = { a: bare(), b: bare() };
      this.clients.addBridge('br-guest');
      this.clients.ip('addr', 'add', `${BRIDGE_ADDRESS}/24`, 'dev', 'br-guest');
      this.clients.addBridge('br-link');
      this.hosts = { a: this.buildHost('a', 1), b: this.buildHost('b', 2) };
    } catch (thrown) {
      this.close();
      throw thrown;
    }
  }

  /** Makes all of it. Needs root. Throws with the command that failed. */
  static make(): Lan {
    return new Lan();
  }

  /** Addresses at which the witness must serve. */
  get witnessAddresses(): string[] {
    return HOST_NAMES.map((name) => this.hosts[name].witnessAddress);
  }

  other(name: HostName): HostName {
    return name === 'a' ? 'b' : 'a';
  }

  /** The device of the switch at which the guest's frames from a host come in. */
  guestPort(name: HostName): string {
    return `guest-${name}`;
  }

  /**
   * Swallows what travels between the hosts toward each of `toward`.
   * @returns just before the first frame can have been lost, monotonic µs.
   */
  cutLink(toward: readonly HostName[] = HOST_NAMES): number {
    const atUs = monotonicUs();
    this.put(this.linkPorts(toward), BLACKHOLE);
    return atUs;
  }

  /**
   * Both directions carry this much only, and queue what is more for as long as a second.
   * @returns just before the first frame can have waited, monotonic µs.
   */
  slowLink(kbitPerSecond: number): number {
    const atUs = monotonicUs();
    const bucket = ['tbf', 'rate', `${kbitPerSecond}kbit`, 'burst', '16kb', 'latency', '1s'];
    this.put(this.linkPorts(HOST_NAMES), bucket);
    return atUs;
  }

  /** Nothing passes between a host and the witness, in either direction. */
  cutWitness(name: HostName): void {
    this.put(
      [
        { netns: this.witness, device: `wit-${name}` },
        { netns: this.hostNamespaces[name], device: 'wit0' },
      ],
      BLACKHOLE,
    );
  }

  /** Every cable is whole again. */
  mend(): void {
    for (const { netns, device } of this.changed.values()) {
      tc(netns, [['qdisc', 'del', 'dev', device, 'root']]);
    }
    if (this.changed.size === 0) return;
    this.changed.clear();
    this.deeds.push({ atUs: monotonicUs(), text: 'every cable is whole again' });
    if (this.deeds.length > DEEDS_MAX) this.deeds.shift();
  }

  close(): void {
    for (const netns of this.namespaces) netns.close();
  }

  private linkPorts(toward: readonly HostName[]): Port[] {
    return toward.map((name) => ({ netns: this.clients, device: `link-${name}` }));
  }

  /** One call of tc for each namespace, so that both directions are cut at the same moment. */
  private put(ports: readonly Port[], queue: readonly string[]): void {
    const byNamespace = new Map<NetworkNamespace, string[][]>();
    for (const port of ports) {
      const commands = byNamespace.get(port.netns) ?? [];
      commands.push(['qdisc', 'replace', 'dev', port.device, 'root', ...queue]);
      byNamespace.set(port.netns, commands);
      this.changed.set(`${port.netns.name}/${port.device}`, port);
    }
    for (const [netns, commands] of byNamespace) tc(netns, commands);
  }

  private buildHost(name: HostName, n: number): LanHost {
    const netns = this.hostNamespaces[name];
    netns.addBridge('br0');
    netns.addTap('tap0');
    this.cable(this.clients, this.guestPort(name), netns, 'guest0');
    this.clients.ip('link', 'set', this.guestPort(name), 'master', 'br-guest');
    netns.ip('link', 'set', 'guest0', 'master', 'br0');
    this.cable(this.clients, `link-${name}`, netns, 'link0');
    this.clients.ip('link', 'set', `link-${name}`, 'master', 'br-link');
    netns.ip('addr', 'add', `10.78.0.${n}/24`, 'dev', 'link0');
    this.cable(this.witness, `wit-${name}`, netns, 'wit0');
    this.witness.ip('addr', 'add', `10.79.${n}.1/24`, 'dev', `wit-${name}`);
    netns.ip('addr', 'add', `10.79.${n}.2/24`, 'dev', 'wit0');
    return {
      name,
      netns: netns.name,
      tap: 'tap0',
      address: `10.78.0.${n}`,
      witnessAddress: `10.79.${n}.1`,
    };
  }

  private cable(
    from: NetworkNamespace,
    fromDevice: string,
    to: NetworkNamespace,
    toDevice: string,
  ): void {
    const peer = ['peer', 'name', toDevice, 'netns', to.name];
    from.ip('link', 'add', fromDevice, 'type', 'veth', ...peer);
    from.ip('link', 'set', fromDevice, 'up');
    to.ip('link', 'set', toDevice, 'up');
  }
}

function tc(netns: NetworkNamespace, commands: readonly (readonly string[])[]): void {
  const input = commands.map((words) => `${words.join(' ')}\n`).join('');
  const args = ['-n', netns.name, '-batch', '-'];
  const { status, stderr, error } = spawnSync('tc', args, { input, encoding: 'utf8' });
  if (status === 0) return;
  throw new Error(`tc failed (${status}): ${error?.message ?? stderr.trim()} in\n${input}`);
}
