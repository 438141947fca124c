/** Every answer of real nodes is as docs/control-api.openapi.yaml says; drain; events; ftctl. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { projectRoot } from '../../src/drill/process/process';
import { until } from '../../src/drill/process/time';
import { ControlSchema } from '../support/control-schema';
import { SimEquals, type SimName } from '../support/sim-equals';

const schema = new ControlSchema();

describe('the control API of real nodes', () => {
  let pair: SimEquals;
  const children: ChildProcess[] = [];

  beforeEach(async () => {
    pair = await SimEquals.make();
  });

  afterEach(async () => {
    for (const child of children.splice(0)) child.kill('SIGKILL');
    await pair.close();
  });

  /** Asks, and holds the answer (or each line of it) against the file. */
  const ask = (
    name: SimName,
    method: 'GET' | 'POST',
    url: string,
    body?: object,
  ): Promise<{ status: number; body: Record<string, unknown>; lines: Record<string, unknown>[] }> =>
    new Promise((resolve, reject) => {
      const socketPath = pair.control(name);
      const asked = http.request({ socketPath, method, path: url }, (response) => {
        let text = '';
        const status = response.statusCode ?? 0;
        const [route = ''] = url.split('?');
        response.setEncoding('utf8');
        response.on('data', (piece: string) => {
          text += piece;
          // A stream without an end: two lines are enough.
          if (route === '/v1/samples' && text.split('\n').length > 2) response.destroy();
        });
        response.on('error', () => undefined);
        response.on('close', () => {
          const lines = text
            .trim()
            .split('\n')
            .filter((line) => line !== '');
          const values = lines.map((line) => JSON.parse(line) as Record<string, unknown>);
          for (const value of values) {
            expect(schema.faults(method, route, status, value)).toEqual([]);
          }
          resolve({ status, body: values[0] ?? {}, lines: values });
        });
      });
      asked.on('error', reject);
      asked.end(body === undefined ? undefined : JSON.stringify(body));
    });

  /** A field that the file does not name would be one that nobody documented. */
  const allNamed = (value: object): string[] => {
    const known = schema.statusFields();
    const pattern = /^(pauseUs|ackUs|outputDelayUs|stage[A-Z][A-Za-z]*Us)(P50|P99|Max)$/;
    return Object.keys(value).filter((name) => !known.has(name) && !pattern.test(name));
  };

  test('status, samples, events and settings, on both sides and alone', async () => {
    await pair.start('a').waitState(['solo'], 20_000);
    const alone = await ask('a', 'GET', '/v1/status');
    expect(alone.body).toMatchObject({ protected: false, state: 'solo', life: 1 });
    expect(alone.body['why']).toMatch(/UNPROTECTED.*the guest was booted/);
    pair.start('b');
    await pair.node('a').waitState(['protected'], 20_000);
    for (const name of ['a', 'b'] as const) {
      const other = name === 'a' ? 'b' : 'a';
      const { body } = await ask(name, 'GET', '/v1/status');
      expect(body).toMatchObject({ protected: true, why: '', peer: other, node: name });
      expect(body['peerAddress']).toMatch(/^127\.0\.0\.1:\d+$/);
      expect(allNamed(body)).toEqual([]);
      const samples = await ask(name, 'GET', '/v1/samples?intervalMs=250');
      expect(samples.status).toBe(200);
      expect(samples.lines.length).toBeGreaterThan(1);
      for (const line of samples.lines) expect(allNamed(line)).toEqual([]);
      const events = await ask(name, 'GET', '/v1/events');
      expect(events.lines.map((event) => event['seq'])).toEqual(
        events.lines.map((_event, at) => at + 1),
      );
      const last = Number(events.lines.at(-1)?.['seq']);
      expect((await ask(name, 'GET', `/v1/events?since=${last - 1}`)).lines.length).toBe(1);
      const { body: config } = await ask(name, 'GET', '/v1/config');
      expect(config['settings']).toMatchObject({
        node: { value: name, from: '--node' },
        memory: { value: '16M', from: '--memory' },
        'interval-us': { from: 'default' },
      });
    }
    const kinds = (await ask('a', 'GET', '/v1/events')).lines.map((event) => event['kind']);
    expect(kinds).toEqual(expect.arrayContaining(['state', 'sync']));
  });

  test('what is refused, and a reload', async () => {
    await pair.start('a').waitState(['solo'], 20_000);
    for (const [method, url, status] of [
      ['GET', '/v1/events?since=x', 400],
      ['GET', '/v1/samples?intervalMs=249', 400],
      ['GET', '/v1/console', 426],
      ['POST', '/v1/switchover', 409],
      ['POST', '/v1/drain', 409],
    ] as const) {
      expect((await ask('a', method, url)).status).toBe(status);
    }
    expect((await ask('a', 'POST', '/v1/drain', { farce: 1 })).status).toBe(400);
    const reloaded = await ask('a', 'POST', '/v1/reload');
    expect(reloaded).toMatchObject({ status: 200, body: { applied: [], needsRestart: [] } });
    expect(pair.ftctl('a', 'reload')).toMatchObject({ code: 0, stdout: 'Nothing to apply.\n' });
    const console = pair.ftctl('a', 'console');
    expect(console).toMatchObject({ code: 5, stdout: '' });
    expect(console.stderr).toMatch(/has no serial console/);
  });

  test('a switchover, then a drain of the primary: the guest moves, and the node ends', async () => {
    await pair.startBoth();
    const from = pair.node('b').process.lines.length;
    const done = await ask('a', 'POST', '/v1/switchover');
    expect(done).toMatchObject({ status: 200, body: { generation: 2 } });
    await pair.node('b').waitState(['protected'], 20_000, from);
    const status = await ask('a', 'GET', '/v1/status');
    expect(status.body).toMatchObject({ role: 'standby', life: 2 });

    const drained = pair.ftctl('b', 'drain', '--json');
    expect(drained).toMatchObject({ code: 0, stderr: '' });
    const answer = JSON.parse(drained.stdout) as object;
    expect(schema.faults('POST', '/v1/drain', 200, answer)).toEqual([]);
    expect(answer).toMatchObject({ role: 'primary', guest: 'handed-over', generation: 3 });
    // ftctl came back when the node had ended: no rejoining, and success.
    expect(await pair.node('b').process.waitExit(2000)).toMatchObject({ code: 0, signal: null });
    expect(existsSync(pair.control('b'))).toBe(false);
    const ends = pair.node('b').process.lines.filter((line) => line.fields['event'] === 'end');
    expect(ends.map((line) => line.fields['kind'])).toEqual(['drained']);
    await pair.node('a').waitState(['solo'], 5000);
    expect(pair.ftctl('a', 'status').stdout).toMatch(/^a \(primary, solo\)/);
  });

  test('a drained standby says good-bye: its primary is alone at once, and knows why', async () => {
    await pair.startBoth();
    const from = pair.node('a').process.lines.length;
    const drained = pair.ftctl('b', 'drain');
    expect(drained).toMatchObject({ code: 0, stderr: '' });
    expect(drained.stdout).toMatch(
      /This standby has ended; its primary has the guest, unprotected/,
    );
    expect(await pair.node('b').process.waitExit(2000)).toMatchObject({ code: 0, signal: null });
    await pair.node('a').waitState(['solo'], 2000, from);
    // Not suspended on the way: nobody was lost, so nobody was asked.
    const path_ = pair
      .node('a')
      .process.lines.slice(from)
      .filter((line) => line.fields['event'] === 'state')
      .map((line) => line.fields['to']);
    expect(path_).toEqual(['solo']);
    const { body } = await ask('a', 'GET', '/v1/status');
    expect(body['why']).toMatch(/the standby left: drained by its operator/);
    expect(body).toMatchObject({ linksLost: 0, peer: 'b' });
    // Now nobody holds the guest: it is not ended by mistake.
    const refused = pair.ftctl('a', 'drain');
    expect(refused.code).toBe(5);
    expect(refused.stderr).toMatch(/No standby holds the guest \(solo\).*--force/);
    expect(pair.ftctl('a', 'status').code).toBe(0);
    expect(pair.ftctl('a', 'drain', '--force')).toMatchObject({ code: 0, stderr: '' });
    expect(await pair.node('a').process.waitExit(2000)).toMatchObject({ code: 0, signal: null });
  });

  test('a signal that meets the end of a drain does not change its code', async () => {
    await pair.startBoth();
    expect(await ask('b', 'POST', '/v1/drain')).toMatchObject({ status: 200 });
    // As a supervisor does, while the process still says good-bye.
    process.kill(pair.node('b').process.pid, 'SIGTERM');
    expect(await pair.node('b').process.waitExit(2000)).toMatchObject({ code: 0, signal: null });
  });

  test('a node that is ended after a refused drain leaves its guest to the standby', async () => {
    await pair.startBoth();
    // A witness that cannot be reached: something else is where its records were.
    const [records, away] = [pair.witness, `${pair.witness}.away`];
    renameSync(records, away);
    writeFileSync(records, '');
    const refused = pair.ftctl('a', 'drain');
    expect(refused).toMatchObject({ code: 5 });
    expect(refused.stderr).toMatch(/needs a witness that decides/);
    const from = pair.node('b').process.lines.length;
    process.kill(pair.node('a').process.pid, 'SIGTERM');
    expect(await pair.node('a').process.waitExit(2000)).toMatchObject({ code: 0, signal: null });
    await pair.node('b').waitState(['suspecting'], 2000, from);
    rmSync(records);
    renameSync(away, records);
    await pair.node('b').waitState(['solo'], 10_000, from);
  });

  test('two drains at once get the same answer', async () => {
    await pair.startBoth();
    const [one, two] = await Promise.all([
      ask('a', 'POST', '/v1/drain'),
      ask('a', 'POST', '/v1/drain'),
    ]);
    expect(one.status).toBe(200);
    expect(two).toEqual(one);
    expect(await pair.node('a').process.waitExit(2000)).toMatchObject({ code: 0, signal: null });
  });

  test('status --wait: until it is so, or in vain', async () => {
    const vain = pair.ftctl('a', 'status', '--wait', 'protected', '--timeout', '1');
    expect(vain).toMatchObject({ code: 9, stdout: '' });
    expect(vain.stderr).toMatch(/not protected after 1 s\. No node answers/);
    const told = pair.ftctl('a', 'status', '--wait', 'protected', '--timeout', '1', '--json');
    expect(JSON.parse(told.stdout)).toMatchObject({ code: 'FT_ERR_CONTROL_WAITED' });
    // It waits for a node that is not there yet, too.
    const command = path.join(projectRoot, 'dist/src/cli/ftctl.js');
    const words = ['--control', pair.control('a'), 'status', '--wait', 'protected', '--json'];
    const waiting = spawn(process.execPath, [command, ...words], { stdio: 'pipe' });
    children.push(waiting);
    let text = '';
    waiting.stdout.on('data', (piece) => {
      text += piece;
    });
    const ended = new Promise((resolve) => waiting.on('exit', resolve));
    await pair.startBoth();
    expect(await ended).toBe(0);
    expect(JSON.parse(text)).toMatchObject({ state: 'protected', protected: true });
    expect(pair.ftctl('b', 'status', '--wait', 'ready')).toMatchObject({ code: 0 });
  });

  test('events --follow tells of a failover as it happens', async () => {
    await pair.startBoth();
    const command = path.join(projectRoot, 'dist/src/cli/ftctl.js');
    const words = ['--control', pair.control('b'), 'events', '--follow', '--json'];
    const following = spawn(process.execPath, [command, ...words], { stdio: 'pipe' });
    children.push(following);
    const seen: Record<string, unknown>[] = [];
    let partial = '';
    following.stdout.setEncoding('utf8').on('data', (piece: string) => {
      const lines = (partial + piece).split('\n');
      partial = lines.pop() ?? '';
      for (const line of lines) seen.push(JSON.parse(line) as Record<string, unknown>);
    });
    await until('the past', () => seen.some(({ state }) => state === 'ready'), 5000);
    pair.node('a').process.kill('SIGKILL');
    await pair.node('b').waitState(['solo'], 5000);
    await until('the failover', () => seen.some(({ kind }) => kind === 'failover'), 2000);
    for (const event of seen) expect(schema.faults('GET', '/v1/events', 200, event)).toEqual([]);
    const failover = seen.find(({ kind }) => kind === 'failover');
    expect(failover).toMatchObject({
      ...{ level: 'info', role: 'primary', generation: 2, life: 2 },
      facts: { cause: 'closed' },
    });
    const states = seen.filter(({ kind }) => kind === 'state').map(({ text }) => text);
    expect(states.slice(-4)).toEqual([
      'standby: ready → suspecting',
      'standby: suspecting → promoting',
      'standby: promoting → active',
      'primary: starting → solo',
    ]);
    expect(seen.map(({ seq }) => seq)).toEqual(seen.map((_event, at) => at + 1));
    // The node ends: so does the reader, and says so.
    const ended = new Promise((resolve) => following.on('exit', resolve));
    pair.node('b').process.kill('SIGTERM');
    expect(await ended).toBe(3);
  });

  test('watch fills a terminal and puts it back; without one it prints lines', async () => {
    await pair.startBoth();
    const plain = pair.ftctl('a', 'watch', '--count', '2', '--interval-ms', '250');
    expect(plain).toMatchObject({ code: 0, stderr: '' });
    expect(plain.stdout.trim().split('\n')).toHaveLength(2);
    expect(plain.stdout).toMatch(/ a primary protected, generation 1, /);
    const json = pair.ftctl('a', 'watch', '--count', '1', '--json');
    expect(schema.faults('GET', '/v1/samples', 200, JSON.parse(json.stdout))).toEqual([]);
    const command = path.join(projectRoot, 'dist/src/cli/ftctl.js');
    const inner = `stty rows 24 cols 80; exec ${process.execPath} ${command} --control ${pair.control('a')} watch`;
    const env = { ...process.env, TERM: 'xterm', LC_ALL: 'C.UTF-8' };
    const shown = spawn('script', ['-qefc', inner, '/dev/null'], { stdio: 'pipe', env });
    children.push(shown);
    let screen = '';
    shown.stdout.setEncoding('utf8').on('data', (piece: string) => {
      screen += piece;
    });
    await until('a frame', () => /PROTECTED.*epochs\/s.*q leaves/s.test(screen), 5000);
    expect(screen).toContain('\u001b[?1049h\u001b[?25l');
    expect(screen).toContain('\u001b[1;32mPROTECTED');
    // The standby dies: seen without a key being pressed, soon.
    const from = screen.length;
    pair.node('b').process.kill('SIGKILL');
    await until('SOLO', () => /SOLO/.test(screen.slice(from)), 5000);
    await until('the event', () => /the standby is lost/.test(screen.slice(from)), 5000);
    const ended = new Promise((resolve) => shown.on('exit', resolve));
    shown.stdin.write('q');
    expect(await ended).toBe(0);
    expect(screen.endsWith('\u001b[?25h\u001b[?1049l')).toBe(true);
  });
});
