/**
 * ft-drill as an operator has it, as a process of its own: drills on a sandbox pair with their report,
 * a planted defect that it must find, a live pair that it drills or leaves alone, the sandbox that
 * stays up, and what is left behind: nothing.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { NetworkNamespace } from '../../src/drill/lan/netns';
import { Pair } from '../../src/drill/pair/pair';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { sleep, until } from '../../src/drill/process/time';
import type { DrillReport } from '../../src/drill/report/drill-report';
import { TestBrowser } from '../support/browser';
import { kvmDescribe } from '../support/kvm';

const DRILL_MS = 240_000;
const TEST_MS = 300_000;
const TCP_PORT = 7778;

kvmDescribe('ft-drill', () => {
  let folder = '';

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-drilltest-'));
    mkdirSync(temporary());
  });

  afterEach(() => {
    rmSync(folder, { recursive: true });
  });

  const file = (name: string): string => path.join(folder, name);
  const temporary = (): string => path.join(folder, 'tmp');

  const start = (words: readonly string[], netns?: string): WatchedProcess =>
    new WatchedProcess({
      name: 'ft-drill',
      command: process.execPath,
      args: [path.join(projectRoot, 'dist/src/cli/ft-drill.js'), ...words],
      netns,
      env: { TMPDIR: temporary() },
    });

  /** Runs it to its end: the exit code, and everything that it said. */
  const run = async (
    words: readonly string[],
    netns?: string,
  ): Promise<[number | null, string]> => {
    const drill = start(words, netns);
    const { code } = await drill.waitExit(DRILL_MS);
    expectNothingLeft(drill);
    return [code, drill.stderrTail];
  };

  /** No namespace, and no file but the logs of what failed. */
  const expectNothingLeft = ({ pid, stderrTail }: WatchedProcess): void => {
    const { stdout } = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' });
    expect(stdout).not.toMatch(new RegExp(`^ft-${pid}-`, 'm'));
    const logs = /what the processes said is in (\S+)/.exec(stderrTail)?.[1];
    if (logs !== undefined) rmSync(logs, { recursive: true });
    expect(readdirSync(temporary())).toEqual([]);
  };
  const report = (): DrillReport => JSON.parse(readFileSync(file('r.json'), 'utf8')) as DrillReport;

  test(
    'drills a pair of its own and reports in a table, as JSON and as a page',
    async () => {
      const files = ['--json', file('r.json'), '--html', file('r.html')];
      const rate = ['--suspect-after-ms', '100', '--witness', 'file'];
      const [code, said] = await run(['run', 'primary-kill', 'switchover', ...files, ...rate]);
      expect([code, said]).toEqual([0, expect.stringContaining('2 drills: 0 client violations')]);
      expect(report()).toMatchObject({ pair: 'sandbox', runs: 2, violations: 0, dualActive: 0 });
      const killed = report().scenarios['primary-kill'];
      expect(killed).toMatchObject({ runs: 1, failures: 0, moved: 1, guestsLost: 0 });
      expect(killed?.failoverMsP50).toBeGreaterThan(1);
      expect(killed?.requests).toBeGreaterThan(50);
      expect(report().drills.map(({ scenario }) => scenario)).toEqual([
        'primary-kill',
        'switchover',
      ]);
      await lookAt(file('r.html'));
    },
    TEST_MS,
  );

  /** The page as a browser has it: complete, without a fault, readable in both schemes. */
  async function lookAt(page: string): Promise<void> {
    const netns = NetworkNamespace.make(0);
    const browser = await TestBrowser.open(netns.name);
    try {
      const opened = await browser.page();
      await opened.page.goto(`file://${page}`);
      await opened.waitText('h1', /Every promise was kept/);
      const marks = await opened.page.locator('#primary-kill figure ol.marks').textContent();
      const wanted = ['the primary is killed', 'suspects', 'wins the claim', 'the guest runs on'];
      for (const words of [...wanted, 'first new answer', 'protected again']) {
        expect(marks).toContain(words);
      }
      const handed = await opened.page.locator('#switchover figure ol.marks').textContent();
      expect(handed).toContain('halts the guest and hands it over');
      expect(await opened.page.locator('#primary-kill circle.flag').count()).toBeGreaterThan(3);
      for (const scheme of ['light', 'dark'] as const) expect(await opened.axe(scheme)).toEqual([]);
      await opened.pictures('drill-report');
      await opened.page.setViewportSize({ width: 360, height: 780 });
      const wide = 'document.documentElement.scrollWidth - window.innerWidth';
      expect(await opened.page.evaluate(wide)).toBeLessThanOrEqual(0);
      expect(opened.complaints).toEqual([]);
      expect(opened.addresses.filter((address) => !address.startsWith('file:'))).toEqual([]);
      await opened.close();
    } finally {
      await browser.close();
      netns.close();
    }
  }

  test(
    'finds a planted defect, and says so with exit code 1',
    async () => {
      // Many requests, so that each kill finds answers out whose epoch the standby does not hold.
      const words = ['run', 'primary-kill', '--runs', '4', '--rate', '5000', '--witness', 'file'];
      const fault = ['--test-fault', 'release-early'];
      const [code, said] = await run([...words, ...fault, '--json', file('r.json')]);
      expect(code).toBe(1);
      expect(report().violations).toBeGreaterThan(0);
      expect(said).toMatch(/primary-kill: /);
      expect(said).toContain('what the processes said is in');
    },
    TEST_MS,
  );

  test(
    'a signal ends it after the present drill, with a report of what was done',
    async () => {
      const words = ['run', 'standby-kill', '--runs', '500', '--witness', 'file'];
      const drill = start([...words, '--json', file('r.json')]);
      const isOn = (): boolean => drill.stderrTail.includes('standby-kill 1 of 500');
      await until('the first drill', isOn, 60_000);
      drill.kill('SIGINT');
      const { code } = await drill.waitExit(60_000);
      expect([code, drill.stderrTail]).toEqual([130, expect.stringContaining('a signal came')]);
      expect(report()).toMatchObject({ endedEarly: 'a signal came', violations: 0, failures: 0 });
      expect(report().runs).toBeGreaterThan(0);
      expect(report().runs).toBeLessThan(500);
      expectNothingLeft(drill);
    },
    TEST_MS,
  );

  describe('on a live pair', () => {
    let pair: Pair;
    const socket = (slot: { readonly name: string }): string => file(`${slot.name}.sock`);

    beforeEach(async () => {
      pair = new Pair({
        ...{ machine: 'kvm', name: 'ft-drill-live' },
        slotFlags: (slot) => ['--control', socket(slot)],
      });
      const [a, b] = pair.slots;
      pair.startStandby(b);
      const primary = pair.startPrimary(a, b.port, ['--listen', `127.0.0.1:${a.port}`]);
      await primary.waitState(['protected'], 20_000);
    });

    afterEach(async () => {
      await pair.close();
    });

    const live = (): string[] => pair.slots.flatMap((slot) => ['--live', socket(slot)]);
    const probe = (): string[] => ['--probe', `tcp://${pair.guest.host}:${TCP_PORT}`];

    test(
      'switches over, there and back, and measures the gap',
      async () => {
        const files = ['--json', file('r.json'), '--html', file('r.html')];
        const words = ['run', 'switchover', ...live(), ...probe(), '--yes', ...files];
        const [code, said] = await run([...words, '--probe-rate', '100'], pair.netns?.name);
        expect([code, said]).toEqual([0, expect.stringContaining('back to where the guest was')]);
        expect(report()).toMatchObject({ pair: 'live', runs: 2, failures: 0, violations: 0 });
        expect(report().dualActive).toBeNull();
        const figures = report().scenarios['switchover'];
        expect(figures).toMatchObject({ moved: 2, failoverMsP99: null });
        expect(figures?.requests).toBeGreaterThan(50);
        expect(figures?.failoverMsP50).toBeGreaterThan(1);
        expect(pair.active?.state).toBe('protected');
        const strict = ['--gap-ms-max', '1', '--probe-rate', '20'];
        const [late] = await run([...words, ...strict], pair.netns?.name);
        expect(late).toBe(1);
      },
      TEST_MS,
    );

    test('does nothing without a word of consent, an answer, or protection', async () => {
      const { netns } = pair;
      const words = ['run', 'switchover', ...live()];
      const unasked = await run([...words, ...probe()], netns?.name);
      expect(unasked).toEqual([5, expect.stringContaining('Add --yes')]);
      const silent = await run([...words, '--probe', 'tcp://10.77.0.2:9', '--yes'], netns?.name);
      expect(silent).toEqual([3, expect.stringContaining('nothing was done')]);
      pair.standby?.process.kill('SIGKILL');
      await pair.active?.waitState(['solo'], 10_000, pair.active.process.lines.length);
      const one = ['--live', socket(pair.slots[0])];
      const alone = await run(['run', 'switchover', ...one, ...probe(), '--yes'], netns?.name);
      expect(alone).toEqual([5, expect.stringContaining('only while its guest is protected')]);
      const nobody = ['--live', file('none.sock'), ...probe(), '--yes'];
      expect(await run(['run', 'switchover', ...nobody])).toEqual([
        3,
        expect.stringContaining('There is no such socket'),
      ]);
      expect(pair.active?.state).toBe('solo');
    });

    test('kills the primary when it is told to, and sees that nobody starts it again', async () => {
      const force = ['--i-understand-that-it-kills', '--yes', '--settle-s', '3'];
      const words = ['run', 'primary-kill', ...live(), ...probe(), ...force];
      const [code, said] = await run(words, pair.netns?.name);
      expect([code, said]).toEqual([1, expect.stringMatching(/not protected again after 3 s/)]);
      expect(pair.active?.process.exit).toMatchObject({ signal: 'SIGKILL' });
      expect(pair.standby?.state).toBe('solo');
    });
  });

  test(
    'the sandbox stays up, restarts a node that was killed, and leaves nothing behind',
    async () => {
      const port = 21_000 + (process.pid % 10_000);
      const sandbox = start(['sandbox', '--http-port', `${port}`, '--restart-s', '1']);
      try {
        const says = (words: string) => (): boolean => sandbox.stderrTail.includes(words);
        await until('a protected guest', says('until Ctrl-C'), 60_000);
        for (const one of [port, port + 1]) {
          const page = await fetch(`http://127.0.0.1:${one}/`);
          expect(page.status).toBe(200);
        }
        const pid = Number(/kill -9 (\d+)/.exec(sandbox.stderrTail)?.[1]);
        expect((await fetch(`http://127.0.0.1:${port}/primary`)).status).toBe(200);
        await sleep(1000);
        process.kill(pid, 'SIGKILL');
        await until('a takeover', says('node b runs the guest alone'), 20_000);
        await until('protection', says('PROTECTED: node b runs the guest'), 30_000);
        expect((await fetch(`http://127.0.0.1:${port + 1}/primary`)).status).toBe(200);
        sandbox.kill('SIGHUP');
        expect(await sandbox.waitExit(20_000)).toMatchObject({ code: 0 });
        expectNothingLeft(sandbox);
      } finally {
        await sandbox.stop(5000);
      }
    },
    TEST_MS,
  );

  test('words that mean nothing end it at once', async () => {
    expect(await run(['run', 'everything'])).toEqual([2, expect.stringContaining('no scenario')]);
    const cut = ['run', 'witness-down', '--witness', 'file'];
    expect(await run(cut)).toEqual([2, expect.stringContaining('--witness etcd alone')]);
    expect(await run(['list'])).toEqual([0, expect.stringMatching(/switchover +safe/)]);
    expect(await run(['--help'])).toEqual([0, expect.stringContaining('Exit codes:')]);
  });
});
