/**
 * Settings of real processes: file, environment and flags together, refusals with their place, and
 * what SIGHUP takes over of a node that runs, or leaves as it is.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { freePorts } from '../../src/drill/pair/etcd';
import { WatchedProcess } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { commandLine, expectRefusal, runWords } from './command';

/** Nothing of it runs any more; whether somebody waited for it does not matter. */
function hasEnded(pid: number): boolean {
  const status = `/proc/${pid}/status`;
  return !existsSync(status) || /^State:\s+Z/m.test(readFileSync(status, 'utf8'));
}

/** Other tests may share the machine. */
const SLOW = { timeoutMs: 20_000 };

describe('settings', () => {
  let folder = '';
  let file = '';
  const running: WatchedProcess[] = [];

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-config-'));
    file = path.join(folder, 'node.yaml');
  });

  afterEach(async () => {
    await Promise.all(running.splice(0).map((child) => child.stop()));
    rmSync(folder, { recursive: true, force: true });
  });

  const write = (...lines: string[]): void => writeFileSync(file, `${lines.join('\n')}\n`);
  const base = (port: number): string[] => [
    'machine: simulated',
    `sim-port: ${port}`,
    'witness: none',
    'pair: from-file',
    'node: from-file',
  ];

  const start = async (
    env: Record<string, string>,
    ...words: string[]
  ): Promise<WatchedProcess> => {
    const [command = '', ...args] = commandLine('ft-primary', { config: file });
    const child = new WatchedProcess({ name: 'config', command, args: [...args, ...words], env });
    running.push(child);
    await until('it runs', () => child.stderrTail.includes('solo'), 20_000);
    return child;
  };

  /** SIGHUP, and the words that the log has for it. */
  const reload = async (child: WatchedProcess): Promise<string> => {
    const before = child.stderrTail.length;
    const answer = (): string => child.stderrTail.slice(before);
    child.kill('SIGHUP');
    await until('a reload', () => /settings (were|stay)[^\n]*\n/.test(answer()), 15_000);
    return answer();
  };

  test('the command line wins over the environment, that over the file', async () => {
    const [port = 0] = await freePorts(1);
    write(...base(port), 'status-interval-ms: 20', 'in-flight: 3');
    const env = { ROMULUS_PAIR: 'from-environment', ROMULUS_NODE: 'from-environment' };
    const child = await start(env, '--node', 'from-flag');
    const line = await child.waitFor(
      'a status',
      ({ fields }) => fields['state'] === 'solo',
      15_000,
    );
    expect(line.fields).toMatchObject({ pair: 'from-environment', node: 'from-flag' });
    const words = [...commandLine('ft-primary', { config: file }), '--print-config'];
    const printer = new WatchedProcess({
      ...{ name: 'print', command: words[0] ?? '', args: words.slice(1), env },
    });
    running.push(printer);
    expect(await printer.waitExit(20_000)).toMatchObject({ code: 0 });
    expect(printer.stderrTail).toMatch(/^pair: from-environment +# ROMULUS_PAIR$/m);
    expect(printer.stderrTail).toMatch(new RegExp(`^in-flight: 3 +# ${file}:7$`, 'm'));
  });

  test('what is wrong is refused with its place, and nothing is started', async () => {
    write(...base(1), 'interval-us: 5');
    const words = commandLine('ft-primary', { config: file });
    expectRefusal(
      await runWords(words, SLOW),
      2,
      /node\.yaml:6: interval-us is "5"; it must be a whole/,
    );
    write(...base(1), 'wittness: none');
    expectRefusal(
      await runWords(words, SLOW),
      2,
      /node\.yaml:6: "wittness" .* did you mean witness\?/,
    );
    rmSync(file);
    expectRefusal(await runWords(words, SLOW), 2, /configuration file .*ENOENT.*check --config/);
    write(...base(1));
    const env = ['env', 'ROMULUS_INTERVALUS=5'];
    expectRefusal(
      await runWords([...env, ...words], SLOW),
      2,
      /did you mean ROMULUS_INTERVAL_US\?/,
    );
  });

  test('SIGHUP: log level and status lines change at once, the rest is told of', async () => {
    const [port = 0] = await freePorts(1);
    write(...base(port));
    const child = await start({});
    expect(child.lines).toHaveLength(0);
    write(...base(port), 'status-interval-ms: 20', 'memory: 32M', 'on-guest-end: hold');
    expect(await reload(child)).toMatch(
      /in effect: status-interval-ms, on-guest-end; .* only a restart takes it over: memory/,
    );
    await child.waitFor('a status', ({ fields }) => fields['state'] === 'solo', 15_000);
    write(...base(port), 'log-level: warn');
    const quiet = child.stderrTail.length;
    child.kill('SIGHUP');
    const count = async (): Promise<number> => {
      const before = child.lines.length;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return child.lines.length - before;
    };
    let lines = await count();
    for (let tries = 0; lines > 0 && tries < 20; tries += 1) lines = await count();
    expect(lines).toBe(0);
    // The new level counts for the line that would have said so.
    expect(child.stderrTail.slice(quiet)).not.toContain('settings were read again');
    write(...base(port), 'log-level: info', 'pair: other');
    expect(child.exit).toBeUndefined();
  });

  test('SIGHUP with a broken file changes nothing, and says why', async () => {
    const [port = 0] = await freePorts(1);
    write(...base(port), 'status-interval-ms: 20');
    const child = await start({});
    write(...base(port), 'status-interval-ms: 1');
    expect(await reload(child)).toMatch(
      /error the settings stay as they were.*node\.yaml:6: status-interval-ms is "1"/,
    );
    write('machine: [');
    expect(await reload(child)).toMatch(/stay as they were.*this is no YAML/);
    const from = child.lines.length;
    await child.waitFor('it goes on', ({ fields }) => fields['state'] === 'solo', 15_000, from);
    write(...base(port), 'status-interval-ms: 20');
    expect(await reload(child)).toContain('nothing had changed');
    child.kill('SIGTERM');
    expect(await child.waitExit(5000)).toMatchObject({ code: 0 });
  });

  test('a terminal that is closed ends what was started at it, in order', async () => {
    const [port = 0] = await freePorts(1);
    write(...base(port));
    const log = path.join(folder, 'log');
    const words = commandLine('ft-primary', { config: file }).join(' ');
    const story = `echo $$ >${log}; exec ${words} 2>>${log}`;
    const terminal = new WatchedProcess({
      ...{ name: 'terminal', command: 'script', args: ['-qc', story, '/dev/null'] },
    });
    running.push(terminal);
    const said = (): string => (existsSync(log) ? readFileSync(log, 'utf8') : '');
    await until('it runs', () => said().includes('solo'), 20_000);
    terminal.kill('SIGKILL');
    await until('its end', () => hasEnded(Number.parseInt(said(), 10)), 15_000);
    expect(said()).toContain('ft-primary: SIGHUP received.');
    expect(said()).toContain('solo → stopped');
    expect(said()).not.toMatch(/Assertion|abort/i);
    expect(said()).not.toContain('settings were read again');
  });
});
