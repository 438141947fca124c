/**
 * What the switch sees of the guest: every frame with the guest's address that comes in from a host,
 * with the kernel's time of arrival. tcpdump writes, one process per host; the files are read when
 * the watch is ended.
 *
 *   file     magic a1b23c4d u32 · version u16 ×2 · zone i32 · u32 · snap length u32 · link type u32
 *   record   seconds u32 · nanoseconds u32 · captured bytes u32 · bytes u32 · the captured bytes
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { WatchedProcess } from '../process/process';
import { atExit } from '../process/process-exit';
import { monotonicUs } from '../process/time';
import type { GuestFrame } from './dual-active';
import { HOST_NAMES, type HostName, type Lan } from './lan';
import { GUEST_MAC } from './netns';

const FILE_HEADER_BYTES = 24;
const RECORD_HEADER_BYTES = 16;
/** The kernel hands frames over in blocks, the last one after a second at most. */
const BLOCK_MS = 1100;
const NANOSECOND_MAGIC = 0xa1b23c4d;
/** Link, network and transport headers; what the guest says is the oracle's business. */
const SNAP_BYTES = 64;

interface Watcher {
  readonly host: HostName;
  readonly file: string;
  readonly process: WatchedProcess;
}

export class PortWatch {
  private readonly folder = mkdtempSync(path.join(os.tmpdir(), 'ft-watch-'));
  private readonly watchers: Watcher[] = [];
  /** Wall-clock time minus monotonic time. */
  private readonly offsetUs = wallClockOffsetUs();

  private constructor() {
    atExit(this.folder, () => this.removeFolder());
  }

  /** Watches both hosts' ports of the guests' network; returns when both are listened to. */
  static async start(lan: Lan, name: string): Promise<PortWatch> {
    const watch = new PortWatch();
    try {
      for (const host of HOST_NAMES) watch.watchers.push(watch.listen(lan, host, name));
      await Promise.all(watch.watchers.map((watcher) => listening(watcher.process)));
    } catch (thrown) {
      await watch.close();
      throw thrown;
    }
    return watch;
  }

  /**
   * Ends the watch. Throws when the kernel dropped a frame: then nothing could be said for certain.
   * @returns what came, in the order of arrival, monotonic µs.
   */
  async finish(): Promise<GuestFrame[]> {
    const frames: GuestFrame[] = [];
    await new Promise((resolve) => setTimeout(resolve, BLOCK_MS));
    try {
      for (const { host, file, process } of this.watchers) {
        process.kill('SIGINT');
        await process.waitExit(5000);
        const dropped = /(\d+) packets? dropped by kernel/.exec(process.stderrTail)?.[1];
        if (dropped !== '0') throw process.failure('a count of no dropped frames');
        for (const atUs of readTimes(readFileSync(file))) {
          frames.push({ host, atUs: atUs - this.offsetUs });
        }
      }
    } finally {
      await this.close();
    }
    return frames.sort((x, y) => x.atUs - y.atUs);
  }

  async close(): Promise<void> {
    await Promise.all(this.watchers.map((watcher) => watcher.process.stop()));
    this.removeFolder();
  }

  private listen(lan: Lan, host: HostName, name: string): Watcher {
    const file = path.join(this.folder, `${host}.pcap`);
    const process = new WatchedProcess({
      name: `${name}-port-${host}`,
      netns: lan.clients.name,
      command: 'tcpdump',
      args: [
        ...['-i', lan.guestPort(host), '-Q', 'in', '-w', file, '-s', `${SNAP_BYTES}`],
        // It writes into a folder of ours, so it must stay who it is.
        ...['-Z', 'root', '--time-stamp-precision=nano', '-B', '8192', '-p', '-n'],
        ...['ether', 'src', GUEST_MAC],
      ],
    });
    return { host, file, process };
  }

  private removeFolder(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function listening(process: WatchedProcess): Promise<void> {
  const endUs = monotonicUs() + 5e6;
  while (!/listening on/.test(process.stderrTail)) {
    if (process.exit !== undefined || monotonicUs() > endUs) {
      throw process.failure('tcpdump to listen (is the Debian package tcpdump installed?)');
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Times of arrival of a file's records, wall clock µs. */
export function readTimes(file: Buffer): number[] {
  if (file.length < FILE_HEADER_BYTES || file.readUInt32LE(0) !== NANOSECOND_MAGIC) {
    throw new Error('This is no capture file with nanoseconds.');
  }
  const times: number[] = [];
  let at = FILE_HEADER_BYTES;
  while (at + RECORD_HEADER_BYTES <= file.length) {
    times.push(file.readUInt32LE(at) * 1e6 + file.readUInt32LE(at + 4) / 1e3);
    at += RECORD_HEADER_BYTES + file.readUInt32LE(at + 8);
  }
  return times;
}

/** Both clocks are read in the microsecond in which the wall clock comes to its next millisecond. */
function wallClockOffsetUs(): number {
  const before = Date.now();
  let now = before;
  while (now === before) now = Date.now();
  return now * 1000 - monotonicUs();
}
