/**
 * A real Linux kernel under replication: it boots under ft-primary, answers ping through the TAP, is
 * protected, loses its primary to SIGKILL, and goes on at the standby: the same boot, its clock
 * growing, without an oops or a lock-up. Then a fresh standby joins, and the survivor is killed in
 * its turn: FT_LINUX_RUNS times (1 if absent) without a reboot. Once more from a bzImage, which
 * unpacks itself in the guest. By `make test-linux` only, which builds the kernel first.
 */
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { kvmDescribe } from '../support/kvm';
import { GUEST_ADDRESS, type NetworkNamespace } from '../support/netns';
import { monotonicUs } from '../support/oracle-history';
import { Pair, sleep, until } from '../support/pair';
import { logFolder } from '../support/process';
import {
  ASK_UPTIME,
  findLinuxImages,
  LINUX_CMDLINE,
  LinuxConsole,
  type LinuxImages,
} from './linux-guest';

const runs = Number(process.env['FT_LINUX_RUNS'] ?? 1);
/** A kernel that is emulated instruction by instruction takes minutes to boot on a busy host. */
const BOOT_MS_MAX = 900_000;
const FAILOVER_MS_MAX = 120_000;
/** The guest's clock goes on with the world's, whoever runs it, */
const CLOCK_DRIFT_S_MAX = 3;
/** but for the time from the last epoch to the promotion, in which nobody does. */
const CLOCK_LOST_S_MAX = 0.5;

/** What the guest's clock and the host's said at one moment. */
interface Moment {
  readonly uptimeS: number;
  readonly hostS: number;
}

interface Failover {
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
class LinuxPair {
  readonly pair: Pair;
  readonly console: LinuxConsole;
  readonly netns: NetworkNamespace;

  constructor(name: string, kernel: string, initrd: string) {
    this.console = new LinuxConsole(path.join(logFolder, `${name}-console.log`));
    rmSync(this.console.file, { force: true });
    this.pair = new Pair({
      machine: 'kvm',
      name,
      memory: '128M',
      kernel,
      kernelFlags: ['--initrd', initrd, '--cmdline', LINUX_CMDLINE],
      flags: ['--console', `file:${this.console.file}`],
    });
    if (this.pair.netns === undefined) throw new Error('The pair has no network.');
    this.netns = this.pair.netns;
  }

  /** Boots the guest; returns after how many seconds its first line, /init and ping came. */
  async boot(): Promise<{ firstLineS: number; initS: number; pingS: number }> {
    const bornUs = monotonicUs();
    const sinceS = (): number => (monotonicUs() - bornUs) / 1e6;
    this.pair.startPrimary();
    await until('its first line', () => this.console.lines().length > 0, BOOT_MS_MAX);
    const firstLineS = sinceS();
    await until('its /init', () => this.console.hasBooted(), BOOT_MS_MAX);
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

  /** An error that also tells what the guest and the nodes said last. */
  explain(thrown: unknown): Error {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    const said = this.console.lines().slice(-15);
    const told = said.map((line) => `${line.uptimeS} ${line.text}`).join('\n');
    return new Error(`${message}\n=== its console\n${told}\n=== the nodes\n${this.pair.story()}`);
  }
}

function say(sentence: string): void {
  process.stdout.write(`Linux: ${sentence}\n`);
}

/** "p50 12.3, most 45.6" */
function spread(values: readonly number[]): string {
  const sorted = [...values].sort((a, b) => a - b);
  const p50 = sorted[Math.floor((sorted.length - 1) / 2)] ?? 0;
  return `p50 ${p50.toFixed(1)}, most ${(sorted.at(-1) ?? 0).toFixed(1)}`;
}

kvmDescribe('a Linux guest', () => {
  let images: LinuxImages;
  let linux: LinuxPair | undefined;

  beforeAll(() => {
    images = findLinuxImages();
    mkdirSync(logFolder, { recursive: true });
  });

  afterEach(async () => {
    await linux?.pair.close();
    linux = undefined;
  });

  const liveThroughKills = async (name: string, kernel: string, kills: number): Promise<void> => {
    const guest = new LinuxPair(name, kernel, images.initrd);
    linux = guest;
    const done: Failover[] = [];
    try {
      const { firstLineS, initS, pingS } = await guest.boot();
      say(
        `${name}: first line after ${firstLineS.toFixed(1)} s, /init ${initS.toFixed(1)} s, ` +
          `ping ${pingS.toFixed(1)} s`,
      );
      const first = await guest.askUptime();
      for (let kill = 1; kill <= kills; kill++) {
        await guest.pair.rejoin(60_000);
        // Some life under protection, so that the epochs are not all of the sync.
        await sleep(1000);
        const failover = await guest.failOver();
        done.push(failover);
        say(
          `${name}: kill ${kill} of ${kills}: promoted after ${failover.promotedMs.toFixed(1)} ms, ` +
            `ping answered after ${failover.answeredMs.toFixed(0)} ms`,
        );
      }
      const last = await guest.askUptime();
      const lifeS = last.uptimeS - first.uptimeS;
      const driftSMax = CLOCK_DRIFT_S_MAX + kills * CLOCK_LOST_S_MAX;
      expect(Math.abs(lifeS - (last.hostS - first.hostS))).toBeLessThan(driftSMax);
      say(
        `${name}: ${kills} kills in one boot, promoted ms ${spread(done.map((f) => f.promotedMs))}, ` +
          `ping ms ${spread(done.map((f) => f.answeredMs))}, uptime ${last.uptimeS.toFixed(1)} s, ` +
          `apart from the host's clock by ${(lifeS - (last.hostS - first.hostS)).toFixed(2)} s`,
      );
    } catch (thrown) {
      throw guest.explain(thrown);
    }
  };

  const timeoutMs = (kills: number): number => 2 * BOOT_MS_MAX + kills * FAILOVER_MS_MAX;

  test(
    `lives on when its primary is killed, ${runs} times in one boot`,
    () => liveThroughKills('linux-vmlinux', images.vmlinux, runs),
    timeoutMs(runs),
  );

  test(
    'from a bzImage, too',
    () => liveThroughKills('linux-bzImage', images.bzImage, 1),
    timeoutMs(1),
  );
});
