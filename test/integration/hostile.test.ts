/** Strangers on the standby's port, and standbys that do not fit: the pair and its guest go on. */
import path from 'node:path';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair } from '../../src/drill/pair/pair';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { sleep, until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';

const PROXY_PORT = 7100;

kvmDescribe('strangers and misfits', () => {
  let pair: Pair;
  let oracle: OracleProcess | undefined;
  let stranger: WatchedProcess | undefined;

  const startStranger = async (...args: string[]): Promise<WatchedProcess> => {
    const script = path.join(projectRoot, 'dist/test/support/pair-stranger.js');
    const child = new WatchedProcess({
      name: 'stranger',
      command: process.execPath,
      args: [script, ...args],
      netns: pair.netns?.name,
    });
    stranger = child;
    await child.waitFor('ready', (line) => line.fields['event'] === 'ready', 8000);
    return child;
  };

  const startOracle = async (): Promise<OracleProcess> => {
    const settings = { ...pair.guest, clients: 8, ratePerSecond: 400 };
    oracle = await OracleProcess.start(settings, pair.netns?.name);
    await oracle.start();
    return oracle;
  };

  afterEach(async () => {
    await stranger?.stop();
    await oracle?.close();
    await pair.close();
    stranger = undefined;
    oracle = undefined;
  });

  test('rubbish on the standby’s port: the pair stays protected, epochs go on', async () => {
    pair = new Pair({ machine: 'kvm', name: 'hostile', statusIntervalMs: 200 });
    await pair.start();
    const { active, standby } = pair;
    if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
    const clients = await startOracle();
    const from = active.process.lines.length;
    const attacker = await startStranger('attack', `${standby.slot.port}`, '4000');
    const done = await attacker.waitFor('the end', (l) => l.fields['event'] === 'done', 15_000);
    expect(done.fields['counts']).toMatchObject({ garbage: expect.any(Number) });
    await sleep(300);
    const lines = active.process.lines.slice(from);
    expect(lines.filter((line) => line.fields['event'] === 'state')).toEqual([]);
    const committed = lines.map((line) => Number(line.fields['epochCommitted']));
    expect(committed.length).toBeGreaterThan(10);
    for (let i = 1; i < committed.length; i++) {
      expect(committed[i]).toBeGreaterThan(committed[i - 1] ?? 0);
    }
    expect(standby.process.exit).toBeUndefined();
    await pair.killActive();
    const verdict = await clients.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
  });

  test('a standby with other memory is refused by name; the right one is taken', async () => {
    pair = new Pair({ machine: 'kvm', name: 'misfit' });
    const primary = pair.startPrimary();
    await primary.waitState(['solo'], 8000);
    const clients = await startOracle();
    const misfit = pair.startStandby(pair.slots[1], '32M');
    const said = (): boolean => primary.process.stderrTail.includes('memoryBytes');
    await until('the refusal in the log', said, 8000);
    expect(primary.process.stderrTail).toMatch(/33554432/);
    expect(primary.state).toBe('solo');
    await misfit.process.stop();
    pair.startStandby();
    await primary.waitState(['protected'], 15_000);
    const verdict = await clients.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
  });

  test.each([
    ['other CPU features', { cpuFeatures: { 'cpuid.test.word': 77 } }, /cpuFeatures.*cpuid\.test/],
    ['another protocol version', { protocolVersion: 9 }, /protocolVersion|protocol version/],
    ['another frame version', { frameVersion: 9 }, /protocolVersion|protocol version/],
  ])('a peer with %s is refused by name; the guest goes on', async (_name, changes, words) => {
    pair = new Pair({ machine: 'kvm', name: 'misfit' });
    const [a, b] = pair.slots;
    await startStranger('proxy', `${PROXY_PORT}`, `${b.port}`, JSON.stringify(changes));
    const standby = pair.startStandby();
    const primary = pair.startPrimary(a, PROXY_PORT);
    await primary.waitState(['solo'], 8000);
    const clients = await startOracle();
    await until('the refusal in the log', () => words.test(primary.process.stderrTail), 8000);
    expect(primary.state).toBe('solo');
    expect(standby.process.exit).toBeUndefined();
    const verdict = await clients.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
  });
});
