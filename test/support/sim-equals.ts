/**
 * Two nodes of a pair as real processes with simulated guests, each the other's standby, on loopback:
 * for everything about a node that needs no guest. Needs neither KVM nor root.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePorts } from '../../src/drill/pair/etcd';
import { NodeProcess } from '../../src/drill/pair/node-process';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { type CtlOutcome, runCtl } from './equals';

export type SimName = 'a' | 'b';

export class SimEquals {
  readonly folder = mkdtempSync(path.join(os.tmpdir(), 'ft-sim-'));
  /** Where the witness keeps its records. */
  readonly witness = path.join(this.folder, 'witness');
  private readonly nodes = new Map<SimName, NodeProcess>();
  private readonly all: WatchedProcess[] = [];

  private constructor(
    private readonly ports: readonly number[],
    private readonly netns: string | undefined,
  ) {
    mkdirSync(this.witness);
  }

  /** In a network namespace, or in the host's own. */
  static async make(netns?: string): Promise<SimEquals> {
    return new SimEquals(await freePorts(3), netns);
  }

  /** Starts a node, or starts it again, with the command line that it always has. */
  start(name: SimName, more: readonly string[] = []): NodeProcess {
    const [here = 0, there = 0, guest = 0] = this.ports;
    const [own, other] = name === 'a' ? [here, there] : [there, here];
    const child = new WatchedProcess({
      name: `sim-${name}`,
      netns: this.netns,
      command: process.execPath,
      args: [
        path.join(projectRoot, 'dist/src/cli/ft-primary.js'),
        ...['--machine', 'simulated', '--sim-port', `${guest}`, '--memory', '16M'],
        ...['--witness', `file:${this.witness}`, '--pair', 'sim', '--node', name],
        ...['--listen', `127.0.0.1:${own}`, '--standby', `127.0.0.1:${other}`],
        ...['--suspect-after-ms', '400', '--status-interval-ms', '100'],
        ...['--control', this.control(name), ...more],
      ],
    });
    const node = new NodeProcess(child, name);
    this.nodes.set(name, node);
    this.all.push(child);
    return node;
  }

  /** Starts both; a runs the guest, protected by b. */
  async startBoth(): Promise<void> {
    await this.start('a').waitState(['solo'], 20_000);
    this.start('b');
    await this.node('a').waitState(['protected'], 20_000);
    await this.node('b').waitState(['ready'], 20_000);
  }

  node(name: SimName): NodeProcess {
    const node = this.nodes.get(name);
    if (node === undefined) throw new Error(`${name} was not started.`);
    return node;
  }

  control(name: SimName): string {
    return path.join(this.folder, `${name}.sock`);
  }

  ftctl(name: SimName, ...words: readonly string[]): CtlOutcome {
    return runCtl('--control', this.control(name), ...words);
  }

  story(): string {
    return this.all.map((child) => child.story()).join('\n');
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((child) => child.stop()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
