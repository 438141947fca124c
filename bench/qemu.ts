/**
 * QEMU on the fixture guest, alone, as a COLO pair, or migrated once: started, driven and ended.
 *
 *   ┌ namespace ──────────────────────────────────────────────┐
 *   │  br0 ── tap0 ── primary ──(UNIX socket or loopback)──┐  │   clients reach the primary alone:
 *   │         tap1 ── secondary ◀──────────────────────────┘  │   tap1 is on no bridge
 *   └─────────────────────────────────────────────────────────┘
 *
 * Nothing compares or holds the output here (no colo-compare), which QEMU would need for what a
 * protected pair promises; so its figures are better than those of a COLO that keeps the promise.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { GUEST_ADDRESS, NetworkNamespace } from '../src/drill/lan/netns';
import { BEACON_PORT } from '../src/drill/oracle/oracle-layout';
import { type BeaconStats, OracleProcess } from '../src/drill/oracle/oracle-process';
import { beaconPath } from '../src/drill/pair/pair';
import { WatchedProcess } from '../src/drill/process/process';
import { atExit } from '../src/drill/process/process-exit';
import { sleep } from '../src/drill/process/time';
import {
  type Checkpoints,
  countCheckpoints,
  type MigrationFigures,
  parseTrace,
  readMigration,
  readVcpuThreads,
} from './qemu-trace';
import { QmpClient } from './qmp';

export const QEMU = 'qemu-system-x86_64';
const MEMORY_MIB = 64;
const MAC = '52:54:00:77:00:02';
const TCP_PORT = 7010;
const STATE_MS = 20_000;
const WARM_UP_MS = 1500;
const REAL_TIME_PRIORITY = '10';
/** The primary's and the secondary's, by the names that QEMU gives them. */
const CHECKPOINT_THREAD = /migration|COLO/;

/** How a COLO pair is set up. */
export interface ColoSetUp {
  readonly name: string;
  readonly link: 'unix' | 'tcp';
  /** No ioeventfd, CPUs shared out, and the checkpointing threads before everything else. */
  readonly tuned: boolean;
}

export const COLO_SET_UPS: readonly ColoSetUp[] = [
  { name: 'unix', link: 'unix', tuned: false },
  { name: 'tcp', link: 'tcp', tuned: false },
  { name: 'tuned', link: 'unix', tuned: true },
];

/** What the guest does meanwhile: as bench/measure.ts has it. */
export interface Load {
  readonly dirtyPages: number;
  readonly changedBytes: number;
  readonly incrPerSecond: number;
  readonly seconds: number;
}

/** What the guest did, by the host's clock: QEMU stops the guest's with the guest. */
export interface GuestFigures {
  readonly progressPerSecond: number;
  readonly latencyUsP50: number;
  readonly latencyUsP99: number;
}

export type ColoFigures = GuestFigures & Checkpoints;

/** The version that QEMU says of itself; undefined where it is not installed. */
export function qemuVersion(): string | undefined {
  const { status, stdout } = spawnSync(QEMU, ['--version'], { encoding: 'utf8' });
  return status === 0 ? stdout.split('\n')[0]?.trim() : undefined;
}

/** One QEMU in the namespace. */
class QemuGuest {
  private constructor(
    readonly process: WatchedProcess,
    readonly qmp: QmpClient,
    private readonly tracePath: string,
  ) {}

  static async start(
    site: QemuSite,
    name: string,
    tap: string,
    more: readonly string[],
  ): Promise<QemuGuest> {
    const qmpPath = path.join(site.folder, `${name}.qmp`);
    const tracePath = path.join(site.folder, `${name}.trace`);
    const child = new WatchedProcess({
      name: `qemu-${name}`,
      command: QEMU,
      netns: site.netns.name,
      args: [
        ...['-machine', 'microvm,acpi=off,x-option-roms=off', '-accel', 'kvm'],
        ...['-cpu', 'kvm64,-cx16,-popcnt', '-m', `${MEMORY_MIB}`],
        ...['-kernel', beaconPath, '-append', `ip=${GUEST_ADDRESS}`],
        ...['-nodefaults', '-display', 'none', '-name', `${name},debug-threads=on`],
        ...['-netdev', `tap,id=n0,ifname=${tap},script=no,downscript=no,vhost=off`],
        ...['-device', `virtio-net-device,netdev=n0,mac=${MAC}`],
        ...['-global', 'virtio-mmio.force-legacy=false'],
        ...['-qmp', `unix:${qmpPath},server=on,wait=off`],
        ...['-msg', 'timestamp=on', '-trace', 'colo_vm_state_change', '-D', tracePath],
        ...more,
      ],
    });
    site.processes.push(child);
    try {
      return new QemuGuest(child, await QmpClient.open(qmpPath), tracePath);
    } catch (thrown) {
      throw new Error(`${messageOf(thrown)}\n${child.story()}`);
    }
  }

  /** The trace so far; empty when there is none yet. */
  readTrace(): string {
    try {
      return readFileSync(this.tracePath, 'utf8');
    } catch {
      return '';
    }
  }

  /** Waits for a state of the migration; returns the figures that came with it. */
  async waitMigration(wanted: string): Promise<MigrationFigures | undefined> {
    const endMs = performance.now() + STATE_MS;
    for (;;) {
      const { status, figures } = readMigration(await this.qmp.run('query-migrate'));
      if (status === wanted) return figures;
      if (performance.now() > endMs) {
        throw new Error(`QEMU's migration is "${status}" and did not become "${wanted}".`);
      }
      await sleep(5);
    }
  }

  async vcpuThreads(): Promise<number[]> {
    return readVcpuThreads(await this.qmp.run('query-cpus-fast'));
  }

  /** Threads of this process by name. */
  threads(): { tid: number; name: string }[] {
    return readdirSync(`/proc/${this.process.pid}/task`).map((tid) => ({
      tid: Number(tid),
      name: readFileSync(`/proc/${this.process.pid}/task/${tid}/comm`, 'utf8').trim(),
    }));
  }
}

/** Where QEMUs live: a namespace, a folder, and their end, whatever happens. */
class QemuSite {
  readonly netns = NetworkNamespace.make(1);
  readonly folder = mkdtempSync(path.join(os.tmpdir(), 'ft-qemu-'));
  readonly processes: WatchedProcess[] = [];

  constructor() {
    atExit(this.folder, () => this.removeFolder());
    this.netns.run('ip', 'tuntap', 'add', 'dev', 'tap1', 'mode', 'tap');
    this.netns.run('ip', 'link', 'set', 'tap1', 'up');
  }

  migrationUri(link: 'unix' | 'tcp'): string {
    return link === 'unix' ? `unix:${this.folder}/migrate` : `tcp:127.0.0.1:${TCP_PORT}`;
  }

  story(): string {
    return this.processes.map((one) => one.story()).join('\n');
  }

  async close(): Promise<void> {
    // QEMU's own orderly end may wait for a peer that hangs; nothing of it is needed.
    for (const one of this.processes) one.kill('SIGKILL');
    await Promise.all(this.processes.map((one) => one.stop()));
    this.netns.close();
    this.removeFolder();
  }

  private removeFolder(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** The guest in QEMU alone, under the load. */
export function measureUnprotected(load: Load): Promise<GuestFigures> {
  return inSite(async (site) => {
    await QemuGuest.start(site, 'alone', 'tap0', []);
    return underLoad(site, load, (oracle) => watch(oracle, load));
  });
}

/** A COLO pair with a checkpoint asked for every `delayMs`, the guest under the load. */
export function measureColo(setUp: ColoSetUp, delayMs: number, load: Load): Promise<ColoFigures> {
  return inSite(async (site) => {
    const flags = setUp.tuned ? ['-global', 'virtio-mmio.ioeventfd=off'] : [];
    const incoming = [...flags, '-incoming', 'defer'];
    const secondary = await QemuGuest.start(site, 'secondary', 'tap1', incoming);
    const primary = await QemuGuest.start(site, 'primary', 'tap0', flags);
    const colo = { capabilities: [{ capability: 'x-colo', state: true }] };
    await secondary.qmp.run('migrate-set-capabilities', colo);
    await primary.qmp.run('migrate-set-capabilities', colo);
    const uri = site.migrationUri(setUp.link);
    await secondary.qmp.run('migrate-incoming', { uri });
    await primary.qmp.run('migrate-set-parameters', { 'x-checkpoint-delay': delayMs });
    return underLoad(site, load, async (oracle) => {
      await primary.qmp.run('migrate', { uri });
      await primary.waitMigration('colo');
      if (setUp.tuned) await tune(primary, secondary);
      const guest = await watch(oracle, load);
      const checkpoints = countCheckpoints(
        parseTrace(primary.readTrace()),
        guest.fromUs,
        guest.toUs,
      );
      return { ...guest, ...checkpoints };
    });
  });
}

/** One live migration to another QEMU of the same host, the guest under the load. */
export function measureMigration(link: 'unix' | 'tcp', load: Load): Promise<MigrationFigures> {
  return inSite(async (site) => {
    const target = await QemuGuest.start(site, 'target', 'tap1', ['-incoming', 'defer']);
    const source = await QemuGuest.start(site, 'source', 'tap0', []);
    const uri = site.migrationUri(link);
    await target.qmp.run('migrate-incoming', { uri });
    return underLoad(site, load, async () => {
      await source.qmp.run('migrate', { uri });
      const figures = await source.waitMigration('completed');
      if (figures === undefined) throw new Error('The migration ended without figures.');
      return figures;
    });
  });
}

/**
 * The set-up that gave the most checkpoints of those tried: the last CPU is the primary's vCPU's
 * alone, as it is for us, and on the others the two threads that checkpoint go before everything
 * else. (Real time for all threads gives no more, and where a vCPU shares a CPU with them, less.)
 */
async function tune(primary: QemuGuest, secondary: QemuGuest): Promise<void> {
  const last = os.cpus().length - 1;
  const others = last === 0 ? '0' : `0-${last - 1}`;
  const running = new Set(await primary.vcpuThreads());
  for (const { tid, name } of [...primary.threads(), ...secondary.threads()]) {
    schedule('taskset', '-pc', running.has(tid) ? `${last}` : others, `${tid}`);
    if (CHECKPOINT_THREAD.test(name)) schedule('chrt', '-f', '-p', REAL_TIME_PRIORITY, `${tid}`);
  }
}

function schedule(command: string, ...args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  // A thread that came and went meanwhile needs no schedule.
  if (status === 0 || /No such process/.test(stderr ?? '')) return;
  throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? stderr.trim()}`);
}

/** Runs `body` while the guest spins over its working set and answers the clients. */
async function underLoad<T>(
  site: QemuSite,
  load: Load,
  body: (oracle: OracleProcess) => Promise<T>,
): Promise<T> {
  const oracle = await OracleProcess.start(
    {
      host: GUEST_ADDRESS,
      port: BEACON_PORT,
      clients: 4,
      ratePerSecond: load.incrPerSecond,
      mix: [1, 0, 0],
    },
    site.netns.name,
  );
  try {
    await oracle.load({
      pagesPerMs: 'max',
      bytesPerPage: load.changedBytes,
      workingSetPages: load.dirtyPages,
      spin: true,
    });
    await oracle.start();
    return await body(oracle);
  } finally {
    await oracle.close();
  }
}

/** Watches the guest for the time of the load; the wall-clock stretch comes with the figures. */
async function watch(
  oracle: OracleProcess,
  load: Load,
): Promise<GuestFigures & { readonly fromUs: number; readonly toUs: number }> {
  await sleep(WARM_UP_MS);
  await oracle.sample();
  const before = await timedStats(oracle);
  await sleep(load.seconds * 1000);
  const after = await timedStats(oracle);
  const { latency } = await oracle.sample();
  const seconds = (after.atUs - before.atUs) / 1e6;
  return {
    progressPerSecond: (after.stats.progress - before.stats.progress) / seconds,
    latencyUsP50: latency.usP50,
    latencyUsP99: latency.usP99,
    fromUs: before.atUs,
    toUs: after.atUs,
  };
}

/** The guest's counters, and the wall clock at the middle of asking for them. */
async function timedStats(oracle: OracleProcess): Promise<{ stats: BeaconStats; atUs: number }> {
  const askedMs = Date.now();
  const stats = await oracle.stats();
  return { stats, atUs: ((askedMs + Date.now()) / 2) * 1000 };
}

async function inSite<T>(body: (site: QemuSite) => Promise<T>): Promise<T> {
  const site = new QemuSite();
  try {
    return await body(site);
  } catch (thrown) {
    throw new Error(`${messageOf(thrown)}\n=== what QEMU said\n${site.story()}`);
  } finally {
    await site.close();
  }
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
