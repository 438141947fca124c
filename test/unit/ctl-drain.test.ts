/** ftctl drain: how long it asks, and when it returns; the node's answers are made here. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { drainCommand } from '../../src/cli/ctl/drain';
import { readCtlWords } from '../../src/cli/ctl/read-words';

describe('ftctl drain', () => {
  let folder = '';
  let server: http.Server;
  let said = '';
  /** What the node answers to each drain in turn; the last one again and again. */
  let answers: { status: number; body: object }[] = [];
  let asked = 0;
  let pid = 0;
  const busy = { status: 409, body: { code: 'FT_ERR_DRAIN_BUSY', message: 'in a moment' } };
  const bare = { status: 409, body: { code: 'FT_ERR_DRAIN_UNPROTECTED', message: 'nobody else' } };
  const done = { status: 200, body: { drained: true, role: 'primary', guest: 'handed-over' } };

  beforeEach(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-drain-'));
    said = '';
    asked = 0;
    pid = 0;
    const take = (text: unknown): boolean => {
      said += String(text);
      return true;
    };
    jest.spyOn(process.stdout, 'write').mockImplementation(take);
    jest.spyOn(process.stderr, 'write').mockImplementation(take);
    server = http.createServer((request, response) => {
      const isDrain = request.url === '/v1/drain';
      const answer = isDrain ? answers[Math.min(asked, answers.length - 1)] : undefined;
      if (isDrain) asked += 1;
      response.writeHead(answer?.status ?? 200, { Connection: 'close' });
      response.end(JSON.stringify(answer?.body ?? { pid }));
      // As a node does: the socket is closed first.
      if (answer?.status === 200) server.close();
    });
    await new Promise<void>((resolve) => server.listen(path.join(folder, 's'), resolve));
  });

  afterEach(() => {
    jest.restoreAllMocks();
    server.close();
    rmSync(folder, { recursive: true });
  });

  const drain = async (...words: string[]): Promise<number> => {
    const all = ['drain', '--control', path.join(folder, 's'), ...words];
    const request = readCtlWords([drainCommand], all);
    if (request.kind !== 'run') throw new Error('a command was given');
    return await request.command.run(request.call);
  };

  test('a refusal for a moment is final without --wait, and waited out with it', async () => {
    answers = [busy, busy, done];
    expect(await drain()).toBe(5);
    expect({ asked, said }).toEqual({ asked: 1, said: 'ftctl: in a moment\n' });
    expect(await drain('--wait', '20')).toBe(0);
    expect(asked).toBe(3);
    expect(said).toMatch(/goes on at the other host/);
  });

  test('--wait ends, and waits for nothing that does not pass by itself', async () => {
    answers = [busy];
    const began = performance.now();
    expect(await drain('--wait', '1')).toBe(9);
    expect(said).toBe('ftctl: in a moment\n');
    expect(performance.now() - began).toBeGreaterThan(900);
    asked = 0;
    answers = [bare];
    expect(await drain('--wait', '20')).toBe(5);
    expect(asked).toBe(1);
  });

  test('returns when the process is gone, not when its socket is', async () => {
    const child = spawn('/bin/bash', ['-c', 'exec -a ft-primary sleep 0.6'], { stdio: 'ignore' });
    await new Promise((resolve) => setTimeout(resolve, 100));
    let exited = false;
    child.on('exit', () => {
      exited = true;
    });
    pid = child.pid ?? 0;
    answers = [done];
    const began = performance.now();
    expect(await drain()).toBe(0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(exited).toBe(true);
    expect(performance.now() - began).toBeGreaterThan(300);
  });
});
