/**
 * A real etcd for a test: one member or several, on loopback with ports of their own and data in a
 * temporary folder. Ended and removed on close, and when the test run ends in any other way.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { WatchedProcess } from '../process/process';
import { atExit } from '../process/process-exit';
import { monotonicUs } from '../process/time';

export interface EtcdOptions {
  /** Default 1. */
  readonly members?: number;
  /** Serve clients over TLS only, and ask them for a certificate of `ca`. */
  readonly tls?: {
    readonly ca: string;
    readonly server: { readonly cert: string; readonly key: string };
  };
  /** Client and peer port of each member; free ones if absent. */
  readonly ports?: readonly number[];
  /** Name of a network namespace to run in. */
  readonly netns?: string | undefined;
  /** Addresses of that namespace at which clients are served as well; loopback always is. */
  readonly addresses?: readonly string[];
}

interface Member {
  readonly name: string;
  readonly clientPort: number;
  readonly peerPort: number;
  process: WatchedProcess | undefined;
}

const READY_MS = 20_000;
let started = 0;

export class LocalEtcd {
  private readonly folder = mkdtempSync(path.join(os.tmpdir(), 'ft-etcd-'));
  private readonly members: Member[] = [];
  private readonly id = started++;

  private constructor(private readonly options: EtcdOptions) {
    atExit(this.folder, () => this.removeFolder());
  }

  /** Starts all members and waits until they serve. */
  static async start(options: EtcdOptions = {}): Promise<LocalEtcd> {
    const etcd = new LocalEtcd(options);
    try {
      const count = options.members ?? 1;
      const ports = options.ports ?? (await freePorts(2 * count));
      for (let n = 0; n < count; n++) {
        const [clientPort = 0, peerPort = 0] = ports.slice(2 * n);
        etcd.members.push({ name: `m${n}`, clientPort, peerPort, process: undefined });
      }
      await Promise.all(etcd.members.map((_member, n) => etcd.run(n)));
    } catch (thrown) {
      await etcd.close();
      throw thrown;
    }
    return etcd;
  }

  /** Where clients ask, in the order of the members. */
  get endpoints(): string[] {
    return this.members.map((member) => this.url(member.clientPort));
  }

  /** The port that clients ask, of member `n`. */
  port(n = 0): number {
    return this.member(n).clientPort;
  }

  /** Starts member `n` (again, with the data that it has) and waits until it serves. */
  async run(n = 0): Promise<void> {
    const member = this.member(n);
    member.process = new WatchedProcess({
      name: `etcd-${this.id}-${member.name}`,
      command: 'etcd',
      args: this.flagsOf(member),
      netns: this.options.netns,
    });
    await this.ready(member.process);
  }

  /** Sends SIGKILL to member `n` and waits for its end. */
  async kill(n = 0): Promise<void> {
    const { process } = this.member(n);
    process?.kill('SIGKILL');
    await process?.exited;
  }

  /** Sends SIGSTOP or SIGCONT to member `n`. Returns when, monotonic µs. */
  signal(signal: 'SIGSTOP' | 'SIGCONT', n = 0): number {
    return this.member(n).process?.kill(signal) ?? monotonicUs();
  }

  /** Whether the process of member `n` lives. */
  isUp(n = 0): boolean {
    const { process } = this.member(n);
    return process !== undefined && process.exit === undefined;
  }

  /** Which member leads, by etcd's own word. */
  leader(): number {
    const rows = JSON.parse(this.etcdctl('endpoint', 'status', '-w', 'json')) as {
      Status: { header: { member_id: number }; leader: number };
    }[];
    return rows.findIndex((row) => row.Status.header.member_id === row.Status.leader);
  }

  /** Runs etcdctl against all members; returns what it printed, throws when it fails. */
  etcdctl(...words: readonly string[]): string {
    const { tls, netns } = this.options;
    const secure =
      tls === undefined
        ? []
        : ['--cacert', tls.ca, '--cert', tls.server.cert, '--key', tls.server.key];
    const command = ['etcdctl', '--endpoints', this.endpoints.join(','), ...secure, ...words];
    const whole = netns === undefined ? command : ['ip', 'netns', 'exec', netns, ...command];
    const env = { ...process.env, ETCDCTL_API: '3' };
    const result = spawnSync(whole[0] ?? '', whole.slice(1), { encoding: 'utf8', env });
    if (result.status === 0) return result.stdout;
    const why = result.error?.message ?? `${result.stdout}${result.stderr}`;
    throw new Error(`etcdctl ${words.join(' ')} failed: ${why}`);
  }

  async close(): Promise<void> {
    for (const member of this.members) member.process?.kill('SIGKILL');
    await Promise.all(this.members.map((member) => member.process?.exited));
    this.removeFolder();
  }

  private removeFolder(): void {
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }

  private member(n: number): Member {
    const member = this.members[n];
    if (member === undefined) throw new Error(`There is no etcd member ${n}.`);
    return member;
  }

  private url(port: number, host = '127.0.0.1'): string {
    return `${this.options.tls === undefined ? 'http' : 'https'}://${host}:${port}`;
  }

  private flagsOf(member: Member): string[] {
    const { tls } = this.options;
    const peer = (one: Member): string => `http://127.0.0.1:${one.peerPort}`;
    const hosts = ['127.0.0.1', ...(this.options.addresses ?? [])];
    const serving = hosts.map((host) => this.url(member.clientPort, host));
    const all = this.members.map((one) => `${one.name}=${peer(one)}`);
    const secure =
      tls === undefined
        ? []
        : [
            ...['--cert-file', tls.server.cert, '--key-file', tls.server.key],
            ...['--trusted-ca-file', tls.ca, '--client-cert-auth'],
          ];
    return [
      ...['--name', member.name, '--data-dir', path.join(this.folder, member.name)],
      ...['--listen-client-urls', serving.join(',')],
      ...['--advertise-client-urls', this.url(member.clientPort)],
      ...['--listen-peer-urls', peer(member), '--initial-advertise-peer-urls', peer(member)],
      ...['--initial-cluster', all.join(',')],
      // Two clusters of one test are two, although their members have the same names.
      ...['--initial-cluster-token', path.basename(this.folder)],
      // A leader that died is replaced in half a second, not in the one to two of the defaults.
      ...['--heartbeat-interval', '50', '--election-timeout', '500'],
      ...secure,
    ];
  }

  private async ready(member: WatchedProcess): Promise<void> {
    const endUs = monotonicUs() + READY_MS * 1000;
    while (!/ready to serve client requests/.test(member.stderrTail)) {
      if (member.exit !== undefined || monotonicUs() > endUs) {
        throw member.failure('etcd to be ready (is the Debian package etcd-server installed?)');
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/** Ports on loopback that nobody listens at; each is another one. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => net.createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.on('error', reject);
          server.listen(0, '127.0.0.1', () => {
            resolve((server.address() as net.AddressInfo).port);
          });
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
