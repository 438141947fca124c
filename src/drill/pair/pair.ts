/**
 * A pair under test: ft-primary and ft-standby as real processes, with the slots they live in.
 *
 *   slot a: tap0, 127.0.0.1:7001 ┐  each node listens (or will listen) at its slot's address and
 *   slot b: tap1, 127.0.0.1:7002 ┘  dials the other's
 *
 * A drill kills the node of one slot; the other is promoted; a fresh ft-standby takes the free slot.
 * A slot's disk image stays where it is, as it does on a host whose process died.
 */
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { GUEST_ADDRESS, GUEST_MAC, NetworkNamespace } from '../lan/netns';
import { BEACON_PORT } from '../oracle/oracle-layout';
import { type Line, projectRoot, WatchedProcess } from '../process/process';
import { atExit } from '../process/process-exit';
import { ACTIVE_STATES, NodeProcess, stateOf } from './node-process';

export const beaconPath = path.join(projectRoot, 'build/guest/beacon.elf');

export interface PairOptions {
  readonly machine: 'kvm' | 'simulated';
  /** Default 64M. */
  readonly memory?: string;
  /** Default: the fixture guest. */
  readonly kernel?: string;
  /** Default: --cmdline with what the fixture guest wants to know. */
  readonly kernelFlags?: readonly string[];
  /** Flags for both commands, such as ['--interval-us', '400']. */
  readonly flags?: readonly string[];
  /** Words before the command of whoever runs in a slot; they must exec what follows. */
  readonly wrap?: (slot: { readonly name: 'a' | 'b' }) => readonly string[];
  /** More flags for whoever runs in a slot. */
  readonly slotFlags?: (slot: { readonly name: 'a' | 'b' }) => readonly string[];
  /** How long whoever runs in a slot waits for a sign of the other; default: SUSPECT_AFTER_MS. */
  readonly suspectAfterMs?: (slot: { readonly name: 'a' | 'b' }) => number;
  /** A disk of this size: an image for each slot, blank at first. */
  readonly diskBytes?: number;
  readonly statusIntervalMs?: number;
  /** Leave it to the system which CPUs run the vCPUs and the nodes. */
  readonly unpinned?: boolean;
  /** Prefix of the log files. Default "pair". */
  readonly name?: string;
  /** --witness; default: a directory of the pair's own. */
  readonly witness?: string;
  /** Run in the host's own namespace, on loopback alone; simulated machine only. */
  readonly withoutNamespace?: boolean;
}

export interface Slot {
  readonly name: 'a' | 'b';
  readonly tap: string | undefined;
  readonly port: number;
}

/**
 * The pair shares two cores with its clients, the test runner and whatever else CI does, so silence
 * is no sign of death for longer than by default. A killed process is noticed at once all the same:
 * its connections are closed by the system.
 */
export const SUSPECT_AFTER_MS = 300;

/**
 * The guest gets the last CPU to itself, where there is more than one: both nodes, the clients and
 * the test share the others. Only one of the two nodes runs the guest at any time.
 */
export const VCPU_FLAGS: readonly string[] =
  os.cpus().length > 1 ? ['--vcpu-cpu', `${os.cpus().length - 1}`] : [];

/** One running command in its slot. */
export class PairNode extends NodeProcess {
  constructor(
    process: WatchedProcess,
    readonly slot: Slot,
    nodeId: string,
  ) {
    super(process, nodeId);
  }
}

/** How a takeover went. */
export interface Takeover {
  /** True when the standby had taken over by itself before (the host stalled for too long). */
  readonly early: boolean;
  /** When SIGKILL was sent, monotonic µs. */
  readonly killedUs: number;
  /** SIGKILL sent → the other side said that it runs the guest. */
  readonly promotedMs: number;
}

export class Pair {
  active: PairNode | undefined;
  standby: PairNode | undefined;
  readonly netns: NetworkNamespace | undefined;
  /** Where the clients find the guest. */
  readonly guest: { readonly host: string; readonly port: number };
  readonly slots: readonly [Slot, Slot];
  private readonly folder: string;
  private readonly nodes: PairNode[] = [];
  private readonly simPort: number;
  private started = 0;

  constructor(readonly options: PairOptions) {
    this.netns = options.withoutNamespace === true ? undefined : NetworkNamespace.make(2);
    this.folder = mkdtempSync(path.join(os.tmpdir(), 'ft-pair-'));
    atExit(this.folder, () => this.removeFolder());
    // Without a namespace several test runs may share the loopback.
    const base = this.netns === undefined ? 20_000 + (process.pid % 20_000) : 7001;
    this.simPort = base + 2;
    this.slots = [
      { name: 'a', tap: this.netns?.taps[0], port: base },
      { name: 'b', tap: this.netns?.taps[1], port: base + 1 },
    ];
    for (const slot of this.slots) this.blankImage(slot);
    this.guest =
      options.machine === 'kvm'
        ? { host: GUEST_ADDRESS, port: BEACON_PORT }
        : { host: '127.0.0.1', port: this.simPort };
  }

  /** Starts both sides and waits until the guest is protected. */
  async start(timeoutMs = 20_000): Promise<void> {
    this.startStandby(this.slots[1]);
    const active = this.startPrimary(this.slots[0]);
    await active.waitState(['protected'], timeoutMs);
  }

  /** Starts ft-primary in a slot; it dials the other slot, or another port of this host. */
  startPrimary(
    slot: Slot = this.slots[0],
    dialPort = this.other(slot).port,
    more: readonly string[] = [],
  ): PairNode {
    const dial = ['--standby', `127.0.0.1:${dialPort}`];
    this.active = this.launch('ft-primary', slot, [...this.guestFlags(), ...dial, ...more]);
    return this.active;
  }

  /** Starts ft-primary without a standby: the guest runs unprotected. */
  startAlone(): PairNode {
    this.active = this.launch('ft-primary', this.slots[0], this.guestFlags());
    return this.active;
  }

  /** Starts ft-standby in a slot; once promoted it dials the other slot. */
  startStandby(
    slot: Slot = this.slots[1],
    memory = this.options.memory ?? '64M',
    flags: readonly string[] = [],
  ): PairNode {
    const listen = ['--listen', `127.0.0.1:${slot.port}`];
    const dial = ['--standby', `127.0.0.1:${this.other(slot).port}`];
    this.standby = this.launch('ft-standby', slot, [...listen, ...dial, ...flags], memory);
    return this.standby;
  }

  /** SIGKILL to the active side; waits until the standby runs the guest and makes it the active. */
  async killActive(timeoutMs = 10_000): Promise<Takeover> {
    const { active, standby } = this;
    if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
    const early = active.process.exit !== undefined;
    const killedUs = active.process.kill('SIGKILL');
    const isActive = (line: Line): boolean =>
      line.fields['role'] === 'primary' && ACTIVE_STATES.includes(stateOf(line));
    const line = await standby.process.waitFor('its promotion', isActive, timeoutMs);
    await active.process.waitExit(5000);
    this.active = standby;
    this.standby = undefined;
    return { early, killedUs, promotedMs: (line.atUs - killedUs) / 1000 };
  }

  /** A fresh ft-standby in the free slot; waits until the guest is protected again. */
  async rejoin(timeoutMs = 20_000): Promise<void> {
    const { active } = this;
    if (active === undefined) throw new Error('There is no active side to join.');
    const from = active.process.lines.length;
    this.startStandby(this.other(active.slot));
    await active.waitState(['protected'], timeoutMs, from);
  }

  /** The slot without a node that is alive, as far as the pair knows. */
  get freeSlot(): Slot {
    const { active } = this;
    return active === undefined ? this.slots[1] : this.other(active.slot);
  }

  /** Where a slot's disk image lies; its map is beside it. */
  imagePath(slot: Slot): string {
    return path.join(this.folder, `${slot.name}.img`);
  }

  /** The slot's image becomes a new one, all holes, and its map is gone: a replaced disk. */
  blankImage(slot: Slot): void {
    if (this.options.diskBytes === undefined) return;
    const image = this.imagePath(slot);
    rmSync(image, { force: true });
    rmSync(`${image}.ftmap`, { force: true });
    closeSync(openSync(image, 'w'));
    truncateSync(image, this.options.diskBytes);
  }

  /** Ends both sides in order, the standby first, so that it never takes over. */
  async stopInOrder(timeoutMs = 10_000): Promise<void> {
    for (const node of [this.standby, this.active]) {
      if (node === undefined) continue;
      node.process.kill('SIGTERM');
      const exit = await node.process.waitExit(timeoutMs);
      if (exit.code !== 0) throw node.process.failure('an end in order');
    }
    this.standby = undefined;
    this.active = undefined;
  }

  /** What each node said last and how it ended, for error reports; the whole is in build/logs. */
  story(): string {
    return this.nodes.map((node) => node.process.story()).join('\n');
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.process.stop()));
    this.netns?.close();
    this.removeFolder();
  }

  private removeFolder(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  private guestFlags(): string[] {
    if (this.options.machine === 'simulated') return [];
    const kernel = this.options.kernel ?? beaconPath;
    const more = this.options.kernelFlags ?? ['--cmdline', `ip=${GUEST_ADDRESS}`];
    return ['--kernel', kernel, ...more];
  }

  private commonFlags(slot: Slot, memory: string): string[] {
    const { options } = this;
    const network =
      options.machine === 'kvm'
        ? [
            ...['--tap', slot.tap ?? '', '--mac', GUEST_MAC],
            ...(options.unpinned === true ? [] : VCPU_FLAGS),
          ]
        : ['--sim-port', `${this.simPort}`];
    const disk = options.diskBytes === undefined ? [] : ['--disk', this.imagePath(slot)];
    return [
      ...disk,
      ...['--machine', options.machine, '--memory', memory, ...network],
      ...['--suspect-after-ms', `${options.suspectAfterMs?.(slot) ?? SUSPECT_AFTER_MS}`],
      ...['--pair', 'drill', '--witness', options.witness ?? `file:${this.folder}`],
      ...['--status-interval-ms', `${options.statusIntervalMs ?? 250}`, ...(options.flags ?? [])],
    ];
  }

  private other(slot: Slot): Slot {
    return slot === this.slots[0] ? this.slots[1] : this.slots[0];
  }

  private launch(
    command: 'ft-primary' | 'ft-standby',
    slot: Slot,
    flags: readonly string[],
    memory = this.options.memory ?? '64M',
  ): PairNode {
    const n = this.started++;
    const nodeId = `${slot.name}${n}`;
    const [first, ...words] = [...(this.options.wrap?.(slot) ?? []), process.execPath];
    const child = new WatchedProcess({
      name: `${this.options.name ?? 'pair'}-${n}-${slot.name}`,
      command: first ?? process.execPath,
      args: [
        ...words,
        path.join(projectRoot, `dist/src/cli/${command}.js`),
        ...this.commonFlags(slot, memory),
        ...['--node', nodeId, ...flags, ...(this.options.slotFlags?.(slot) ?? [])],
      ],
      netns: this.netns?.name,
    });
    const node = new PairNode(child, slot, nodeId);
    this.nodes.push(node);
    return node;
  }
}
