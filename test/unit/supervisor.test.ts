/** What a node tells its supervisor, word by word, and when its watchdog is told nothing. */
import { Supervisor } from '../../src/cli/supervisor';
import { FtError } from '../../src/common/errors';

const SOCKET = '/run/systemd/notify';

describe('supervisor', () => {
  let said: string[] = [];
  let troubles: FtError[] = [];
  let broken = false;

  const parts = {
    send: (address: string, text: string): void => {
      expect(address).toBe(SOCKET);
      if (broken) throw new FtError('FT_ERR_NOTIFY', 'nobody listens');
      said.push(text);
    },
    onTrouble: (error: FtError): void => {
      troubles.push(error);
    },
  };

  const supervised = (more: NodeJS.ProcessEnv = {}): Supervisor => {
    const made = Supervisor.fromEnvironment({ NOTIFY_SOCKET: SOCKET, ...more }, parts);
    if (made === undefined) throw new Error('There is a supervisor.');
    return made;
  };

  const saidNow = (): string[] => said.splice(0);
  const beats = (ms: number): number => {
    jest.advanceTimersByTime(ms);
    return saidNow().filter((text) => text === 'WATCHDOG=1').length;
  };

  beforeEach(() => {
    jest.useFakeTimers();
    said = [];
    troubles = [];
    broken = false;
  });

  afterEach(() => {
    jest.useRealTimers();
  });

  test('without NOTIFY_SOCKET there is nobody to tell', () => {
    expect(Supervisor.fromEnvironment({ WATCHDOG_USEC: '1000000' }, parts)).toBeUndefined();
    expect(Supervisor.fromEnvironment({ NOTIFY_SOCKET: '' }, parts)).toBeUndefined();
  });

  test('its variables are not handed on to processes of ours', () => {
    const env = { NOTIFY_SOCKET: SOCKET, WATCHDOG_USEC: '5', WATCHDOG_PID: '1', PATH: '/bin' };
    Supervisor.fromEnvironment(env, parts);
    expect(env).toEqual({ PATH: '/bin' });
  });

  test('a start, changes of state, a reload and the end', () => {
    const supervisor = supervised();
    supervisor.state('primary', 'solo', 'runs the guest,\nunprotected');
    expect(saidNow()).toEqual(['STATUS=runs the guest, unprotected']);
    supervisor.ready();
    expect(saidNow()).toEqual(['READY=1\nSTATUS=runs the guest, unprotected']);
    supervisor.reloading();
    expect(saidNow()).toEqual([expect.stringMatching(/^RELOADING=1\nMONOTONIC_USEC=[0-9]+$/)]);
    // Whoever says "ready" now ends the reload for the supervisor.
    supervisor.state('primary', 'protected', 'protected');
    expect(saidNow()).toEqual(['STATUS=protected']);
    supervisor.ready();
    expect(saidNow()).toEqual(['READY=1\nSTATUS=protected']);
    supervisor.stopping('SIGTERM received.');
    expect(saidNow()).toEqual(['STOPPING=1\nSTATUS=SIGTERM received.']);
    supervisor.state('primary', 'stopped', 'x');
    supervisor.ready();
    supervisor.reloading();
    supervisor.stopping('again');
    expect(beats(10_000)).toBe(0);
    expect(saidNow()).toEqual([]);
  });

  test('MONOTONIC_USEC is the clock that systemd reads', () => {
    jest.useRealTimers();
    const supervisor = supervised();
    supervisor.ready();
    saidNow();
    const before = process.hrtime.bigint() / 1000n;
    supervisor.reloading();
    const us = BigInt(/MONOTONIC_USEC=(\d+)/.exec(saidNow()[0] ?? '')?.[1] ?? '0');
    expect(us).toBeGreaterThanOrEqual(before);
    expect(us - before).toBeLessThan(1_000_000n);
  });

  test('nothing is reloaded before the start is done', () => {
    const supervisor = supervised();
    supervisor.reloading();
    expect(saidNow()).toEqual([]);
  });

  test('the watchdog hears twice in its time while the guest is safe elsewhere', () => {
    const supervisor = supervised({ WATCHDOG_USEC: '4000000', WATCHDOG_PID: `${process.pid}` });
    supervisor.state('standby', 'ready', 'holds a copy');
    supervisor.ready();
    expect(saidNow().at(-1)).toBe('READY=1\nSTATUS=holds a copy\nWATCHDOG_USEC=4000000');
    expect(beats(8000)).toBe(4);
  });

  test.each([
    ['primary', 'starting'],
    ['primary', 'solo'],
    ['primary', 'syncing'],
    ['primary', 'suspended'],
    ['primary', 'ended'],
    ['standby', 'suspecting'],
    ['standby', 'promoting'],
    ['standby', 'active'],
  ] as const)('%s %s: the only copy of the guest is not for a watchdog to end', (role, state) => {
    const supervisor = supervised({ WATCHDOG_USEC: '2000000' });
    supervisor.ready();
    supervisor.state(role, state, 's');
    expect(saidNow().at(-1)).toBe('READY=1\nSTATUS=s\nWATCHDOG_USEC=0');
    expect(beats(10_000)).toBe(0);
    supervisor.state('primary', 'protected', 's');
    expect(saidNow()).toEqual(['READY=1\nSTATUS=s\nWATCHDOG_USEC=2000000']);
    expect(beats(10_000)).toBe(10);
  });

  test('a watchdog of another process, or one that is no number, is none', () => {
    for (const more of [
      { WATCHDOG_USEC: '2000000', WATCHDOG_PID: `${process.pid + 1}` },
      { WATCHDOG_USEC: '-1' },
      { WATCHDOG_USEC: '0' },
      { WATCHDOG_USEC: 'soon' },
    ]) {
      const supervisor = supervised(more);
      supervisor.ready();
      expect(saidNow()).toEqual(['READY=1\nSTATUS=starting']);
      expect(beats(60_000)).toBe(0);
    }
  });

  test('a watchdog of years does not make a timer that fires all the time', () => {
    supervised({ WATCHDOG_USEC: '999999999999999' }).ready();
    saidNow();
    expect(beats(3_600_000)).toBe(1);
  });

  test('what could not be said is said again, and trouble is told once', () => {
    const supervisor = supervised();
    broken = true;
    supervisor.state('standby', 'joining', 'waits');
    supervisor.ready();
    jest.advanceTimersByTime(5000);
    expect(troubles.map(({ code }) => code)).toEqual(['FT_ERR_NOTIFY']);
    broken = false;
    jest.advanceTimersByTime(1000);
    expect(saidNow()).toEqual(['READY=1\nSTATUS=waits']);
    jest.advanceTimersByTime(5000);
    expect(saidNow()).toEqual([]);
    broken = true;
    supervisor.stopping('ends');
    expect(troubles).toHaveLength(2);
    broken = false;
    jest.advanceTimersByTime(5000);
    expect(saidNow()).toEqual([]);
  });
});
