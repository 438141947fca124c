/** How ftctl ends when it is no success: exit codes, words, and with --json one object to read. */
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { ctlMain } from '../../src/cli/ctl/main';

describe('an end of ftctl that is no success', () => {
  let folder = '';
  let server: http.Server;
  let out = '';
  let err = '';
  /** Answers a request; what it writes is the node's answer. */
  let answer: http.RequestListener = () => undefined;

  const says = (status: number, body: object): void => {
    answer = (_request, response) => {
      response.writeHead(status, { Connection: 'close' });
      response.end(JSON.stringify(body));
    };
  };

  beforeEach(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-ctl-'));
    jest.spyOn(process.stdout, 'write').mockImplementation((text: unknown) => {
      out += String(text);
      return true;
    });
    jest.spyOn(process.stderr, 'write').mockImplementation((text: unknown) => {
      err += String(text);
      return true;
    });
    server = http.createServer((request, response) => answer(request, response));
    await new Promise<void>((resolve) => server.listen(path.join(folder, 's'), resolve));
  });

  afterEach(() => {
    jest.restoreAllMocks();
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true });
  });

  /** The exit code, and what it wrote. */
  const ftctl = async (
    ...words: string[]
  ): Promise<{ code: typeof process.exitCode; out: string; err: string }> => {
    const before = process.exitCode;
    [out, err] = ['', ''];
    try {
      await ctlMain(['--control', path.join(folder, 's'), ...words]);
      return { code: process.exitCode, out, err };
    } finally {
      process.exitCode = before;
      process.stdout.removeAllListeners('error');
    }
  };

  /** The same of a call with --json: the object, which stands alone or last. */
  const object = async (...words: string[]): Promise<Record<string, unknown>> => {
    const ended = await ftctl(...words, '--json');
    const lines = ended.out.trimEnd().split('\n');
    expect(ended.err).toMatch(/^ftctl: /);
    const last = JSON.parse(lines.at(-1) ?? '') as Record<string, unknown>;
    expect(typeof last['message']).toBe('string');
    return { exit: ended.code, code: last['code'], lines: lines.length };
  };

  const code = (exit: number, name: string) => ({ exit, code: name, lines: 1 });

  test('a node that refuses: 5, and the guest is where it was', async () => {
    says(409, { code: 'FT_ERR_SWITCHOVER_STATE', message: 'this node is solo', state: 'solo' });
    expect(await ftctl('switchover')).toEqual({
      code: 5,
      out: '',
      err: 'ftctl: this node is solo\n',
    });
    expect(await object('switchover')).toEqual(code(5, 'FT_ERR_SWITCHOVER_STATE'));
  });

  test('a switchover whose end the node does not know is no refusal: 10', async () => {
    says(504, { code: 'FT_ERR_SWITCHOVER_WORD', message: 'node b won', owner: 'b' });
    expect(await object('switchover')).toEqual(code(10, 'FT_ERR_SWITCHOVER_WORD'));
  });

  test('a node that takes what was asked for and ends: 10, and of a mere look 3', async () => {
    answer = (request) => request.socket.destroy();
    expect(await object('switchover')).toEqual(code(10, 'FT_ERR_CONTROL_UNANSWERED'));
    expect((await ftctl('switchover')).err).toMatch(/Ask both nodes for their status before/);
    expect(await object('status')).toEqual(code(3, 'FT_ERR_CONTROL_UNREACHABLE'));
  });

  test('nobody there: 3, and nothing was asked of anybody', async () => {
    await new Promise((resolve) => server.close(resolve));
    for (const word of ['status', 'switchover', 'events', 'watch']) {
      expect(await object(word)).toEqual(code(3, 'FT_ERR_CONTROL_UNREACHABLE'));
      expect(await ftctl(word)).toMatchObject({ code: 3, out: '' });
    }
  });

  test('a wrong word, an answer that is none, a wait in vain', async () => {
    expect(await object('dance')).toEqual(code(2, 'FT_ERR_CONFIG'));
    answer = (_request, response) => response.end('[]');
    expect(await object('config')).toEqual(code(70, 'FT_ERR_CONTROL_ANSWER'));
    says(500, { code: 'FT_ERR_UNEXPECTED', message: 'a defect' });
    expect(await object('config')).toEqual(code(70, 'FT_ERR_UNEXPECTED'));
    says(200, { role: 'primary', state: 'solo', node: 'a' });
    const wait = ['status', '--wait', 'protected', '--timeout', '1'];
    expect(await object(...wait)).toEqual(code(9, 'FT_ERR_CONTROL_WAITED'));
  });

  test('the end of a stream is its last line', async () => {
    answer = (_request, response) => response.end('{"seq":1,"facts":{}}\n');
    expect(await object('events', '--follow')).toEqual({
      ...{ exit: 3, code: 'FT_ERR_CONTROL_GONE', lines: 2 },
    });
  });

  test('watch --json: samples as they come, one object a line', async () => {
    answer = ({ url = '' }, response) => {
      if (url.startsWith('/v1/samples')) response.write('{"node":"a"}\n{"node":"a","n":2}\n');
      else response.flushHeaders();
    };
    expect(await ftctl('watch', '--json', '--count', '2')).toEqual({
      ...{ code: 0, out: '{"node":"a"}\n{"node":"a","n":2}\n', err: '' },
    });
  });
});
