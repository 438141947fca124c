/** The thin parts of the commands: exit codes and lines that never block. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { exitCodeOfEnd, exitCodeOfStart, sentenceOfEnd } from '../../src/cli/exit-codes';
import { LineWriter } from '../../src/cli/line-writer';
import { FtError } from '../../src/common/errors';
import type { NodeEnd } from '../../src/node/running-node';

describe('exit codes', () => {
  test.each([
    ['FT_ERR_CONFIG', 2],
    ['FT_ERR_GENERATION_OWNED', 5],
    ['FT_ERR_KVM_OPEN', 3],
    ['FT_ERR_PORT_TAKEN', 3],
    ['FT_ERR_WITNESS_UNREACHABLE', 3],
    ['FT_ERR_UNEXPECTED', 70],
  ])('a start that fails with %s ends with %d', (code, exit) => {
    expect(exitCodeOfStart(new FtError(code, 'x'))).toBe(exit);
  });

  const error = new FtError('FT_ERR_X', 'it broke');
  test.each<[NodeEnd, number, RegExp]>([
    [{ kind: 'fenced', current: { generation: 4, owner: 'beta' } }, 4, /beta.*generation 4/],
    [{ kind: 'guest-ended', end: { kind: 'power-off', cause: 'port x' } }, 6, /port x/],
    [{ kind: 'guest-ended', end: { kind: 'reset', cause: 'triple fault' } }, 7, /triple fault/],
    [{ kind: 'machine-error', error }, 70, /it broke/],
    [{ kind: 'machine-error', error: new FtError('FT_ERR_SIM_PORT', 'taken') }, 3, /taken/],
    [{ kind: 'promotion-failed', error }, 70, /it broke/],
  ])('an end', (end, exit, words) => {
    expect(exitCodeOfEnd(end)).toBe(exit);
    expect(sentenceOfEnd(end)).toMatch(words);
  });
});

describe('lines', () => {
  let folder = '';
  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-lines-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  test('come out whole and in order, the last ones at the flush', async () => {
    const file = path.join(folder, 'out');
    const fd = openSync(file, 'w');
    const writer = new LineWriter(fd);
    for (let i = 0; i < 500; i += 1) writer.put(`line ${i}\n`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    writer.put('one more\n');
    await new Promise((resolve) => setTimeout(resolve, 50));
    writer.flush();
    closeSync(fd);
    const expected = Array.from({ length: 500 }, (_, i) => `line ${i}\n`).join('');
    expect(readFileSync(file, 'utf8')).toBe(`${expected}one more\n`);
  });

  /** A command that writes to `pipe` as the commands do, and ends as they end. */
  const writesTo = (pipe: string, script: string): ChildProcess => {
    const out = openSync(pipe, 'r+');
    const writer = path.join(__dirname, '..', '..', 'src', 'cli', 'line-writer.ts');
    const load = `require('@swc/core').transformFileSync('${writer}', { module: { type: 'commonjs' } })`;
    const code = `const m = { exports: {} }; new Function('require', 'exports', ${load}.code)(require, m.exports);
      const writer = new m.exports.LineWriter(1); ${script}`;
    const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', out, 'inherit'] });
    closeSync(out);
    return child;
  };

  const makePipe = (): string => {
    const pipe = path.join(folder, 'pipe');
    expect(spawnSync('mkfifo', [pipe]).status).toBe(0);
    return pipe;
  };

  test('the last words before an exit at once reach a reader', async () => {
    const pipe = makePipe();
    // More than a pipe holds, so that it comes in pieces.
    const child = writesTo(
      pipe,
      "for (let i = 0; i < 20000; i += 1) writer.put('line ' + i + '\\n'); " +
        "writer.put('the last\\n'); writer.flush(); process.exit(70)",
    );
    const reader = spawn('cat', [pipe], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    reader.stdout.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
    });
    // Either may be told of first.
    const [code] = await Promise.all([
      new Promise((resolve) => child.on('exit', resolve)),
      new Promise((resolve) => reader.on('close', resolve)),
    ]);
    expect(code).toBe(70);
    const expected = Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join('');
    expect(text).toBe(`${expected}the last\n`);
  });

  test('a reader that stalls holds neither the loop, nor the pool, nor the end', async () => {
    const pipe = makePipe();
    const stalled = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    const child = writesTo(
      pipe,
      `const { readFile } = require('node:fs');
       for (let i = 0; i < 100; i += 1) writer.put('x'.repeat(10000) + '\\n');
       // As many as the pool has threads: each would wait behind a write that blocks.
       const began = Date.now(); let left = 4;
       for (let i = 0; i < 4; i += 1) readFile('/dev/null', () => {
         left -= 1;
         if (left > 0) return;
         writer.flush();
         process.exit(Date.now() - began < 2000 ? 0 : 1);
       });`,
    );
    const code = await new Promise((resolve) => child.on('exit', resolve));
    closeSync(stalled);
    expect(code).toBe(0);
  });

  test('beyond the bound are dropped, and a reader that is gone is ignored', async () => {
    const fd = openSync('/dev/null', 'r');
    const writer = new LineWriter(fd);
    writer.put('x'.repeat(100));
    for (let i = 0; i < 5000; i += 1) writer.put(`${'y'.repeat(1000)}\n`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    writer.put('z');
    expect(() => writer.flush()).not.toThrow();
    closeSync(fd);
  });
});
