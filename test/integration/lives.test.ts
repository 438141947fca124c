/**
 * Lives of real nodes: a host that comes back, a process that lost its guest, a third node, and two
 * hosts that died. Every host is started with one command line, always the same, and nobody helps.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { sleep, until } from '../../src/drill/process/time';
import { restDisk } from '../drill/disk-drill';
import { Equals } from '../support/equals';
import { kvmDescribe } from '../support/kvm';

const LOAD = { pagesPerMs: 16, bytesPerPage: 16, workingSetPages: 200, spin: false } as const;

kvmDescribe('lives of a node', () => {
  let equals: Equals;
  let oracle: OracleProcess | undefined;

  const begin = async (name: string, names: readonly string[], diskBytes = 0): Promise<void> => {
    equals = new Equals(name, names, diskBytes);
    await equals.startAll();
    const settings = { ...equals.guest, clients: 8, ratePerSecond: 400 };
    oracle = await OracleProcess.start(settings, equals.netns.name);
    await oracle.load(LOAD);
    await oracle.start();
    await answersGoOn();
  };

  const answersGoOn = async (): Promise<void> => {
    const before = (await oracle?.sample())?.answered ?? 0;
    const more = async (): Promise<boolean> =>
      ((await oracle?.sample())?.answered ?? 0) > before + 50;
    await until('more answers', more, 8000);
  };

  const expectClean = async (): Promise<void> => {
    const verdict = await oracle?.finish();
    expect(verdict?.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  };

  /** Kills the one that runs the guest; `heir` goes on with it. */
  const failover = async (active: string, heir: string): Promise<void> => {
    const from = equals.host(heir).node.process.lines.length;
    await equals.kill(active);
    await equals.host(heir).node.waitState(['solo'], 5000, from);
    await answersGoOn();
  };

  /** SIGSTOP for as long as `heir` needs to take over, then SIGCONT. */
  const stall = async (active: string, heir: string): Promise<void> => {
    const from = equals.host(heir).node.process.lines.length;
    const { process } = equals.host(active).node;
    process.kill('SIGSTOP');
    await equals.host(heir).node.waitState(['solo'], 5000, from);
    await answersGoOn();
    process.kill('SIGCONT');
    await equals.waitProtected(heir, from);
    await answersGoOn();
  };

  /** How many of a process's descriptors lead to `target`. */
  const descriptors = (name: string, target: string): number => {
    const folder = `/proc/${pidOf(name)}/fd`;
    return readdirSync(folder).filter((fd) => readlinkOr(`${folder}/${fd}`).includes(target))
      .length;
  };

  /** The node's own number: between it and the test stands nobody, `ip netns exec` execs. */
  const pidOf = (name: string): number => equals.host(name).node.process.pid;

  afterEach(async () => {
    await oracle?.close();
    oracle = undefined;
    await equals.close();
  });

  test('a killed primary is started again, joins as standby, and takes over in its turn', async () => {
    await begin('lives-restart', ['a', 'b']);
    await failover('a', 'b');
    const from = equals.host('b').node.process.lines.length;
    equals.start('a');
    await equals.waitProtected('b', from);
    const said = equals.host('a').node.process.stderrTail;
    expect(said).toMatch(/nothing is booted here, this node joins as its standby.*owner=b/);
    await answersGoOn();
    await failover('b', 'a');
    const again = equals.host('a').node.process.lines.length;
    equals.start('b');
    await equals.waitProtected('a', again);
    await answersGoOn();
    await expectClean();
    expect(equals.host('a').node.figure('generation')).toBe(3);
  });

  test('a primary that lost its claim rejoins in the same process, again and again', async () => {
    await begin('lives-stall', ['a', 'b']);
    const pids = [pidOf('a'), pidOf('b')];
    let [active, heir] = ['a', 'b'];
    for (let n = 0; n < 4; n += 1) {
      await stall(active, heir);
      [active, heir] = [heir, active];
      for (const name of ['a', 'b']) {
        expect(descriptors(name, '/dev/net/tun')).toBe(1);
        expect(descriptors(name, 'kvm-vm')).toBe(1);
      }
    }
    expect([pidOf('a'), pidOf('b')]).toEqual(pids);
    expect(equals.host('a').node.process.exit).toBeUndefined();
    // a: guest, standby, guest again, standby: its third life; b: standby, guest, … its third, too.
    const a = await equals.host('a').node.waitStatus('its lines', () => true, 2000);
    expect(a.fields).toMatchObject({ role: 'primary', state: 'protected', life: 3, generation: 5 });
    expect(Number(a.fields['epochsPerSecond'])).toBeGreaterThan(0);
    expect(equals.path('a').filter((state) => state === 'fenced')).toHaveLength(2);
    await expectClean();
    for (const name of ['b', 'a']) {
      const { process } = equals.host(name).node;
      process.kill('SIGTERM');
      expect(await process.waitExit(5000)).toMatchObject({ code: 0, signal: null });
    }
  });

  test('disks follow their guest from life to life, and are equal in the end', async () => {
    await begin('lives-disk', ['a', 'b'], 8 * 1024 * 1024);
    const load = { disk: 0, underWayMax: 8, writesPerSecond: 800, firstBlock: 1024 };
    await oracle?.diskLoad({ ...load, blocks: 128 });
    for (const [active, heir] of [
      ['a', 'b'],
      ['b', 'a'],
      ['a', 'b'],
    ] as const) {
      await stall(active, heir);
    }
    await failover('b', 'a');
    const from = equals.host('a').node.process.lines.length;
    equals.start('b');
    await equals.waitProtected('a', from);
    if (oracle === undefined) throw new Error('There are no clients.');
    const written = await restDisk(oracle);
    expect(written).toMatchObject({ errors: 0, broken: 0 });
    expect(written.writes).toBeGreaterThan(100);
    await expectClean();
    for (const name of ['b', 'a']) {
      const { process } = equals.host(name).node;
      process.kill('SIGTERM');
      expect(await process.waitExit(8000)).toMatchObject({ code: 0, signal: null });
    }
    const [left, right] = ['a', 'b'].map((name) => readFileSync(equals.imagePath(name)));
    expect(left?.equals(right ?? Buffer.alloc(0))).toBe(true);
    expect(left?.some((byte) => byte !== 0)).toBe(true);
  });

  test('of three nodes the standby is killed: the other candidate is synced', async () => {
    await begin('lives-three', ['a', 'b', 'c']);
    const first = equals.states['b'] === 'ready' ? 'b' : 'c';
    const second = first === 'b' ? 'c' : 'b';
    const from = equals.host('a').node.process.lines.length;
    await equals.kill(first);
    await equals.waitProtected('a', from, 10_000);
    expect(equals.path('a', from)).toEqual(['suspended', 'solo', 'syncing', 'protected']);
    await answersGoOn();
    equals.start(first);
    const onward = equals.host(second).node.process.lines.length;
    await equals.kill('a');
    await equals.waitProtected(second, onward);
    await answersGoOn();
    expect(equals.host(second).node.state).toBe('protected');
    expect(equals.host(first).node.state).toBe('ready');
    await expectClean();
  });

  test.each([
    ['the last owner first', ['b', 'a']],
    ['the last owner last', ['a', 'b']],
  ])('both died, %s: only the last owner boots the guest anew', async (_name, order) => {
    await begin('lives-both', ['a', 'b']);
    await failover('a', 'b');
    await oracle?.close();
    oracle = undefined;
    await equals.kill('b');
    const [first = '', second = ''] = order;
    const early = equals.start(first).node;
    if (first === 'a') {
      await early.waitState(['joining'], 5000);
      await sleep(500);
      expect(equals.path('a')).toEqual(['joining']);
    } else {
      await early.waitState(['solo'], 8000);
    }
    equals.start(second);
    await equals.waitProtected('b');
    expect(equals.host('a').node.state).toBe('ready');
    const settings = { ...equals.guest, clients: 4, ratePerSecond: 200 };
    oracle = await OracleProcess.start(settings, equals.netns.name);
    await oracle.start();
    await answersGoOn();
    await failover('b', 'a');
    await expectClean();
  });
});

function readlinkOr(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    // It was closed meanwhile.
    return '';
  }
}
