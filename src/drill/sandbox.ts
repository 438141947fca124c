/**
 * `ft-drill sandbox`: a protected guest on one machine that stays up.
 *
 *   ┌ namespace ─────────────────────────────┐   ┌ this host's loopback ──────────────────┐
 *   │ clients ── br0 ┬ tap0 ─────────────────┼───┼─ node a   replication, dashboard, ftctl  │
 *   │                └ tap1 ─────────────────┼───┼─ node b                                  │
 *   └────────────────────────────────────────┘   └──────────────────────────────────────────┘
 *
 * Both nodes run the same command line, as two equal hosts do, and a supervisor starts one again that
 * has ended. Light traffic keeps the figures moving; every few minutes what the clients heard is
 * judged, and they begin a new history.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { FtError } from '../common/errors';
import { checkEnvironment } from './environment';
import { DrillExitCode } from './help';
import { GUEST_ADDRESS, NetworkNamespace } from './lan/netns';
import type { SandboxOrder } from './orders';
import { NodeProcess } from './pair/node-process';
import { beaconPath, SUSPECT_AFTER_MS, VCPU_FLAGS } from './pair/pair';
import { type Line, projectRoot, WatchedProcess } from './process/process';
import { atExit, onFirstSignal } from './process/process-exit';
import { sleep } from './process/time';
import { SandboxClients } from './sandbox-clients';
import { say } from './session';

const NAMES = ['a', 'b'] as const;
type NodeName = (typeof NAMES)[number];

const LINK_PORT = 9473;
const START_MS = 30_000;
const STOP_MS = 3000;
/** A node that ends so soon after its very first start would do so each time. */
const STILLBORN_MS = 3000;

/** Runs until a signal comes. Throws FT_ERR_DRILL_… when the pair does not come up. */
export async function runSandbox(order: SandboxOrder): Promise<DrillExitCode> {
  checkEnvironment(['ip', 'sysctl']);
  const sandbox = new Sandbox(order);
  try {
    await sandbox.start();
    await sandbox.ended;
  } finally {
    await sandbox.close();
  }
  say('Nothing is left behind.');
  return DrillExitCode.ok;
}

class Sandbox {
  /** Resolves when a signal came. */
  readonly ended: Promise<void>;
  private readonly netns = NetworkNamespace.make(NAMES.length);
  private readonly folder = mkdtempSync(path.join(os.tmpdir(), 'romulus-sandbox-'));
  private readonly nodes: Partial<Record<NodeName, NodeProcess>> = {};
  private readonly clients = new SandboxClients(this.netns.name);
  /** Rejects when a node ended that had hardly been started. */
  private readonly stillborn: Promise<never>;
  private giveUp: (why: Error) => void = () => undefined;
  private isClosing = false;
  private isUp = false;
  private started = 0;

  constructor(private readonly order: SandboxOrder) {
    atExit(this.folder, () => this.removeFolder());
    mkdirSync(path.join(this.folder, 'witness'));
    this.stillborn = new Promise((_resolve, reject) => {
      this.giveUp = reject;
    });
    this.stillborn.catch(() => undefined);
    this.ended = new Promise((resolve) => {
      onFirstSignal(() => {
        this.isClosing = true;
        say('\nEnding both nodes; once more ends at once.');
        resolve();
      });
    });
  }

  async start(): Promise<void> {
    const first = this.launch('a');
    await this.reach(first, 'solo');
    if (this.isClosing) return;
    this.launch('b');
    await this.reach(first, 'protected');
    if (this.isClosing) return;
    this.isUp = true;
    say(this.welcome(first.process.pid));
    await this.clients.start();
  }

  async close(): Promise<void> {
    this.isClosing = true;
    await this.clients.close();
    const living = NAMES.map((name) => this.nodes[name]).filter((node) => node !== undefined);
    // The standby first, so that it never takes over.
    living.sort((x, y) => Number(isPrimary(x)) - Number(isPrimary(y)));
    for (const node of living) await node.process.stop(STOP_MS);
    this.netns.close();
    this.removeFolder();
  }

  /** Waits for a state, or for a signal. Throws FT_ERR_DRILL_PAIR with the node's words. */
  private async reach(node: NodeProcess, state: string): Promise<void> {
    try {
      await Promise.race([node.waitState([state], START_MS), this.ended, this.stillborn]);
    } catch (thrown) {
      const words = NAMES.map((name) => this.nodes[name]?.process.story() ?? '').join('\n');
      const message = `The sandbox pair did not start: its guest is not ${state}.\n${words}`;
      throw new FtError('FT_ERR_DRILL_PAIR', message, { state }, thrown);
    }
  }

  private launch(name: NodeName): NodeProcess {
    const child = new WatchedProcess({
      name: `sandbox-${this.started++}-${name}`,
      command: process.execPath,
      args: [path.join(projectRoot, 'dist/src/cli/ft-primary.js'), ...this.flagsOf(name)],
    });
    const node = new NodeProcess(child, name);
    this.nodes[name] = node;
    child.onLine = (line) => this.tell(name, line);
    void this.supervise(name, node, performance.now());
    return node;
  }

  /** What a service manager does: whoever ends is started again, after some time. */
  private async supervise(name: NodeName, node: NodeProcess, startedMs: number): Promise<void> {
    const { code, signal } = await node.process.exited;
    if (this.isClosing) return;
    if (!this.isUp && performance.now() - startedMs < STILLBORN_MS) {
      this.giveUp(node.process.failure('its start'));
      return;
    }
    if (!this.isAnyAlive()) await this.clients.guestLost();
    const how = signal === null ? `code ${code}` : `signal ${signal}`;
    const seconds = this.order.restartMs / 1000;
    say(`${clock()}  node ${name} has ended with ${how}; it is started again in ${seconds} s`);
    await sleep(this.order.restartMs);
    if (!this.isClosing) this.launch(name);
  }

  private isAnyAlive(): boolean {
    return NAMES.some((name) => {
      const node = this.nodes[name];
      return node !== undefined && node.process.exit === undefined;
    });
  }

  private tell(name: NodeName, { fields }: Line): void {
    const { event, role, to, generation } = fields;
    if (event !== 'state' || this.isClosing) return;
    if (role === 'primary' && to === 'solo') this.clients.guestRuns();
    const words = wordsOf(name, String(role), String(to), Number(generation));
    if (words === undefined) return;
    const pid = this.nodes[name]?.process.pid;
    const kill = to === 'protected' && this.isUp ? `; kill -9 ${pid} kills it` : '';
    say(`${clock()}  ${words}${kill}`);
  }

  private flagsOf(name: NodeName): string[] {
    const n = NAMES.indexOf(name);
    const port = (base: number, node: number): string => `127.0.0.1:${base + node}`;
    const { httpPort } = this.order;
    const linkPort =
      httpPort === LINK_PORT - 1 || httpPort === LINK_PORT ? httpPort + 2 : LINK_PORT;
    return [
      ...['--kernel', beaconPath, '--cmdline', `ip=${GUEST_ADDRESS}`, '--memory', '64M'],
      ...['--pair', 'sandbox', '--node', name, '--netns', this.netns.name],
      ...['--tap', this.netns.taps[n] ?? '', ...VCPU_FLAGS],
      ...['--listen', port(linkPort, n), '--standby', port(linkPort, 1 - n)],
      // Both hosts, their clients and a browser share this machine.
      ...['--suspect-after-ms', `${SUSPECT_AFTER_MS}`],
      ...['--witness', `file:${path.join(this.folder, 'witness')}`],
      ...['--control', this.controlPath(name), '--http', port(httpPort, n)],
      ...['--http-peer', `http://${port(httpPort, 1 - n)}`, '--status-interval-ms', '1000'],
    ];
  }

  private controlPath(name: NodeName): string {
    return path.join(this.folder, `${name}.sock`);
  }

  private welcome(pid: number): string {
    const { httpPort, restartMs } = this.order;
    const ctl = `${ftctl()} --control ${this.controlPath('a')}`;
    return [
      '',
      'A protected guest runs on this machine, until Ctrl-C.',
      '',
      `  dashboard     http://127.0.0.1:${httpPort}/   node a, which shows both`,
      `                http://127.0.0.1:${httpPort + 1}/   node b`,
      `  how it is     ${ctl} status`,
      `  change sides  ${ctl} switchover`,
      `  kill it       kill -9 ${pid}   the primary; it is started again ${restartMs / 1000} s later`,
      `  the guest     ip netns exec ${this.netns.name} ping ${GUEST_ADDRESS}`,
      '',
    ].join('\n');
  }

  private removeFolder(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function isPrimary(node: NodeProcess): boolean {
  return (
    node.process.last(({ fields }) => fields['role'] !== undefined)?.fields['role'] === 'primary'
  );
}

/** What an operator wants to hear of a change of state; undefined for what is between two of them. */
function wordsOf(name: NodeName, role: string, to: string, generation: number): string | undefined {
  if (role === 'standby') {
    if (to === 'suspecting') return `node ${name} suspects that the primary is lost`;
    if (to === 'promoting') return `node ${name} has won generation ${generation} and takes over`;
    return undefined;
  }
  if (to === 'solo') return `node ${name} runs the guest alone, generation ${generation}`;
  if (to === 'syncing') return `node ${name} sends its copy to the other node`;
  if (to === 'protected') return `PROTECTED: node ${name} runs the guest, the other has its copy`;
  if (to === 'fenced') return `node ${name} is fenced: the guest is the other node’s`;
  return undefined;
}

function clock(): string {
  return new Date().toTimeString().slice(0, 8);
}

/** How ftctl is called from where we are. */
function ftctl(): string {
  if (projectRoot.includes(`${path.sep}node_modules${path.sep}`)) return 'npx ftctl';
  const file = path.join(projectRoot, 'dist/src/cli/ftctl.js');
  const near = path.relative(process.cwd(), file);
  return `node ${near.startsWith('..') ? file : near}`;
}
