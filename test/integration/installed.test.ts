/**
 * The package as a host gets it: installed without a registry, a clone or a compiler; its commands;
 * and a pair that its units run under a real systemd, as a user without rights, through a kill, a
 * stall that the watchdog ends, and one that it must leave alone.
 */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { GUEST_ADDRESS } from '../../src/drill/lan/netns';
import { projectRoot } from '../../src/drill/process/process';
import { sleep } from '../../src/drill/process/time';
import { haveKvm } from '../support/kvm';
import { haveSystemd, SystemdHost } from '../support/systemd-host';

/** Nothing of the clone, of npm or of the shell that runs the tests. */
const BARE_ENV = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' };
const PACKAGE = 'lib/node_modules/romulus';
const WATCHDOG_MS = 3000;

let folder = '';
let prefix = '';

function must(command: string, args: readonly string[], env = BARE_ENV): string {
  const run = spawnSync(command, args, { encoding: 'utf8', env, cwd: folder });
  if (run.status === 0) return run.stdout;
  throw new Error(`${command} ${args.join(' ')}: ${run.error?.message ?? run.stderr}`);
}

beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'ft-installed-'));
  chmodSync(folder, 0o755);
  prefix = path.join(folder, 'usr-local');
  const made = must('node', [path.join(projectRoot, 'tools/make-package')]).trim();
  // An empty cache and no way to a registry: what is not in the file is not there.
  const cache = ['--offline', '--cache', path.join(folder, 'cache')];
  must('npm', ['install', '--global', '--prefix', prefix, ...cache, made]);
}, 180_000);

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

describe('the installed package', () => {
  const asNobody = ['--reuid=65534', '--regid=65534', '--clear-groups'];

  test('its commands run for anybody, from anywhere', () => {
    const { version } = require('../../package.json') as { version: string };
    const { bin } = require('../../package.json') as { bin: Record<string, string> };
    expect(readdirSync(path.join(prefix, 'bin')).sort()).toEqual(Object.keys(bin).sort());
    for (const name of Object.keys(bin)) {
      const command = path.join(prefix, 'bin', name);
      const said = must('setpriv', [...asNobody, command, '--version']);
      expect(said).toBe(`${name} ${version}\n`);
      expect(must('setpriv', [...asNobody, command, '--help'])).toContain(`Usage: ${name}`);
    }
  });

  test('brings the manual pages, and neither tools of ours nor modules for development', () => {
    expect(readdirSync(path.join(prefix, 'share/man/man1'))).toContain('ft-primary.1');
    const inside = readdirSync(path.join(prefix, PACKAGE));
    expect(inside).toEqual(expect.arrayContaining(['README.md', 'build', 'dist', 'docs']));
    for (const name of ['native', 'test', 'tools', 'bench']) expect(inside).not.toContain(name);
    const modules = readdirSync(path.join(prefix, PACKAGE, 'node_modules'));
    for (const name of ['jest', 'typescript', 'node-addon-api'])
      expect(modules).not.toContain(name);
  });

  test('"install" copies everything that systemd looks for below DESTDIR', () => {
    const dest = path.join(folder, 'dest');
    must(path.join(prefix, PACKAGE, 'packaging/install'), [], {
      ...BARE_ENV,
      DESTDIR: dest,
    } as never);
    const units = readdirSync(path.join(dest, 'usr/local/lib/systemd/system')).sort();
    expect(units).toEqual(['romulus-tap@.service', 'romulus@.service']);
    expect(readdirSync(path.join(dest, 'etc/udev/rules.d'))).toEqual(['60-romulus.rules']);
  });
});

/** The files of a host with two nodes of one pair, as the runbook has it. */
function writeStage(stage: string): void {
  const write = (file: string, text: string): void => {
    mkdirSync(path.dirname(path.join(stage, file)), { recursive: true });
    writeFileSync(path.join(stage, file), text);
  };
  cpSync(prefix, path.join(stage, 'usr-local'), { recursive: true, verbatimSymlinks: true });
  for (const target of [
    'test',
    'sysinit',
    'basic',
    'network',
    'network-online',
    'shutdown',
    'multi-user',
  ]) {
    const unit = `[Unit]\nDescription=${target}\nDefaultDependencies=no\n`;
    write(`etc/systemd/test/${target}.target`, unit);
  }
  const log = `StandardOutput=append:${stage}/%i.log\nStandardError=inherit\n`;
  const service = `[Service]\n${log}WatchdogSec=${WATCHDOG_MS}ms\n`;
  write('etc/systemd/test/romulus@.service.d/test.conf', service);
  for (const [name, own, other] of [
    ['a', 7001, 7002],
    ['b', 7002, 7001],
  ] as const) {
    write(`etc/romulus/${name}.tap`, `TAP=tap-${name}\nBRIDGE=br0\n`);
    write(
      `etc/romulus/${name}.yaml`,
      [
        'pair: web',
        `node: host-${name}`,
        `kernel: /usr/local/${PACKAGE}/build/guest/beacon.elf`,
        `cmdline: ip=${GUEST_ADDRESS}`,
        `tap: tap-${name}`,
        `listen: 127.0.0.1:${own}`,
        'standby:',
        `  - 127.0.0.1:${other}`,
        'suspect-after-ms: 1000',
        'witness: file:/var/lib/romulus/witness',
        '',
      ].join('\n'),
    );
  }
  write(
    'setup',
    `#!/bin/bash
set -e
/usr/local/${PACKAGE}/packaging/install
chgrp kvm /dev/kvm && chmod 660 /dev/kvm
chgrp romulus /etc/romulus/*.yaml && chmod 640 /etc/romulus/*.yaml
install -d -o romulus -g romulus -m 700 /var/lib/romulus/witness
ip link add br0 type bridge stp_state 0 forward_delay 0
ip addr add 10.77.0.1/24 dev br0
ip link set br0 up
`,
  );
  chmodSync(path.join(stage, 'setup'), 0o755);
}

/** What a node says of Landlock where nothing but the kernel has a say in it. */
function confinedAs(): string {
  const addon = path.join(prefix, PACKAGE, 'build/Release/romulus.node');
  const script = `process.stdout.write(String(
    require(${JSON.stringify(addon)}).confine({ writable: [], bindPorts: [] }).landlock))`;
  const landlock = Number(must('node', ['-e', script]));
  if (landlock === 0) return 'this kernel has no Landlock';
  return landlock < 5 ? 'this kernel has an old Landlock' : 'this process is confined by Landlock';
}

const unitTest = haveSystemd && haveKvm ? test : test.skip;

describe('the units', () => {
  let host: SystemdHost | undefined;

  afterEach(async () => {
    await host?.close();
    host = undefined;
  });

  const there = (): SystemdHost => {
    if (host === undefined) throw new Error('The host was not booted.');
    return host;
  };
  const pidOf = (unit: string): string => there().show(unit, 'MainPID');
  const waitSays = (unit: string, says: RegExp): Promise<void> =>
    there().waitShow(unit, 'StatusText', says, 20_000);
  const expectGuest = (): void => {
    const ping = ['ping', '-q', '-c', '20', '-i', '0.1', '-w', '6', GUEST_ADDRESS];
    expect(there().run(...ping).text).toMatch(/ [1-9][0-9]* received/);
  };

  unitTest(
    'systemd runs a pair without root: start, kill, stall, restart and stop',
    async () => {
      const stage = path.join(folder, 'stage');
      writeStage(stage);
      host = await SystemdHost.boot(stage);

      // "start" returns when the node is ready, not before: the guest runs, or this node has joined.
      host.must('systemctl', 'start', 'romulus@a');
      expect(host.show('romulus@a', 'StatusText')).toMatch(/^primary, solo: .*UNPROTECTED/);
      expectGuest();
      host.must('systemctl', 'start', 'romulus@b');
      await waitSays('romulus@a', /^primary, protected/);
      await waitSays('romulus@b', /^standby, ready/);
      const status = host.must('cat', `/proc/${pidOf('romulus@a')}/status`);
      const romulus = host.must('id', '-u', 'romulus').trim();
      expect(status).toMatch(new RegExp(`^Uid:\\t${romulus}\\t${romulus}\\t`, 'm'));
      for (const facts of ['CapEff:\t0+', 'CapBnd:\t0+', 'NoNewPrivs:\t1', 'Seccomp:\t2']) {
        expect(status).toMatch(new RegExp(`^${facts}$`, 'm'));
      }
      expect(readFileSync(path.join(stage, 'a.log'), 'utf8')).toContain(confinedAs());

      // A reload is answered: taken over, or refused with nothing changed.
      const settings = '/etc/romulus/a.yaml';
      host.must('sh', '-c', `echo 'log-level: debug' >> ${settings}`);
      host.must('systemctl', 'reload', 'romulus@a');
      host.must('sh', '-c', `sed -i 's/^log-level: .*/log-level: loud/' ${settings}`);
      expect(host.run('systemctl', 'reload', 'romulus@a').code).not.toBe(0);
      expect(host.show('romulus@a', 'ActiveState')).toBe('active');
      host.must('sed', '-i', '/^log-level/d', settings);

      // A node that was killed comes back by itself, after its standby, and protects the guest.
      const killedAtMs = Date.now();
      host.must('kill', '-9', pidOf('romulus@a'));
      await waitSays('romulus@b', /^primary, solo/);
      expectGuest();
      await host.waitShow('romulus@a', 'NRestarts', /^1$/, 20_000);
      expect(Date.now() - killedAtMs).toBeGreaterThan(4500);
      await waitSays('romulus@b', /^primary, protected/);

      // A stalled node whose guest is safe elsewhere is ended by the watchdog, and comes back.
      const stalled = pidOf('romulus@b');
      host.must('kill', '-STOP', stalled);
      await waitSays('romulus@a', /^primary, solo/);
      await host.waitShow('romulus@b', 'NRestarts', /^1$/, 20_000);
      expect(pidOf('romulus@b')).not.toBe(stalled);
      await waitSays('romulus@a', /^primary, protected/);

      // A primary that is stopped hands the guest over first; one that has nobody ends with it.
      host.must('systemctl', 'stop', 'romulus@a');
      expect(host.show('romulus@a', 'Result')).toBe('success');
      await waitSays('romulus@b', /^primary, solo/);
      expectGuest();

      // The only copy of the guest is left alone, however long it stalls.
      const only = pidOf('romulus@b');
      host.must('kill', '-STOP', only);
      await sleep(2 * WATCHDOG_MS);
      host.must('kill', '-CONT', only);
      expectGuest();
      expect(pidOf('romulus@b')).toBe(only);

      host.must('systemctl', 'stop', 'romulus@b');
      expect(host.show('romulus@b', 'Result')).toBe('success');
      expect(host.must('ip', 'link')).toContain('tap-a');
      host.must('systemctl', 'stop', 'romulus-tap@a');
      expect(host.must('ip', 'link')).not.toContain('tap-a');
    },
    180_000,
  );
});
