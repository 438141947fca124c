/** What a real supervisor's socket receives from real nodes, from the start to the end of a pair. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';

/** Prints each datagram that comes to a UNIX socket, as a line of JSON. */
const LISTENER = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
name = sys.argv[1]
s.bind('\\0' + name[1:] if name[0] == '@' else name)
print(json.dumps({'listening': name}), flush=True)
while True:
    print(json.dumps({'lines': s.recv(65536).decode().split('\\n')}), flush=True)
`;

const WATCHDOG_US = 400_000;
/** Beside the ports of other tests on the host's loopback. */
const PORT = 20_000 + (process.pid % 20_000);

describe('what a supervisor is told', () => {
  let folder = '';
  const started: WatchedProcess[] = [];

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-notify-'));
  });

  afterEach(async () => {
    for (const one of started.splice(0)) await one.stop();
    rmSync(folder, { recursive: true });
  });

  const supervisor = async (address: string): Promise<WatchedProcess> => {
    const args = ['-c', LISTENER, address];
    const one = new WatchedProcess({ name: 'supervisor', command: 'python3', args });
    started.push(one);
    await one.waitFor('its socket', ({ fields }) => fields['listening'] === address, 8000);
    return one;
  };

  const launch = (command: 'ft-primary' | 'ft-standby', address: string): WatchedProcess => {
    const link = command === 'ft-primary' ? '--standby' : '--listen';
    const one = new WatchedProcess({
      name: `notify-${command}`,
      command: process.execPath,
      args: [
        path.join(projectRoot, `dist/src/cli/${command}.js`),
        ...['--machine', 'simulated', '--sim-port', `${PORT + 1}`, '--memory', '1M'],
        ...['--witness', `file:${folder}`, '--node', command, link, `127.0.0.1:${PORT}`],
        ...['--suspect-after-ms', '1000'],
      ],
      env: { NOTIFY_SOCKET: address, WATCHDOG_USEC: `${WATCHDOG_US}` },
    });
    started.push(one);
    return one;
  };

  const linesOf = (fields: Readonly<Record<string, unknown>>): string[] =>
    Array.isArray(fields['lines']) ? fields['lines'].map(String) : [];
  const heard = (from: WatchedProcess, what: string, words: RegExp): Promise<unknown> =>
    from.waitFor(what, ({ fields }) => words.test(linesOf(fields).join('|')), 15_000);
  const beats = (from: WatchedProcess): number =>
    from.lines.filter(({ fields }) => linesOf(fields).includes('WATCHDOG=1')).length;

  test('a pair: ready, protected, watched, alone, and the end', async () => {
    const aboutA = await supervisor(path.join(folder, 'a.sock'));
    // systemd's own addresses may be abstract ones.
    const abstract = `@ft-notify-test-${process.pid}`;
    const aboutB = await supervisor(abstract);

    const a = launch('ft-primary', path.join(folder, 'a.sock'));
    await heard(
      aboutA,
      'a guest that runs alone',
      /^READY=1\|STATUS=primary, solo: .*\|WATCHDOG_USEC=0$/,
    );
    const b = launch('ft-standby', abstract);
    await heard(aboutB, 'a standby that listens', /^READY=1\|STATUS=standby, joining: /);
    await heard(
      aboutB,
      'a standby that is ready',
      /^READY=1\|STATUS=standby, ready: .*\|WATCHDOG_USEC=400000$/,
    );
    await heard(
      aboutA,
      'a protected guest',
      /^READY=1\|STATUS=primary, protected: .*\|WATCHDOG_USEC=400000$/,
    );
    await heard(aboutA, 'a sign for the watchdog', /^WATCHDOG=1$/);

    // Alone again: the watchdog is switched off, and hears nothing from then on.
    b.kill('SIGTERM');
    await heard(aboutB, 'an end in order', /^STOPPING=1\|STATUS=SIGTERM received/);
    const from = aboutA.lines.length;
    const isAlone = /^READY=1\|STATUS=primary, solo: .*\|WATCHDOG_USEC=0$/;
    const alone = ({ fields }: { fields: Readonly<Record<string, unknown>> }): boolean =>
      isAlone.test(linesOf(fields).join('|'));
    if (!aboutA.lines.slice(-3).some(alone)) await aboutA.waitFor('solo', alone, 8000, from);
    const before = beats(aboutA);
    await new Promise((resolve) => setTimeout(resolve, (2 * WATCHDOG_US) / 1000));
    expect(beats(aboutA)).toBe(before);

    a.kill('SIGTERM');
    await heard(aboutA, 'an end in order', /^STOPPING=1\|STATUS=SIGTERM received/);
    expect((await a.waitExit(5000)).code).toBe(0);
  });

  test('a node that cannot start says why, and one whose supervisor is gone runs all the same', async () => {
    const about = await supervisor(path.join(folder, 'x.sock'));
    const failed = new WatchedProcess({
      name: 'notify-failed',
      command: process.execPath,
      args: [
        path.join(projectRoot, 'dist/src/cli/ft-primary.js'),
        ...['--machine', 'simulated', '--sim-port', '1', '--witness', 'file:/no/such/folder'],
      ],
      env: { NOTIFY_SOCKET: path.join(folder, 'x.sock') },
    });
    started.push(failed);
    await heard(about, 'the reason', /^STOPPING=1\|STATUS=.*\/no\/such\/folder/);
    expect((await failed.waitExit(5000)).code).toBe(3);

    const alone = launch('ft-primary', path.join(folder, 'nobody.sock'));
    const says = /cannot tell the supervisor at .*nobody\.sock/;
    for (let tries = 0; tries < 80 && !says.test(alone.stderrTail); tries++) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect(alone.stderrTail).toMatch(says);
    expect(alone.exit).toBeUndefined();
    alone.kill('SIGTERM');
    expect((await alone.waitExit(5000)).code).toBe(0);
  });
});
