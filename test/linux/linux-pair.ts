/**
 * A pair whose guest is a Linux kernel, and how a test lives with it: boot, kill, and what the guest
 * says of itself before and after.
 */
import { rmSync } from 'node:fs';
import path from 'node:path';
import { GUEST_ADDRESS, type NetworkNamespace } from '../../src/drill/lan/netns';
import { Pair, type PairOptions } from '../../src/drill/pair/pair';
import { processSettings } from '../../src/drill/process/process';
import { monotonicUs, until } from '../../src/drill/process/time';
import { ASK_UPTIME, LinuxConsole } from './linux-guest';

/** A kernel that is emulated instruction by instruction takes minutes to boot on a busy host. */
export const BOOT_MS_MAX = 900_000;
export const FAILOVER_MS_MAX = 120_000;
/** The guest's clock goes on with the world's, whoever runs it, */
export const CLOCK_DRIFT_S_MAX = 3;
/** but for the time from the last epoch to the promotion, in which nobody does. */
export const CLOCK_LOST_S_MAX = 0.5;

/** More than a log's housekeeping. */
const WRITING_BYTES = 256 * 1024;

/** What the guest's clock and the host's said at one moment. */
export interface Moment {
  readonly uptimeS: number;
  readonly hostS: number;
}

export interface Failover {
  readonly promotedMs: number;
  readonly answeredMs: number;
}

function answers(netns: NetworkNamespace): boolean {
  try {
    netns.run('ping', '-c', '1', '-W', '1', GUEST_ADDRESS);
    return true;
  } catch {
    return false;
  }
}

/** A pair whose guest is a Linux kernel, and the network that it is heard through. */
export class LinuxPair {
  readonly pair: Pair;
  readonly console: LinuxConsole;
  readonly netns: NetworkNamespace;

  constructor(name: string, guest: Pick<PairOptions, 'kernel' | 'kernelFlags' | 'diskBytes'>) {
    this.console = new LinuxConsole(path.join(processSettings.logFolder, `${name}-console.log`));
    rmSync(this.console.file, { force: true });
    this.pair = new Pair({
      machine: 'kvm',
      name,
      memory: '128M',
      ...guest,
      flags: ['--console', `file:${this.console.file}`],
    });
    if (this.pair.netns === undefined) throw new Error('The pair has no network.');
    this.netns = this.pair.netns;
  }

  /** Boots the guest; returns after how many seconds its first line, /init and ping came. */
  async boot(): Promise<{ firstLineS: number; initS: number; pingS: number }> {
    const bornUs = monotonicUs();
    const sinceS = (): number => (monotonicUs() - bornUs) / 1e6;
    const { process } = this.pair.startPrimary();
    const orEnded = (isTrue: boolean): boolean => {
      if (process.exit !== undefined) throw new Error('ft-primary ended before its guest was up.');
      return isTrue;
    };
    const hasLine = (): boolean => orEnded(this.console.lines().length > 0);
    await until('its first line', hasLine, BOOT_MS_MAX);
    const firstLineS = sinceS();
    await until('its /init', () => orEnded(this.console.hasBooted()), BOOT_MS_MAX);
    const initS = sinceS();
    await until('an answer to ping', () => answers(this.netns), 10_000);
    return { firstLineS, initS, pingS: sinceS() };
  }

  /** Makes the kernel say its uptime, and waits for it. */
  async askUptime(): Promise<Moment> {
    const seen = this.console.uptimes().length;
    this.netns.run('python3', '-c', ASK_UPTIME);
    await until('its uptime', () => this.console.uptimes().length > seen, 10_000);
    const uptimeS = this.console.uptimes().at(-1)?.uptimeS ?? 0;
    return { uptimeS, hostS: monotonicUs() / 1e6 };
  }

  /** Kills the active side and holds the guest's new life against its old one. */
  async failOver(): Promise<Failover> {
    await until('an answer under protection', () => answers(this.netns), 20_000);
    const before = await this.askUptime();
    const { promotedMs, killedUs, early } = await this.pair.killActive();
    expect(early).toBe(false);
    await until('an answer from the standby', () => answers(this.netns), 20_000);
    const answeredMs = (monotonicUs() - killedUs) / 1000;
    const after = await this.askUptime();
    const ping = this.netns.run('ping', '-c', '5', '-i', '0.3', '-W', '10', GUEST_ADDRESS);
    expect(ping).toMatch(/ 0% packet loss/);
    expect(this.console.faults()).toEqual([]);
    const grownS = after.uptimeS - before.uptimeS;
    expect(grownS).toBeGreaterThan(0);
    expect(Math.abs(grownS - (after.hostS - before.hostS))).toBeLessThan(CLOCK_DRIFT_S_MAX);
    return { promotedMs, answeredMs };
  }

  /** Waits until the guest is amid writing to its disk. */
  async writesToDisk(timeoutMs: number): Promise<void> {
    const from = this.bytesWritten();
    const isWriting = (): boolean => this.bytesWritten() > from + WRITING_BYTES;
    await until('writes to its disk', isWriting, timeoutMs);
  }

  /** Waits until it has written nothing for `restMs`. */
  async diskRests(restMs: number, timeoutMs: number): Promise<void> {
    let written = this.bytesWritten();
    let sinceUs = monotonicUs();
    const isAtRest = (): boolean => {
      const now = this.bytesWritten();
      if (now !== written) sinceUs = monotonicUs();
      written = now;
      return monotonicUs() - sinceUs > restMs * 1000;
    };
    await until('its disk to come to rest', isAtRest, timeoutMs);
  }

  private bytesWritten(): number {
    return this.pair.active?.figure('diskBytesWritten') ?? 0;
  }

  /** An error that also tells what the guest and the nodes said last. */
  explain(thrown: unknown): Error {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    const said = this.console.lines().slice(-15);
    const told = said.map((line) => `${line.uptimeS} ${line.text}`).join('\n');
    return new Error(`${message}\n=== its console\n${told}\n=== the nodes\n${this.pair.story()}`);
  }
}

export function say(sentence: string): void {
  process.stdout.write(`Linux: ${sentence}\n`);
}
