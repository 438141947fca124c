/**
 * A real Linux kernel under replication: it boots under ft-primary, answers ping through the TAP, is
 * protected, loses its primary to SIGKILL, and goes on at the standby: the same boot, its clock
 * growing, without an oops or a lock-up. Then a fresh standby joins, and the survivor is killed in
 * its turn: FT_LINUX_RUNS times (1 if absent) without a reboot. Once more from a bzImage, which
 * unpacks itself in the guest. By `make test-linux` only, which builds the kernel first.
 */
import { mkdirSync } from 'node:fs';
import { processSettings } from '../../src/drill/process/process';
import { sleep } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';
import { findLinuxImages, LINUX_CMDLINE, type LinuxImages } from './linux-guest';
import {
  BOOT_MS_MAX,
  CLOCK_DRIFT_S_MAX,
  CLOCK_LOST_S_MAX,
  FAILOVER_MS_MAX,
  type Failover,
  LinuxPair,
  say,
} from './linux-pair';

const runs = Number(process.env['FT_LINUX_RUNS'] ?? 1);
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
    mkdirSync(processSettings.logFolder, { recursive: true });
  });

  afterEach(async () => {
    await linux?.pair.close();
    linux = undefined;
  });

  const liveThroughKills = async (name: string, kernel: string, kills: number): Promise<void> => {
    const guest = new LinuxPair(name, {
      kernel,
      kernelFlags: ['--initrd', images.initrd, '--cmdline', LINUX_CMDLINE],
    });
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
