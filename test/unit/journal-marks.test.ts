/** Lines on their way to systemd's journal say how pressing they are; lines elsewhere do not. */
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { marksOf } from '../../src/observe/journal-marks';
import { type LogFormat, openLog } from '../../src/observe/logger';

describe('marks for the journal', () => {
  let folder = '';
  let fd = -1;
  let stream = '';

  beforeEach(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-marks-'));
    fd = openSync(path.join(folder, 'journal'), 'w');
    const { dev, ino } = fstatSync(fd, { bigint: true });
    stream = `${dev}:${ino}`;
  });

  afterEach(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  test.each<LogFormat>(['text', 'json'])(
    'each line of a log as %s has its level',
    async (format) => {
      const lines: string[] = [];
      const mark = marksOf(fd, { JOURNAL_STREAM: stream });
      const log = await openLog({
        ...{ format, level: 'debug', node: 'a', pair: 'web' },
        write: (line, level) => lines.push(mark(line, level)),
      });
      log.debug('d');
      log.info('i');
      log.warn('w');
      log.error('e');
      log.fatal('f');
      expect(lines.map((line) => line.slice(0, 3))).toEqual(['<7>', '<6>', '<4>', '<3>', '<3>']);
    },
  );

  test('of several lines each one', () => {
    const mark = marksOf(fd, { JOURNAL_STREAM: stream });
    expect(mark('it broke\n  at x\n', 'fatal')).toBe('<3>it broke\n<3>  at x\n');
  });

  test('a descriptor that is not the journal gets none', () => {
    for (const JOURNAL_STREAM of [undefined, '', '1:2', `${stream}0`]) {
      expect(marksOf(fd, { JOURNAL_STREAM })('x\n', 'error')).toBe('x\n');
    }
    expect(marksOf(-1, { JOURNAL_STREAM: stream })('x\n', 'error')).toBe('x\n');
  });
});
