/** Pairs with a real etcd as their witness: takeovers with it, without it, and two of one name. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { Verdict } from '../../src/drill/oracle/oracle';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { freePorts, LocalEtcd } from '../../src/drill/pair/etcd';
import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { WatchedProcess } from '../../src/drill/process/process';
import { sleep, until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';
import { commandLine, expectRefusal, runCommand } from './command';

const LOAD = { pagesPerMs: 20, bytesPerPage: 32, workingSetPages: 200, spin: false } as const;

kvmDescribe('a pair with etcd as its witness', () => {
  let pair: Pair;
  let etcd: LocalEtcd;
  let oracle: OracleProcess;

  const answersGoOn = async (): Promise<void> => {
    const { answered } = await oracle.sample();
    const more = async (): Promise<boolean> => (await oracle.sample()).answered > answered + 50;
    await until('more answers', more, 5000);
  };

  const expectClean = (verdict: Verdict): void => {
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ lost: 0, regressed: 0 });
    expect(verdict.requests).toBeGreaterThan(50);
  };

  /** The newest record, as etcd has it. */
  const record = (): Record<string, unknown> =>
    JSON.parse(etcd.etcdctl('get', '--print-value-only', '/romulus/drill/generation'));

  const node = (which: 'active' | 'standby'): PairNode => {
    const found = pair[which];
    if (found === undefined) throw new Error(`There is no ${which} side.`);
    return found;
  };

  beforeEach(async () => {
    // The pair makes the namespace, etcd lives in it, and the pair is told the port before.
    const [clientPort = 0, peerPort = 0] = await freePorts(2);
    const witness = `etcd:http://127.0.0.1:${clientPort}`;
    pair = new Pair({ machine: 'kvm', name: 'etcd-pair', witness });
    etcd = await LocalEtcd.start({ netns: pair.netns?.name, ports: [clientPort, peerPort] });
    await pair.start();
    const settings = { ...pair.guest, clients: 12, ratePerSecond: 600 };
    oracle = await OracleProcess.start(settings, pair.netns?.name);
    await oracle.load(LOAD);
    await oracle.start();
    await answersGoOn();
  });

  afterEach(async () => {
    await oracle?.close();
    await etcd?.close();
    await pair.close();
  });

  test('the standby wins the next generation and goes on', async () => {
    expect(record()).toMatchObject({ generation: 1, owner: node('active').nodeId });
    await pair.killActive();
    await answersGoOn();
    expect(record()).toMatchObject({ generation: 2, owner: node('active').nodeId });
    await pair.rejoin();
    await pair.killActive();
    await answersGoOn();
    expect(record()).toMatchObject({ generation: 3, owner: node('active').nodeId });
    expectClean(await oracle.finish());
  });

  test.each(['is gone', 'is stopped'])(
    'while etcd %s the standby waits, says why, then goes on',
    async (how) => {
      if (how === 'is gone') await etcd.kill();
      else etcd.signal('SIGSTOP');
      const standby = node('standby');
      const from = standby.process.lines.length;
      node('active').process.kill('SIGKILL');
      await standby.waitState(['suspecting'], 3000, from);
      const why =
        how === 'is gone'
          ? /this side does not promote.*refused the connection \(ECONNREFUSED\)/
          : /this side does not promote.*has not answered for \d+ ms/;
      await until('a reason', () => why.test(standby.process.stderrTail), 4000);
      await sleep(500);
      expect(standby.state).toBe('suspecting');
      if (how === 'is gone') await etcd.run();
      else etcd.signal('SIGCONT');
      await standby.waitState(['solo'], 5000, from);
      pair.active = standby;
      await answersGoOn();
      expect(record()).toMatchObject({ generation: 2, owner: standby.nodeId });
      expectClean(await oracle.finish());
    },
  );

  test('while etcd is gone a primary that lost its standby holds its output', async () => {
    await etcd.kill();
    const active = node('active');
    const from = active.process.lines.length;
    node('standby').process.kill('SIGKILL');
    await active.waitState(['suspended'], 3000, from);
    // What was on its way when the standby died may still arrive.
    await sleep(100);
    const { answered } = await oracle.sample();
    await sleep(700);
    expect((await oracle.sample()).answered).toBe(answered);
    expect(active.state).toBe('suspended');
    expect(active.process.stderrTail).toMatch(/output stays held.*ECONNREFUSED/);
    await etcd.run();
    await active.waitState(['solo'], 5000, from);
    await answersGoOn();
    expect(record()).toMatchObject({ generation: 2, owner: active.nodeId });
    expectClean(await oracle.finish());
  });
});

describe('two primaries of one name', () => {
  let etcd: LocalEtcd;
  let folder = '';

  beforeAll(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-names-'));
    etcd = await LocalEtcd.start();
  });

  afterAll(async () => {
    await etcd?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test.each(['file', 'etcd'])(
    'on one host: the second is refused, its heir is not (%s)',
    async (kind) => {
      const witness = kind === 'file' ? `file:${folder}` : `etcd:${etcd.endpoints.join(',')}`;
      const flags = { machine: 'simulated', witness, pair: 'names', node: 'alpha' };
      const ports = await freePorts(3);
      const start = (n: number): WatchedProcess => {
        const port = { 'sim-port': `${ports[n]}`, 'status-interval-ms': '50' };
        const [command = '', ...args] = commandLine('ft-primary', { ...flags, ...port });
        return new WatchedProcess({ name: `names-${n}`, command, args });
      };
      const first = start(0);
      let heir: WatchedProcess | undefined;
      const solo = (process: WatchedProcess): Promise<unknown> =>
        process.waitFor('solo', (line) => line.fields['state'] === 'solo', 5000);
      try {
        await solo(first);
        for (const more of [{}, { 'force-claim': true as const }]) {
          const second = await runCommand('ft-primary', {
            ...{ ...flags, ...more, 'sim-port': `${ports[1]}` },
          });
          expectRefusal(second, 5, new RegExp(`this very host .*process ${first.pid}`));
        }
        expect(first.exit).toBeUndefined();
        first.kill('SIGKILL');
        heir = start(2);
        await solo(heir);
        expect(heir.last((line) => line.fields['state'] === 'solo')?.fields).toMatchObject({
          generation: 2,
        });
      } finally {
        await first.stop();
        await heir?.stop();
      }
    },
  );

  test.each(['file', 'etcd'])(
    'on two hosts: the second is refused without --force-claim (%s)',
    async (kind) => {
      const witness = kind === 'file' ? `file:${folder}` : `etcd:${etcd.endpoints.join(',')}`;
      const [one, two] = await freePorts(2);
      const flags = { machine: 'simulated', witness, pair: 'twins', node: 'alpha' };
      // Another host as far as identities go: a machine id of its own, seen by that process alone.
      const machineId = path.join(folder, 'machine-id');
      writeFileSync(machineId, '0123456789abcdef0123456789abcdef\n');
      const script = `mount --bind ${machineId} /etc/machine-id && exec "$@"`;
      const wrap = ['unshare', '-m', 'sh', '-c', script, 'sh'];
      const status = { 'status-interval-ms': '50' };
      const start = (name: string, words: readonly string[]): WatchedProcess =>
        new WatchedProcess({ name, command: words[0] ?? '', args: words.slice(1) });
      const solo = async (process: WatchedProcess): Promise<unknown> =>
        (await process.waitFor('solo', (line) => line.fields['state'] === 'solo', 5000)).fields;
      const first = start(
        'twin',
        commandLine('ft-primary', { ...flags, ...status, 'sim-port': `${one}` }),
      );
      let second: WatchedProcess | undefined;
      try {
        await solo(first);
        const other = { ...flags, 'sim-port': `${two}` };
        const refused = await runCommand('ft-primary', other, { wrap });
        expectRefusal(refused, 5, /own name, alpha, but from elsewhere .*a --node of its own/);
        const forced = { ...other, ...status, 'force-claim': true as const };
        second = start('twin-forced', [...wrap, ...commandLine('ft-primary', forced)]);
        expect(await solo(second)).toMatchObject({ generation: 2 });
      } finally {
        await first.stop();
        await second?.stop();
      }
    },
  );
});
