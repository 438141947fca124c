/** ftctl console on real guests: what is typed comes back from the guest, through a failover. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Pair } from '../../src/drill/pair/pair';
import { projectRoot } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { runCtl } from '../support/equals';
import { kvmDescribe } from '../support/kvm';

const ftctl = path.join(projectRoot, 'dist/src/cli/ftctl.js');
const kernel = path.join(projectRoot, 'build/guest/echo.elf');

/** ftctl console as a process. */
class Attached {
  text = '';
  errors = '';
  readonly exited: Promise<number | null>;

  constructor(readonly child: ChildProcess) {
    child.stdout?.setEncoding('utf8').on('data', (piece: string) => {
      this.text += piece;
    });
    child.stderr?.setEncoding('utf8').on('data', (piece: string) => {
      this.errors += piece;
    });
    child.stdin?.on('error', () => undefined);
    this.exited = new Promise((resolve) => child.on('exit', resolve));
  }

  type(keys: string): void {
    this.child.stdin?.write(keys);
  }

  has(words: string): Promise<void> {
    return until(`${JSON.stringify(words)} on the console`, () => this.text.includes(words), 5000);
  }
}

kvmDescribe('ftctl console', () => {
  let folder: string;
  let pair: Pair;
  const clients: Attached[] = [];
  const control = (slot: 'a' | 'b'): string => path.join(folder, `${slot}.sock`);
  const attach = (slot: 'a' | 'b'): Attached => {
    const words = [ftctl, '--control', control(slot), 'console'];
    const client = new Attached(spawn(process.execPath, words, { stdio: 'pipe' }));
    clients.push(client);
    return client;
  };

  beforeEach(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-ctl-console-'));
    pair = new Pair({
      ...{ machine: 'kvm', name: 'ctl-console', kernel, kernelFlags: [], memory: '16M' },
      slotFlags: (slot) => ['--control', control(slot.name)],
    });
    await pair.start();
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) client.child.kill('SIGKILL');
    await pair.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('keys reach the guest and its answers come back, also after a failover', async () => {
    // No --console was given: the past is there all the same.
    const first = attach('a');
    await first.has('echo: ready\r\n');
    first.type('hello, guest\r');
    await first.has('HELLO, GUEST\r');
    const second = attach('a');
    await second.has('HELLO, GUEST\r');
    second.type('from another terminal\r');
    await first.has('FROM ANOTHER TERMINAL\r');
    // More than the guest has room for at once, none of it lost.
    const long = `${'all work and no play '.repeat(100)}\r`;
    first.type(long);
    await first.has(long.toUpperCase());

    const waiting = attach('b');
    await waiting.has('standby; the guest runs elsewhere');
    waiting.type('thrown away\r');
    await pair.killActive();
    expect(await first.exited).toBe(3);
    expect(first.errors).toMatch(/the node has ended the console/);
    waiting.type('taken over\r');
    await waiting.has('TAKEN OVER\r');
    expect(waiting.text).not.toContain('THROWN AWAY');
    const kinds = runCtl('--control', control('b'), 'events').stdout;
    expect(kinds).toMatch(/console +a client is attached to the console/);
  });

  test('on a terminal: raw keys, Ctrl-A x leaves, and the terminal is as it was', async () => {
    const inner = `stty -a > ${folder}/before; ${process.execPath} ${ftctl} --control ${control('a')} console; echo code=$?; stty -a | diff ${folder}/before - && echo unchanged`;
    const shown = new Attached(spawn('script', ['-qefc', inner, '/dev/null'], { stdio: 'pipe' }));
    clients.push(shown);
    await shown.has('Ctrl-A x detaches');
    await shown.has('echo: ready');
    // Ctrl-C is the guest's, and ends nothing here.
    shown.type('one\u0003two\r');
    await shown.has('ONE\u0003TWO');
    shown.type('\u0001x');
    await shown.has('ftctl: detached.');
    await shown.has('code=0');
    await shown.has('unchanged');
    expect(await shown.exited).toBe(0);
  });

  test('a client that does not read misses bytes, and the guest and others do not wait', async () => {
    const stuck = attach('a');
    await stuck.has('echo: ready');
    stuck.child.kill('SIGSTOP');
    const other = attach('a');
    const line = `${'the quick brown fox '.repeat(50)}\r`;
    for (let n = 0; n < 3; n += 1) {
      other.type(`${n} ${line}`);
      await other.has(`${n} ${line.toUpperCase()}`);
    }
    expect(runCtl('--control', control('a'), 'status').stdout).toMatch(/\(primary, protected\)/);
    stuck.child.kill('SIGCONT');
    await stuck.has(`2 ${line.toUpperCase()}`);
  });
});
