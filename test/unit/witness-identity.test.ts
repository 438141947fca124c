/** Who made a claim: what can be proved about a process, and what cannot. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  claimantOf,
  hardwareOf,
  originOf,
  type ProcessIdentity,
  thisProcess,
} from '../../src/witness/process-identity';
import { encodeRecord, parseRecord } from '../../src/witness/record';

const started = (pid: number): string =>
  readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19] ?? '';

const identityOf = (pid: number): ProcessIdentity => ({
  ...thisProcess(),
  ...{ pid, started: started(pid) },
});

describe('the maker of a claim', () => {
  const me = thisProcess();
  const children: ChildProcess[] = [];

  function run(...words: [string, ...string[]]): number {
    const child = spawn(words[0], words.slice(1), { stdio: 'ignore' });
    children.push(child);
    return child.pid ?? 0;
  }

  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
  });

  test('two of one process share everything but the incarnation', async () => {
    const other = thisProcess();
    expect({ ...other, incarnation: '' }).toEqual({ ...me, incarnation: '' });
    expect(other.incarnation).not.toBe(me.incarnation);
    expect(me).toMatchObject({ pid: process.pid, started: started(process.pid) });
    expect(me.host).toMatch(/^[0-9a-f]{32}$/);
    expect(await claimantOf(me, me)).toBe('self');
    expect(await claimantOf(other, me)).toBe('running');
  });

  test('a process runs until it is killed', async () => {
    const maker = identityOf(run('sleep', '60'));
    expect(await claimantOf(maker, me)).toBe('running');
    const [child] = children;
    child?.kill('SIGKILL');
    if (child !== undefined) await once(child, 'exit');
    expect(await claimantOf(maker, me)).toBe('ended');
  });

  test('a stopped process still runs', async () => {
    const maker = identityOf(run('sleep', '60'));
    children[0]?.kill('SIGSTOP');
    expect(await claimantOf(maker, me)).toBe('running');
  });

  test('a process that nobody has waited for yet has ended', async () => {
    // The shell becomes a sleep that never waits for the child it had before.
    const parent = run('sh', '-c', 'sleep 0.01 & exec sleep 60');
    let zombie = 0;
    for (let tries = 0; tries < 500 && zombie === 0; tries++) {
      const text = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8').trim();
      const state = text && readFileSync(`/proc/${text}/stat`, 'utf8').split(') ')[1]?.[0];
      if (state === 'Z') zombie = Number(text);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(zombie).toBeGreaterThan(0);
    expect(await claimantOf(identityOf(zombie), me)).toBe('ended');
  });

  test('a number that was used again is another process', async () => {
    const maker = identityOf(run('sleep', '60'));
    expect(await claimantOf({ ...maker, started: '1' }, me)).toBe('ended');
  });

  test('what cannot be proved is elsewhere', async () => {
    const maker = thisProcess();
    const { host, boot, pid, started: since, ...bare } = maker;
    expect(await claimantOf(bare, me)).toBe('elsewhere');
    expect(await claimantOf({ ...bare, host }, me)).toBe('elsewhere');
    expect(await claimantOf({ ...bare, host, boot }, me)).toBe('elsewhere');
    expect(await claimantOf({ ...bare, host, boot, pid }, me)).toBe('elsewhere');
    expect(await claimantOf({ ...bare, host, boot, pid, started: since }, me)).toBe('running');
    expect(await claimantOf({ ...maker, host: '0'.repeat(32) }, me)).toBe('elsewhere');
    expect(await claimantOf({ ...maker, pidNamespace: 'pid:[2]' }, me)).toBe('elsewhere');
    expect(await claimantOf(maker, { ...me, boot: '' })).toBe('elsewhere');
  });

  test('the boot before this one has taken its processes with it', async () => {
    const here = { ...me, hardware: 'a1' };
    const maker = { ...thisProcess(), boot: 'earlier', hardware: 'a1' };
    expect(await claimantOf(maker, here)).toBe('ended');
  });

  test('another boot proves nothing unless the hardware is known on both sides', async () => {
    const maker: Partial<ProcessIdentity> = { ...thisProcess(), boot: 'other' };
    const { hardware: _, ...silent } = maker;
    const seen = (hardware: string, mine: string): Promise<string> =>
      claimantOf({ ...maker, hardware }, { ...me, hardware: mine });
    expect(await seen('', '')).toBe('elsewhere');
    expect(await seen('a1', '')).toBe('elsewhere');
    expect(await seen('', 'a1')).toBe('elsewhere');
    expect(await seen('a1', 'b2')).toBe('elsewhere');
    expect(await claimantOf(silent, { ...me, hardware: '' })).toBe('elsewhere');
    expect(await claimantOf(silent, { ...me, hardware: 'a1' })).toBe('elsewhere');
  });

  test('within one boot a change of cards does not hide a process, nor its end', async () => {
    const maker = { ...identityOf(run('sleep', '60')), hardware: 'a1' };
    expect(await claimantOf(maker, me)).toBe('running');
    expect(await claimantOf({ ...maker, started: '1' }, { ...me, hardware: '' })).toBe('ended');
  });

  test('a record carries it all, and says where it came from', () => {
    const record = parseRecord(encodeRecord(3, 'alpha', me));
    expect(record).toMatchObject({ generation: 3, owner: 'alpha', ...me });
    expect(originOf(record ?? {})).toBe(`${me.hostName}, process ${process.pid}`);
    expect(originOf({})).toBe('');
  });

  test('facts of a strange form are left out of a record, and prove nothing', async () => {
    const text = JSON.stringify({
      ...{ generation: 1, owner: 'a', incarnation: 'b1', host: 5, boot: 'x'.repeat(200), pid: -1 },
    });
    const record = parseRecord(text);
    expect(record).toEqual({ generation: 1, owner: 'a', incarnation: 'b1' });
    expect(await claimantOf(record ?? {}, me)).toBe('elsewhere');
  });
});

describe('the hardware', () => {
  const sysfs = mkdtempSync(path.join(os.tmpdir(), 'romulus-sysfs-'));

  beforeEach(() => {
    rmSync(sysfs, { recursive: true, force: true });
    card('lo', '00:00:00:00:00:00', { device: false });
  });

  afterAll(() => rmSync(sysfs, { recursive: true, force: true }));

  function card(name: string, address: string, facts: { device?: boolean; type?: number } = {}) {
    const folder = path.join(sysfs, 'class/net', name);
    mkdirSync(folder, { recursive: true });
    writeFileSync(path.join(folder, 'address'), `${address}\n`);
    writeFileSync(path.join(folder, 'addr_assign_type'), `${facts.type ?? 0}\n`);
    if (facts.device !== false) mkdirSync(path.join(folder, 'device'), { recursive: true });
  }

  function board(uuid: string): void {
    mkdirSync(path.join(sysfs, 'class/dmi/id'), { recursive: true });
    writeFileSync(path.join(sysfs, 'class/dmi/id/product_uuid'), `${uuid}\n`);
  }

  test('without card and board it is not known, and a missing directory is no error', () => {
    expect(hardwareOf(sysfs)).toBe('');
    expect(hardwareOf(path.join(sysfs, 'missing'))).toBe('');
    card('br0', '02:00:00:00:00:01', { device: false });
    card('vf0', '02:00:00:00:00:02', { type: 1 });
    card('odd0', '00:00:00:00:00:00');
    board('00000000-0000-0000-0000-000000000000');
    expect(hardwareOf(sysfs)).toBe('');
    board('FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF');
    expect(hardwareOf(sysfs)).toBe('');
  });

  test('one card, or the board, is enough', () => {
    card('eth0', '52:54:00:00:00:01');
    const byCard = hardwareOf(sysfs);
    expect(byCard).toMatch(/^[0-9a-f]{32}$/);
    board('7d1a2b6e-31a5-4a7c-9d52-000000000001');
    const byBoth = hardwareOf(sysfs);
    rmSync(path.join(sysfs, 'class/net'), { recursive: true });
    const byBoard = hardwareOf(sysfs);
    expect(byBoard).toMatch(/^[0-9a-f]{32}$/);
    expect(new Set([byCard, byBoth, byBoard]).size).toBe(3);
  });

  test('names and order of the cards do not matter, their addresses do', () => {
    card('eth0', '52:54:00:00:00:01');
    card('eth1', '52:54:00:00:00:02');
    const before = hardwareOf(sysfs);
    card('eth0', '52:54:00:00:00:02');
    card('eth1', '52:54:00:00:00:01');
    card('tap0', '02:00:00:00:00:09', { device: false });
    expect(hardwareOf(sysfs)).toBe(before);
    card('eth1', '52:54:00:00:00:03');
    expect(hardwareOf(sysfs)).not.toBe(before);
  });
});
