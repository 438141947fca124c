/**
 * A pair whose nodes run as a user that is nobody: /dev/kvm by its group, TAPs made beforehand for
 * that user, and no capability at all. Device files of the test's own stand in for the host's, in a
 * mount namespace that only the nodes see.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { sleep } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';

/** Of no user and no group on any host. */
const USER = 64_321;
const KVM_GROUP = 64_322;

function run(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
}

kvmDescribe('without root', () => {
  let folder: string;
  let pair: Pair | undefined;
  let oracle: OracleProcess | undefined;

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-nobody-'));
    chmodSync(folder, 0o755);
    const witness = path.join(folder, 'witness');
    run('install', '-d', '-m', '700', '-o', `${USER}`, '-g', `${USER}`, witness);
    run('install', '-d', '-m', '700', '-o', `${USER}`, '-g', `${USER}`, path.join(folder, 'run'));
    const device = (name: string, minor: string, group: number, mode: number): void => {
      const file = path.join(folder, name);
      run('mknod', file, 'c', '10', minor);
      chownSync(file, 0, group);
      chmodSync(file, mode);
    };
    device('kvm', '232', KVM_GROUP, 0o660);
    device('tun', '200', 0, 0o666);
  });

  afterEach(async () => {
    await oracle?.close();
    await pair?.close();
    oracle = undefined;
    pair = undefined;
    rmSync(folder, { recursive: true, force: true });
  });

  const asNobody = (): string[] => [
    ...['unshare', '-m', '--propagation', 'private', 'sh', '-ec'],
    `mount --bind ${folder}/kvm /dev/kvm; mount --bind ${folder}/tun /dev/net/tun; ` +
      `exec setpriv --reuid ${USER} --regid ${USER} --groups ${KVM_GROUP} --inh-caps=-all ` +
      '--bounding-set=-all --no-new-privs "$@"',
    'sh',
  ];

  const statusOf = ({ process: { pid } }: PairNode): string =>
    readFileSync(`/proc/${pid}/status`, 'utf8');

  test('a pair protects, fails over and protects again; no client loses an answer', async () => {
    const made = new Pair({
      machine: 'kvm',
      name: 'nobody',
      witness: `file:${path.join(folder, 'witness')}`,
      wrap: asNobody,
      slotFlags: ({ name }) => ['--control', path.join(folder, 'run', `${name}.sock`)],
    });
    pair = made;
    for (const tap of made.netns?.taps ?? []) {
      made.netns?.removeTap(tap);
      made.netns?.ip('tuntap', 'add', 'dev', tap, 'mode', 'tap', 'user', `${USER}`);
      made.netns?.ip('link', 'set', tap, 'master', 'br0', 'up');
    }
    await made.start();
    for (const node of [made.active, made.standby]) {
      if (node === undefined) throw new Error('The pair is not complete.');
      const status = statusOf(node);
      expect(status).toMatch(new RegExp(`^Uid:\\s+${USER}\\s+${USER}\\s+${USER}\\s`, 'm'));
      expect(status).toMatch(/^CapEff:\s+0{16}$/m);
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
    }
    const settings = { ...made.guest, clients: 4, ratePerSecond: 200 };
    oracle = await OracleProcess.start(settings, made.netns?.name);
    await oracle.start();
    await sleep(1000);
    await made.killActive();
    await made.rejoin();
    await sleep(500);
    const verdict = await oracle.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(made.story()).not.toMatch(/EPERM|EACCES|not permitted/);
  });

  test.each([
    ['gives up new privileges', [], 1],
    ['keeps them when it is told so', ['--unconfined'], 0],
  ])('root’s node %s', async (_what, flags, noNewPrivs) => {
    pair = new Pair({ machine: 'kvm', name: 'confined', flags });
    const node = pair.startAlone();
    await node.waitState(['solo'], 8000);
    expect(statusOf(node)).toMatch(new RegExp(`^NoNewPrivs:\\s+${noNewPrivs}$`, 'm'));
  });
});
