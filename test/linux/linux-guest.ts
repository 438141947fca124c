/**
 * The Linux guest: where its kernel is, how it is booted, and what its console says.
 *
 * Its user code makes no system calls (see init.c), so everything heard from it is the kernel's own:
 * ICMP echo, and a line with its uptime on the console whenever a packet asks for a route of its own
 * (which every kernel refuses, and this one is told to say so).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { GUEST_ADDRESS } from '../../src/drill/lan/netns';
import { projectRoot } from '../../src/drill/process/process';

/** Features that a KVM which emulates the guest's kernel mode may lack there. */
const WITHOUT = [
  ...['popcnt', 'umip', 'cx16', 'xsave', 'fsgsbase', 'smap', 'smep', 'erms', 'fsrm', 'rdrand'],
  ...['rdseed', 'invpcid', 'pcid', 'bmi1', 'bmi2', 'avx', 'avx2'],
];

/**
 * Fixed loops per jiffy and a trusted TSC spare measurements that a slow, emulated kernel would
 * fail; without old-style terminals there are 512 devices less to register; the sysctl makes it
 * speak of packets that it refuses.
 */
export const LINUX_CMDLINE = [
  'console=ttyS0 printk.time=1 panic=-1 nokaslr mitigations=off',
  `noxsave clearcpuid=${WITHOUT.join(',')}`,
  'lpj=1000000 tsc=reliable no_timer_check pty.legacy_count=0',
  `ip=${GUEST_ADDRESS}:::255.255.255.0::eth0:off`,
  'sysctl.net.ipv4.conf.all.log_martians=1',
].join(' ');

/** A Python program: one datagram to the guest with a loose source route (RFC 791, option 131). */
export const ASK_UPTIME = `
import socket
route = bytes([131, 7, 4]) + socket.inet_aton("${GUEST_ADDRESS}")
asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asker.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, route)
asker.sendto(b"how late is it?", ("${GUEST_ADDRESS}", 9))
`;

/** What a kernel in trouble prints. */
const TROUBLE =
  /\b(Oops|BUG|WARNING|Call Trace|Kernel panic|general protection|lockup|stalls?|stalled|blocked for more than|hung_task|unstable)\b/;

export interface LinuxImages {
  /** An ELF with a PVH entry. */
  readonly vmlinux: string;
  /** The same kernel, which unpacks itself. */
  readonly bzImage: string;
  readonly initrd: string;
  /** What the initrd holds, for a disk. */
  readonly init: string;
}

/** Throws when the guest was not built. */
export function findLinuxImages(): LinuxImages {
  const builder = path.join(projectRoot, 'test/linux/build-guest');
  const { status, stdout } = spawnSync(builder, ['--cached'], { encoding: 'utf8' });
  if (status !== 0) throw new Error('The Linux guest was not built yet; run `make test-linux`.');
  const folder = stdout.trim();
  return {
    vmlinux: path.join(folder, 'vmlinux'),
    bzImage: path.join(folder, 'bzImage'),
    initrd: path.join(folder, 'initrd.cpio'),
    init: path.join(folder, 'init'),
  };
}

/** One line of the kernel's log. */
export interface ConsoleLine {
  /** Seconds since the guest was booted, by its own clock. */
  readonly uptimeS: number;
  readonly text: string;
}

/** The console of a guest, in a file that both sides append to. */
export class LinuxConsole {
  constructor(readonly file: string) {}

  /** Whole lines that begin with a time stamp, oldest first. */
  lines(): ConsoleLine[] {
    const text = existsSync(this.file) ? readFileSync(this.file, 'latin1') : '';
    const found = text
      .slice(0, text.lastIndexOf('\n') + 1)
      .matchAll(/^\[ *(\d+\.\d+)\] (.*?)\r?$/gm);
    return Array.from(found, ([, uptime, rest]) => ({
      uptimeS: Number(uptime),
      text: rest ?? '',
    }));
  }

  /** Whether the kernel has come to its /init; sysctls of the command line are in force then. */
  hasBooted(): boolean {
    return this.lines().some((line) => line.text.startsWith('Run /init as init process'));
  }

  /** Its answers to ASK_UPTIME. */
  uptimes(): ConsoleLine[] {
    return this.lines().filter((line) => line.text.includes('source route option'));
  }

  /** Everything that must not be there: trouble, a second boot, a clock that went back. */
  faults(): string[] {
    const lines = this.lines();
    const faults = lines.filter((line) => TROUBLE.test(line.text)).map((line) => line.text);
    const boots = lines.filter((line) => line.text.startsWith('Linux version ')).length;
    if (boots !== 1) faults.push(`the kernel said its name ${boots} times`);
    lines.reduce((before, line) => {
      if (line.uptimeS < before) faults.push(`uptime fell from ${before} to ${line.uptimeS} s`);
      return Math.max(before, line.uptimeS);
    }, 0);
    return faults;
  }
}
