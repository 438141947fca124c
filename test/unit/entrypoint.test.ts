/** What a container runs: a stop drains first, and codes that no restart mends end with 0. */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { until } from '../../src/drill/process/time';

const entrypoint = path.join(__dirname, '../../packaging/entrypoint');

describe('the entrypoint of a container', () => {
  let folder = '';
  let child: ChildProcess | undefined;

  const command = (name: string, text: string): void => {
    writeFileSync(path.join(folder, name), `#!/bin/sh\ncd "${folder}"\n${text}\n`);
    chmodSync(path.join(folder, name), 0o755);
  };
  const told = (): string => {
    const file = path.join(folder, 'told');
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  };

  /** A node that ends with `code`: at a signal, when it is drained, or by itself. */
  const makeNode = (code: number, configured = true): void => {
    const config = configured ? `echo 'control: "/run/x/s.sock"   # web.yaml:40'` : ':';
    command(
      'ft-primary',
      `for word; do [ "$word" != --print-config ] || { ${config}; exit 0; }; done
       trap 'echo TERM >> told; exit 0' TERM
       echo "node $*" >> told
       until [ -e end ]; do sleep 0.02; done
       exit ${code}`,
    );
  };

  const start = (delay = '0'): Promise<number | null> => {
    const env = { PATH: `${folder}:/usr/bin:/bin`, START_DELAY_S: delay };
    const args = ['--config', 'a b'];
    const started = spawn(entrypoint, args, { env, stdio: ['ignore', 'ignore', 'ignore'] });
    child = started;
    return new Promise((resolve) => started.on('exit', resolve));
  };
  const running = (): Promise<unknown> => until('the node', () => told() !== '', 5000);

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-entry-'));
  });

  afterEach(() => {
    child?.kill('SIGKILL');
    rmSync(folder, { recursive: true });
  });

  test('a stop drains at the socket of the settings, and ends with the code of the node', async () => {
    makeNode(0);
    command('ftctl', 'echo "ftctl $*" >> told; touch end; sleep 0.2');
    const exit = start();
    await running();
    child?.kill('SIGTERM');
    child?.kill('SIGINT');
    expect(await exit).toBe(0);
    expect(told()).toBe('node --config a b\nftctl --control /run/x/s.sock drain --wait 20\n');
  });

  test.each([true, false])(
    'where a drain is refused, or none possible, the signal follows',
    async (has) => {
      makeNode(0, has);
      command('ftctl', 'echo refused >> told; exit 5');
      const exit = start();
      await running();
      child?.kill('SIGTERM');
      expect(await exit).toBe(0);
      expect(told()).toBe(`node --config a b\n${has ? 'refused\n' : ''}TERM\n`);
    },
  );

  test.each([
    [0, 0],
    [2, 0],
    [3, 3],
    [6, 0],
    [7, 7],
    [70, 70],
  ])('a node that ends with %d: the container ends with %d', async (code, expected) => {
    makeNode(code);
    const exit = start();
    await running();
    writeFileSync(path.join(folder, 'end'), '');
    expect(await exit).toBe(expected);
  });

  test('a code that fails stays one when the node fails as it is drained', async () => {
    makeNode(70);
    command('ftctl', 'touch end; sleep 0.2; exit 3');
    const exit = start();
    await running();
    child?.kill('SIGTERM');
    expect(await exit).toBe(70);
  });

  test('a stop before the node was started starts none', async () => {
    makeNode(0);
    const exit = start('30');
    await new Promise((resolve) => setTimeout(resolve, 200));
    child?.kill('SIGTERM');
    expect(await exit).toBe(0);
    expect(told()).toBe('');
  });
});
