/** Who made a claim: what can be proved about a process, and what cannot. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import {
  claimantOf,
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
    expect(await claimantOf({ ...thisProcess(), boot: 'earlier' }, me)).toBe('ended');
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
