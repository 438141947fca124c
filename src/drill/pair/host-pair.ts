/**
 * A pair on two hosts of a Lan, as real processes that live and die through many drills. Which side
 * is active is not kept here: it is what the nodes say, since a drill may have changed it without
 * asking.
 *
 *   complete ──drill: kill, stop, cut…──▶ whatever the two make of it ──▶ repair() ──▶ complete
 *
 * repair() does what an operator's service manager would do: it starts ft-standby on a host where no
 * process lives. Everything else is the nodes' own work.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Grant } from '../lan/dual-active';
import type { HostName, Lan, LanHost } from '../lan/lan';
import { HOST_NAMES } from '../lan/lan';
import { GUEST_ADDRESS, GUEST_MAC } from '../lan/netns';
import { BEACON_PORT } from '../oracle/oracle-layout';
import { type Line, projectRoot, WatchedProcess } from '../process/process';
import { atExit } from '../process/process-exit';
import { monotonicUs, sleep } from '../process/time';
import type { Deed, StateChange } from '../timeline';
import { ACTIVE_STATES, stateOf } from './node-process';
import { beaconPath, PairNode, VCPU_FLAGS } from './pair';

export interface HostPairOptions {
  /** Prefix of the log files. */
  readonly name: string;
  /** --witness of each host. */
  readonly witness: (host: LanHost) => string;
  /** Name of the pair at the witness: a new one for a new pair. */
  readonly pair: string;
  readonly memory: string;
  readonly suspectAfterMs: number;
  readonly statusIntervalMs?: number;
  /** Flags for both commands. */
  readonly flags?: readonly string[];
}

/** States of a standby that can take a primary, or has one. */
const STANDBY_STATES: readonly string[] = ['joining', 'syncing', 'ready'];
const PORT = 7001;
const LOOK_MS = 5;

/** Sides of a complete pair. */
export interface Sides {
  readonly active: PairNode;
  readonly standby: PairNode;
}

export class HostPair {
  readonly guest = { host: GUEST_ADDRESS, port: BEACON_PORT };
  /** When processes were started. */
  readonly deeds: Deed[] = [];
  private readonly nodes: PairNode[] = [];
  private readonly living: Partial<Record<HostName, PairNode>> = {};
  private readonly folder = mkdtempSync(path.join(os.tmpdir(), 'ft-hosts-'));
  private started = 0;

  constructor(
    readonly lan: Lan,
    readonly options: HostPairOptions,
  ) {
    atExit(this.folder, () => this.removeFolder());
  }

  /** Boots the guest on `host`, a standby on the other; waits until it is protected. */
  async start(host: HostName = 'a', timeoutMs = 20_000): Promise<Sides> {
    this.launch(this.lan.other(host), 'ft-standby');
    this.launch(host, 'ft-primary');
    return this.repair(timeoutMs);
  }

  /** The newest process of a host; undefined before the first. */
  node(host: HostName): PairNode | undefined {
    return this.living[host];
  }

  /** The node that says that it runs the guest; the newest generation, if two say so. */
  get active(): PairNode | undefined {
    let found: PairNode | undefined;
    for (const node of this.alive()) {
      const isActive = ACTIVE_STATES.includes(node.state) && roleOf(node) === 'primary';
      if (isActive && generationOf(node) >= (found === undefined ? 0 : generationOf(found))) {
        found = node;
      }
    }
    return found;
  }

  /** Both sides, if the guest is protected at this moment as far as both say. */
  get sides(): Sides | undefined {
    const { active } = this;
    if (active?.state !== 'protected') return undefined;
    const standby = this.node(this.lan.other(hostOf(active)));
    if (standby === undefined || standby.process.exit !== undefined) return undefined;
    return standby.state === 'ready' ? { active, standby } : undefined;
  }

  /** Starts what does not live and waits until the guest is protected, whoever runs it then. */
  async repair(timeoutMs = 20_000): Promise<Sides> {
    const endUs = monotonicUs() + timeoutMs * 1000;
    while (this.sides === undefined) {
      for (const host of HOST_NAMES) {
        const isThere =
          this.node(host)?.process.exit === undefined && this.node(host) !== undefined;
        if (!isThere && this.active !== undefined) this.launch(host, 'ft-standby');
      }
      if (monotonicUs() > endUs) throw new Error(`Not protected within ${timeoutMs} ms.`);
      await sleep(LOOK_MS);
    }
    return this.sides;
  }

  /** A side that was left behind is a standby again, by itself or with a new process. */
  async back(host: HostName, timeoutMs: number): Promise<PairNode> {
    const endUs = monotonicUs() + timeoutMs * 1000;
    for (;;) {
      const node = this.node(host);
      if (node === undefined || node.process.exit !== undefined) {
        return this.launch(host, 'ft-standby');
      }
      if (STANDBY_STATES.includes(node.state) && roleOf(node) === 'standby') return node;
      if (monotonicUs() > endUs) throw node.process.failure('its return as standby');
      await sleep(LOOK_MS);
    }
  }

  /**
   * After the death of both: both hosts start in the same way, `first` before the other. The last
   * owner boots the guest, whichever that is, and the other one waits for it.
   */
  async bootAnew(first: HostName, timeoutMs = 20_000): Promise<Sides> {
    for (const host of HOST_NAMES) await this.node(host)?.process.stop(0);
    const one = this.launch(first, 'ft-primary');
    await one.waitState(['solo', 'syncing', 'joining'], timeoutMs);
    this.launch(this.lan.other(first), 'ft-primary');
    return this.repair(timeoutMs);
  }

  /**
   * Waits until the guest runs on a node with its output open, from line counts `from` on.
   * @returns who, and since when, monotonic µs.
   */
  async waitRuns(from: Marks, timeoutMs: number): Promise<{ node: PairNode; atUs: number }> {
    const endUs = monotonicUs() + timeoutMs * 1000;
    for (;;) {
      for (const node of this.alive()) {
        const line = node.process.lines.slice(from.get(node) ?? 0).find(opensOutput);
        if (line !== undefined) return { node, atUs: line.atUs };
      }
      if (monotonicUs() > endUs) throw new Error(`The guest runs nowhere after ${timeoutMs} ms.`);
      await sleep(1);
    }
  }

  /** How much every node has said until now. */
  marks(): Marks {
    return new Map(this.nodes.map((node) => [node, node.process.lines.length]));
  }

  /** When which host had a reason to send for the guest; see dual-active. */
  grants(): Grant[] {
    return this.nodes.flatMap((node) =>
      node.process.lines
        .filter(grantsGuest)
        .map(({ atUs }): Grant => ({ atUs, host: hostOf(node) })),
    );
  }

  /** The changes of state since a moment, of all nodes, in the order of time. */
  changes(fromUs: number): StateChange[] {
    const word = (value: unknown): string => (typeof value === 'string' ? value : '');
    const changes = this.nodes.flatMap((node) =>
      node.process.lines
        .filter(({ atUs, fields }) => atUs >= fromUs && fields['event'] === 'state')
        .map(
          ({ atUs, fields: { role, from, to } }): StateChange => ({
            ...{ atUs, host: hostOf(node) },
            ...{ role: word(role), from: word(from), to: word(to) },
          }),
        ),
    );
    return changes.sort((x, y) => x.atUs - y.atUs);
  }

  /** Starts a node on a host. */
  launch(
    host: HostName,
    command: 'ft-primary' | 'ft-standby',
    more: readonly string[] = [],
  ): PairNode {
    const here = this.lan.hosts[host];
    const there = this.lan.hosts[this.lan.other(host)];
    const { options } = this;
    const n = this.started++;
    const kernel = ['--kernel', beaconPath, '--cmdline', `ip=${GUEST_ADDRESS}`];
    const child = new WatchedProcess({
      name: `${options.name}-${n}-${host}`,
      netns: here.netns,
      command: process.execPath,
      args: [
        path.join(projectRoot, `dist/src/cli/${command}.js`),
        ...(command === 'ft-primary' ? kernel : []),
        ...['--listen', `${here.address}:${PORT}`, '--standby', `${there.address}:${PORT}`],
        ...['--control', this.controlPath(host), '--insecure'],
        ...['--memory', options.memory, '--tap', here.tap, '--mac', GUEST_MAC],
        ...VCPU_FLAGS,
        ...['--suspect-after-ms', `${options.suspectAfterMs}`],
        ...['--pair', options.pair, '--node', host, '--witness', options.witness(here)],
        ...['--status-interval-ms', `${options.statusIntervalMs ?? 250}`],
        ...(options.flags ?? []),
        ...more,
      ],
    });
    const node = new PairNode(child, { name: host, tap: here.tap, port: PORT }, host);
    this.nodes.push(node);
    this.living[host] = node;
    this.deeds.push({ atUs: monotonicUs(), text: `host ${host} starts ${command}` });
    return node;
  }

  /** The control socket of whoever runs on a host. */
  controlPath(host: HostName): string {
    return path.join(this.folder, `${host}.sock`);
  }

  /** What each node said last and how it ended, the newest of each host. */
  story(): string {
    const nodes = this.nodes.slice(-4);
    return nodes.map((node) => node.process.story()).join('\n');
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.process.stop(500)));
    this.removeFolder();
  }

  private removeFolder(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  private alive(): PairNode[] {
    return HOST_NAMES.flatMap((name) => {
      const node = this.node(name);
      return node === undefined || node.process.exit !== undefined ? [] : [node];
    });
  }
}

/** How many lines each node had said at some moment. */
export type Marks = ReadonlyMap<PairNode, number>;

export function hostOf(node: PairNode): HostName {
  return node.slot.name;
}

function roleOf(node: PairNode): unknown {
  return node.process.last((line) => line.fields['role'] !== undefined)?.fields['role'];
}

function generationOf(node: PairNode): number {
  const line = node.process.last((candidate) => candidate.fields['generation'] !== undefined);
  const value = line?.fields['generation'];
  return typeof value === 'number' ? value : 0;
}

/** The guest runs and this host alone owns its output. */
function opensOutput(line: Line): boolean {
  const { event, role } = line.fields;
  return event === 'state' && role === 'primary' && stateOf(line) === 'solo';
}

function grantsGuest(line: Line): boolean {
  const { event, role, to, from } = line.fields;
  if (event !== 'state') return false;
  if (role === 'standby') return to === 'promoting' || to === 'active';
  return from === 'starting' && to === 'solo';
}
