/**
 * SIGHUP on a pair with a real guest: another time between cuts while it is replicated, and another
 * policy while it stands still, or runs, without a standby.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { until } from '../../src/drill/process/time';
import { askIncrement } from '../support/beacon-ask';
import { kvmDescribe } from '../support/kvm';

kvmDescribe('a reload', () => {
  let folder = '';
  let file = '';
  let pair: Pair;

  const write = (...lines: string[]): void => writeFileSync(file, `${lines.join('\n')}\n`);

  const open = async (): Promise<[PairNode, PairNode]> => {
    pair = new Pair({ machine: 'kvm', name: 'reload', flags: ['--config', file] });
    await pair.start();
    const { active, standby } = pair;
    if (active === undefined || standby === undefined) throw new Error('The pair is not complete.');
    return [active, standby];
  };

  const reload = async (node: PairNode): Promise<void> => {
    const before = node.process.stderrTail.length;
    node.process.kill('SIGHUP');
    const done = (): boolean =>
      node.process.stderrTail.slice(before).includes('settings were read again; in effect');
    await until('a reload', done, 5000);
  };

  const rate = (node: PairNode, what: string, fits: (perSecond: number) => boolean) =>
    node.waitStatus(what, (line) => fits(Number(line['epochsPerSecond'])), 8000);

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-reload-'));
    file = path.join(folder, 'pair.yaml');
  });

  afterEach(async () => {
    await pair.close();
    rmSync(folder, { recursive: true });
  });

  test('the cuts come at another pace at once, and the guest goes on answering', async () => {
    write('interval-us: 20000');
    const [active] = await open();
    await rate(active, 'at most 80 epochs a second', (found) => found > 0 && found < 80);
    write('interval-us: 2000');
    await reload(active);
    await rate(active, 'more than 250 epochs a second', (found) => found > 250);
    expect(askIncrement(pair.netns?.name, pair.guest)).toBeDefined();
    write('interval-us: 20000');
    await reload(active);
    await rate(active, 'at most 80 epochs a second again', (found) => found > 0 && found < 80);
    expect(active.state).toBe('protected');
    // A standby that comes anew gets the pace of now, not that of the start.
    write('interval-us: 2000');
    await reload(active);
    const from = active.process.lines.length;
    await pair.standby?.process.stop();
    pair.startStandby();
    await active.waitState(['protected'], 15_000, from);
    await rate(active, 'more than 250 epochs a second', (found) => found > 250);
  });

  test('on-standby-loss counts at once: a guest is let go on, and is stopped', async () => {
    write('on-standby-loss: pause');
    const [active, standby] = await open();
    const answers = (): boolean => askIncrement(pair.netns?.name, pair.guest) !== undefined;
    const halted = (why: string) =>
      active.waitStatus(`halted "${why}"`, (line) => line['guestHalted'] === why, 3000);
    const from = active.process.lines.length;
    standby.process.kill('SIGKILL');
    await active.waitState(['solo'], 5000, from);
    await halted('standby-loss');
    expect(answers()).toBe(false);
    write('on-standby-loss: continue');
    await reload(active);
    await halted('');
    await until('an answer', answers, 5000);
    write('on-standby-loss: pause');
    await reload(active);
    await halted('standby-loss');
    expect(answers()).toBe(false);
    pair.startStandby();
    await active.waitState(['protected'], 15_000, active.process.lines.length);
    await until('an answer under protection', answers, 5000);
  });
});
