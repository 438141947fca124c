/** The control socket and ftctl: status, switchover, and what they say when it cannot be. */
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { freePorts } from '../../src/drill/pair/etcd';
import { Pair } from '../../src/drill/pair/pair';
import { WatchedProcess } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { Equals, runCtl } from '../support/equals';
import { kvmDescribe } from '../support/kvm';
import { commandLine, expectRefusal, runCommand } from './command';

interface Reply {
  readonly status: number;
  readonly body: Record<string, unknown>;
}

function ask(socketPath: string, method: string, url: string, body = ''): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method, path: url }, (response) => {
      let text = '';
      response.on('data', (piece) => {
        text += piece;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) }),
      );
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

describe('the control socket', () => {
  let folder = '';
  let control = '';
  const running: WatchedProcess[] = [];

  const start = async (): Promise<WatchedProcess> => {
    const [port] = await freePorts(1);
    const flags = { machine: 'simulated', 'sim-port': `${port}`, witness: `file:${folder}` };
    const more = { node: 'alpha', pair: 'control', 'status-interval-ms': '50', control };
    const [command = '', ...args] = commandLine('ft-primary', { ...flags, ...more });
    const child = new WatchedProcess({ name: 'control', command, args });
    running.push(child);
    await child.waitFor('solo', (line) => line.fields['state'] === 'solo', 5000);
    return child;
  };

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-control-'));
    control = path.join(folder, 'node.sock');
  });

  afterEach(async () => {
    await Promise.all(running.splice(0).map((child) => child.stop()));
    rmSync(folder, { recursive: true, force: true });
  });

  test('is for its user alone, answers, and goes away with the node', async () => {
    const node = await start();
    expect(statSync(control).mode & 0o777).toBe(0o600);
    const { status, body } = await ask(control, 'GET', '/v1/status');
    expect(status).toBe(200);
    expect(body).toMatchObject({
      ...{ role: 'primary', state: 'solo', node: 'alpha', pair: 'control', generation: 1 },
      ...{ life: 1, pid: node.pid },
    });
    node.kill('SIGTERM');
    expect(await node.waitExit(5000)).toMatchObject({ code: 0 });
    expect(existsSync(control)).toBe(false);
  });

  test('ftctl status: words for people, JSON for programs', async () => {
    await start();
    const text = runCtl('--control', control, 'status');
    expect(text).toMatchObject({ code: 0, stderr: '' });
    expect(text.stdout).toMatch(/^alpha \(primary, solo\) runs the guest, UNPROTECTED: /);
    const json = runCtl('--control', control, 'status', '--json');
    expect(json.code).toBe(0);
    expect(JSON.parse(json.stdout)).toMatchObject({ node: 'alpha', state: 'solo' });
  });

  test('a switchover that cannot be is refused with what to do; the guest runs on', async () => {
    await start();
    const refused = runCtl('--control', control, 'switchover');
    expect(refused.code).toBe(5);
    expect(refused.stderr).toMatch(/needs a protected guest.*solo/);
    expect((await ask(control, 'POST', '/v1/switchover')).status).toBe(409);
    expect((await ask(control, 'GET', '/v1/status')).body).toMatchObject({ state: 'solo' });
  });

  test('what it does not know is refused by name', async () => {
    await start();
    expect(await ask(control, 'GET', '/v1/nothing')).toMatchObject({
      status: 404,
      body: { code: 'FT_ERR_CONTROL_REQUEST' },
    });
    expect(await ask(control, 'POST', '/v1/status')).toMatchObject({ status: 405 });
    expect(await ask(control, 'GET', '/v1/switchover')).toMatchObject({ status: 405 });
    const long = await ask(control, 'POST', '/v1/switchover', 'x'.repeat(100_000));
    expect(long.status).toBe(413);
    const endless = await ask(control, 'POST', '/v1/switchover', 'x'.repeat(8_000_000)).catch(
      (thrown: NodeJS.ErrnoException) => ({ status: thrown.code }),
    );
    expect([413, 'ECONNRESET', 'EPIPE']).toContain(endless.status);
    expect((await ask(control, 'GET', '/v1/status')).status).toBe(200);
  });

  test('a killed node leaves its socket behind, and the next one takes it over', async () => {
    const first = await start();
    first.kill('SIGKILL');
    await first.waitExit(5000);
    expect(existsSync(control)).toBe(true);
    const gone = runCtl('--control', control, 'status');
    expect(gone).toMatchObject({ code: 3, stdout: '' });
    expect(gone.stderr).toMatch(/The node that served it has ended/);
    await start();
    expect(runCtl('--control', control, 'status').code).toBe(0);
  });

  test('a path that is taken, is no socket, or cannot be made is refused', async () => {
    await start();
    const [port] = await freePorts(1);
    const flags = { machine: 'simulated', 'sim-port': `${port}`, witness: `file:${folder}` };
    const other = { ...flags, node: 'beta', pair: 'other' };
    const taken = await runCommand('ft-primary', { ...other, control });
    expectRefusal(taken, 3, /Another process serves the control socket/);
    const file = path.join(folder, 'file');
    writeFileSync(file, 'mine');
    const noSocket = await runCommand('ft-primary', { ...other, control: file });
    expectRefusal(noSocket, 3, /is no socket/);
    const nowhere = await runCommand('ft-primary', { ...other, control: `${folder}/no/where` });
    expectRefusal(nowhere, 3, /cannot be made .*Its folder must exist/);
  });

  test('ftctl: a wrong word, no command, no socket, --help', () => {
    expect(runCtl('dance')).toMatchObject({ code: 2, stdout: '' });
    expect(runCtl('dance').stderr).toMatch(/"dance" is none; the commands of ftctl are status,/);
    expect(runCtl().stderr).toMatch(/No command is given/);
    expect(runCtl('status', '--jsn').stderr).toMatch(/did you mean --json/);
    expect(runCtl('status', 'now').code).toBe(2);
    const nobody = runCtl('--control', control, 'status');
    expect(nobody.code).toBe(3);
    expect(nobody.stderr).toMatch(/There is no such socket. Start the node with --control/);
    const help = runCtl('--help');
    expect(help.code).toBe(0);
    expect(help.stdout).toMatch(/Usage: ftctl.*switchover.*Exit codes:/s);
  });
});

kvmDescribe('ftctl switchover', () => {
  test('a node that cannot be a standby answers first, then ends as fenced', async () => {
    const pair = new Pair({ machine: 'kvm', name: 'switchover-exit' });
    const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-control-'));
    try {
      const control = path.join(folder, 'node.sock');
      const standby = pair.startStandby();
      const primary = pair.startPrimary(pair.slots[0], pair.slots[1].port, ['--control', control]);
      await primary.waitState(['protected'], 20_000);
      const done = runCtl('--control', control, 'switchover');
      expect(done).toMatchObject({ code: 0, stderr: '' });
      expect(done.stdout).toMatch(
        /goes on at the other host, in generation 2. It stood still for \d+\.\d ms at most/,
      );
      expect(await primary.process.waitExit(5000)).toMatchObject({ code: 4, signal: null });
      expect(primary.process.stderrTail).toMatch(/With --on-fenced rejoin it does so by itself/);
      await standby.waitState(['solo'], 1000);
    } finally {
      await pair.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('exchanges the roles, both ways, and the pair is protected each time', async () => {
    const equals = new Equals('switchover', ['a', 'b']);
    let oracle: OracleProcess | undefined;
    try {
      await equals.startAll();
      const settings = { ...equals.guest, clients: 8, ratePerSecond: 400 };
      oracle = await OracleProcess.start(settings, equals.netns.name);
      await oracle.load({ pagesPerMs: 16, bytesPerPage: 16, workingSetPages: 200, spin: false });
      await oracle.start();
      const clients = oracle;
      const answersGoOn = async (): Promise<void> => {
        const { answered } = await clients.sample();
        const more = async (): Promise<boolean> =>
          (await clients.sample()).answered > answered + 50;
        await until('more answers', more, 8000);
      };
      await answersGoOn();
      const pids = ['a', 'b'].map((name) => equals.host(name).node.process.pid);
      let [active, other] = ['a', 'b'];
      for (let n = 0; n < 4; n += 1) {
        const wrong = equals.ftctl(other, 'switchover');
        expect(wrong.code).toBe(5);
        expect(wrong.stderr).toMatch(/is a standby .*ask the node that runs the guest/);
        const from = equals.host(other).node.process.lines.length;
        const done = equals.ftctl(active, 'switchover', '--json');
        expect(done).toMatchObject({ code: 0, stderr: '' });
        expect(JSON.parse(done.stdout)).toMatchObject({ generation: n + 2 });
        await equals.waitProtected(other, from);
        await answersGoOn();
        [active, other] = [other, active];
        expect(equals.ftctl(active, 'status').stdout).toMatch(/runs the guest, protected/);
        expect(equals.ftctl(other, 'status').stdout).toMatch(/can take over/);
      }
      expect(['a', 'b'].map((name) => equals.host(name).node.process.pid)).toEqual(pids);
      const verdict = await clients.finish();
      expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
      expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
    } catch (thrown) {
      const message = thrown instanceof Error ? thrown.message : String(thrown);
      throw new Error(`${message}\n=== what the nodes said\n${equals.story()}`);
    } finally {
      await oracle?.close();
      await equals.close();
    }
  });
});
