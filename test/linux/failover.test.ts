/**
 * A real Linux kernel under replication: it boots under ft-primary, answers ping through the TAP, is
 * protected, loses its primary to SIGKILL, and goes on at the standby: the same boot, its clock
 * growing, without an oops. FT_LINUX_RUNS says how often (1 if absent). By `make test-linux` only,
 * which builds the kernel first.
 */
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { kvmDescribe } from '../support/kvm';
import { GUEST_ADDRESS, type NetworkNamespace } from '../support/netns';
import { monotonicUs } from '../support/oracle-history';
import { Pair, until } from '../support/pair';
import { logFolder } from '../support/process';
import {
  ASK_UPTIME,
  findLinuxImages,
  LINUX_CMDLINE,
  LinuxConsole,
  type LinuxImages,
} from './linux-guest';

const runs = Number(process.env['FT_LINUX_RUNS'] ?? 1);
/** A kernel that is emulated instruction by instruction takes a minute to boot. */
const BOOT_MS_MAX = 240_000;

/** What the guest's clock and the host's said at one moment. */
interface Moment {
  readonly uptimeS: number;
  readonly hostS: number;
}

function answers(netns: NetworkNamespace): boolean {
  try {
    netns.run('ping', '-c', '1', '-W', '1', GUEST_ADDRESS);
    return true;
  } catch {
    return false;
  }
}

/** Makes the kernel say its uptime, and waits for it. */
async function askUptime(netns: NetworkNamespace, linux: LinuxConsole): Promise<Moment> {
  const seen = linux.uptimes().length;
  netns.run('python3', '-c', ASK_UPTIME);
  await until('its uptime on the console', () => linux.uptimes().length > seen, 10_000);
  const uptimeS = linux.uptimes().at(-1)?.uptimeS ?? 0;
  return { uptimeS, hostS: monotonicUs() / 1e6 };
}

/** One life: boot, protection, kill, and what comes after. Returns it in a sentence. */
async function liveThroughKill(pair: Pair, linux: LinuxConsole): Promise<string> {
  const { netns } = pair;
  if (netns === undefined) throw new Error('The pair has no network.');
  const bornUs = monotonicUs();
  const primary = pair.startPrimary();
  await until('its /init', () => linux.hasBooted(), BOOT_MS_MAX);
  await until('an answer to ping', () => answers(netns), 10_000);
  const bootS = (monotonicUs() - bornUs) / 1e6;

  pair.startStandby();
  await primary.waitState(['protected'], 60_000);
  expect(answers(netns)).toBe(true);
  const before = await askUptime(netns, linux);
  const { promotedMs, killedUs, early } = await pair.killActive();
  await until('an answer from the standby', () => answers(netns), 20_000);
  const answeredMs = (monotonicUs() - killedUs) / 1000;
  const after = await askUptime(netns, linux);
  const ping = netns.run('ping', '-c', '5', '-i', '0.3', '-W', '2', GUEST_ADDRESS);
  expect(ping).toMatch(/ 0% packet loss/);

  expect(early).toBe(false);
  expect(linux.faults()).toEqual([]);
  const grownS = after.uptimeS - before.uptimeS;
  expect(grownS).toBeGreaterThan(0);
  // The guest's clock goes on with the world's, whoever runs it.
  expect(Math.abs(grownS - (after.hostS - before.hostS))).toBeLessThan(3);
  return (
    `/init and ping after ${bootS.toFixed(1)} s, promoted ${promotedMs.toFixed(1)} ms after the ` +
    `kill, ping answered ${answeredMs.toFixed(0)} ms after it, uptime ` +
    `${before.uptimeS.toFixed(2)} s before and ${after.uptimeS.toFixed(2)} s after`
  );
}

kvmDescribe('a Linux guest', () => {
  let images: LinuxImages;
  let pair: Pair | undefined;

  beforeAll(() => {
    images = findLinuxImages();
    mkdirSync(logFolder, { recursive: true });
  });

  afterEach(async () => {
    await pair?.close();
    pair = undefined;
  });

  const rounds = Array.from({ length: runs }, (_, n) => n + 1);
  test.each(rounds)('lives on when its primary is killed, run %d', async (run) => {
    const linux = new LinuxConsole(path.join(logFolder, `linux-${run}-console.log`));
    rmSync(linux.file, { force: true });
    pair = new Pair({
      machine: 'kvm',
      name: `linux-${run}`,
      memory: '128M',
      kernel: images.kernel,
      kernelFlags: ['--initrd', images.initrd, '--cmdline', LINUX_CMDLINE],
      flags: ['--console', `file:${linux.file}`],
    });
    try {
      const told = await liveThroughKill(pair, linux);
      process.stdout.write(`Linux, run ${run} of ${runs}: ${told}\n`);
    } catch (thrown) {
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      const said = linux.lines().slice(-15);
      const console = said.map((line) => `${line.uptimeS} ${line.text}`).join('\n');
      throw new Error(`${message}\n=== its console\n${console}\n=== the nodes\n${pair.story()}`);
    }
  });
});
