/**
 * Hosts that are each other's standby: every one runs ft-primary, always with the same command line,
 * and which of them runs the guest is settled by the witness.
 *
 *   a: tap0, 127.0.0.1:7001 ┐
 *   b: tap1, 127.0.0.1:7002 ├ each listens at its own address and dials all others
 *   c: tap2, 127.0.0.1:7003 ┘
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { GUEST_ADDRESS, NetworkNamespace } from '../../src/drill/lan/netns';
import { BEACON_PORT } from '../../src/drill/oracle/oracle-layout';
import { NodeProcess, stateOf } from '../../src/drill/pair/node-process';
import { beaconPath, SUSPECT_AFTER_MS, VCPU_FLAGS } from '../../src/drill/pair/pair';
import { type Line, projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { atExit } from '../../src/drill/process/process-exit';

export interface EqualHost {
  readonly name: string;
  /** Its whole command line behind the command; the same at every start. */
  readonly flags: readonly string[];
  readonly control: string;
  node: NodeProcess;
}

/** How ftctl ended, and what it printed. */
export interface CtlOutcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Equals {
  readonly netns: NetworkNamespace;
  readonly guest = { host: GUEST_ADDRESS, port: BEACON_PORT };
  /** Where the witness, the images and the control sockets are. */
  readonly folder: string;
  private readonly hosts = new Map<string, EqualHost>();
  private readonly all: WatchedProcess[] = [];

  constructor(
    readonly name: string,
    readonly names: readonly string[],
    /** A disk of this size: an image for each host, blank at first; 0: none. */
    readonly diskBytes = 0,
    /** More flags for a host. */
    readonly moreFlags: (name: string) => readonly string[] = () => [],
  ) {
    this.netns = NetworkNamespace.make(names.length);
    this.folder = mkdtempSync(path.join(os.tmpdir(), 'ft-equals-'));
    atExit(this.folder, () => this.removeFolder());
    if (diskBytes === 0) return;
    for (const name of names) writeFileSync(this.imagePath(name), Buffer.alloc(diskBytes));
  }

  /** A host's disk image; it outlives the host's processes. */
  imagePath(name: string): string {
    return path.join(this.folder, `${name}.img`);
  }

  /** Starts a host, or starts it again, with the command line that it always has. */
  start(name: string): EqualHost {
    const flags = this.flagsOf(name);
    const control = this.controlOf(name);
    const child = new WatchedProcess({
      name: `${this.name}-${name}`,
      command: process.execPath,
      args: [path.join(projectRoot, 'dist/src/cli/ft-primary.js'), ...flags],
      netns: this.netns.name,
    });
    this.all.push(child);
    const host = { name, flags, control, node: new NodeProcess(child, name) };
    this.hosts.set(name, host);
    return host;
  }

  host(name: string): EqualHost {
    const host = this.hosts.get(name);
    if (host === undefined) throw new Error(`Host ${name} was never started.`);
    return host;
  }

  /** Starts the hosts in order; resolves when the first runs the guest and another protects it. */
  async startAll(): Promise<void> {
    const [first = '', ...others] = this.names;
    const active = this.start(first);
    await active.node.waitState(['solo'], 10_000);
    for (const name of others) this.start(name);
    await active.node.waitState(['protected'], 20_000);
  }

  /** SIGKILL, and the process is gone. */
  async kill(name: string): Promise<void> {
    const { node } = this.host(name);
    node.process.kill('SIGKILL');
    await node.process.waitExit(5000);
  }

  /** Waits until a host runs the guest and is protected, by lines from `from` on. */
  waitProtected(name: string, from = 0, timeoutMs = 20_000): Promise<Line> {
    return this.host(name).node.waitState(['protected'], timeoutMs, from);
  }

  /** The newest state of each host. */
  get states(): Readonly<Record<string, string>> {
    return Object.fromEntries([...this.hosts].map(([name, { node }]) => [name, node.state]));
  }

  /** Runs ftctl to its end, as a person would. */
  ftctl(name: string, ...words: readonly string[]): CtlOutcome {
    return runCtl('--control', this.host(name).control, ...words);
  }

  /** The states that a host went through, from line `from` on. */
  path(name: string, from = 0): string[] {
    const lines = this.host(name).node.process.lines.slice(from);
    return lines.filter((line) => line.fields['event'] === 'state').map((line) => stateOf(line));
  }

  story(): string {
    return this.all.map((child) => child.story()).join('\n');
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((child) => child.stop()));
    this.netns.close();
    this.removeFolder();
  }

  private removeFolder(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  private controlOf(name: string): string {
    return path.join(this.folder, `${name}.sock`);
  }

  private flagsOf(name: string): string[] {
    const address = (one: string): string => `127.0.0.1:${7001 + this.names.indexOf(one)}`;
    const others = this.names.filter((one) => one !== name);
    return [
      ...['--kernel', beaconPath, '--cmdline', `ip=${GUEST_ADDRESS}`, '--memory', '64M'],
      ...['--tap', this.netns.taps[this.names.indexOf(name)] ?? '', ...VCPU_FLAGS],
      ...['--node', name, '--pair', 'equals', '--witness', `file:${this.folder}`],
      ...['--listen', address(name), ...others.flatMap((one) => ['--standby', address(one)])],
      ...['--suspect-after-ms', `${SUSPECT_AFTER_MS}`, '--status-interval-ms', '100'],
      ...['--control', this.controlOf(name)],
      ...(this.diskBytes === 0 ? [] : ['--disk', this.imagePath(name)]),
      ...this.moreFlags(name),
    ];
  }
}

/** Runs ftctl with these words to its end. */
export function runCtl(...words: readonly string[]): CtlOutcome {
  const command = path.join(projectRoot, 'dist/src/cli/ftctl.js');
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, ...words], {
    encoding: 'utf8',
    timeout: 40_000,
  });
  return { code: status, stdout, stderr };
}
