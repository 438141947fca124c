/** What a trace of QEMU says: checkpoints, pauses, migrations. */
import {
  countCheckpoints,
  medianOf,
  parseTrace,
  readMigration,
  readVcpuThreads,
} from '../../bench/qemu-trace';
import { readQmpLine } from '../../bench/qmp';

const change = (us: number, from: string, to: string): string =>
  `6144@1795262894.${String(us).padStart(6, '0')}:colo_vm_state_change Change '${from}' => '${to}'`;

describe('parseTrace', () => {
  test('reads stops and starts in order and passes over what is something else', () => {
    const text = [
      change(314659, 'stop', 'run'),
      '2026-11-21T12:08:20.753854Z qemu-system-x86_64: Load error',
      '6144@1795262894.400000:other_trace x',
      change(323710, 'run', 'stop'),
      '6144@1795262894.3268',
    ].join('\n');
    expect(parseTrace(text)).toEqual([
      { atUs: 1795262894314659, to: 'run' },
      { atUs: 1795262894323710, to: 'stop' },
    ]);
  });
});

describe('countCheckpoints', () => {
  const changes = parseTrace(
    [
      change(100, 'run', 'stop'),
      change(600, 'stop', 'run'),
      change(1000, 'run', 'stop'),
      change(1300, 'stop', 'run'),
      change(2000, 'run', 'stop'),
      change(2100, 'stop', 'run'),
      change(3000, 'run', 'stop'),
      change(9000, 'stop', 'run'),
    ].join('\n'),
  );
  const base = 1795262894e6;

  test('takes the pauses that lie whole within the stretch', () => {
    expect(countCheckpoints(changes, base + 500, base + 4500)).toEqual({
      count: 2,
      perSecond: 500,
      pauseUsP50: 100,
      pauseUsP99: 300,
      pauseUsMax: 300,
      runningPart: 0.9,
    });
  });

  test('finds none in a stretch without any', () => {
    const none = countCheckpoints(changes, base + 10_000, base + 20_000);
    expect(none).toMatchObject({ count: 0, perSecond: 0, pauseUsMax: 0, runningPart: 1 });
  });
});

describe('readMigration', () => {
  test('has figures once it is completed', () => {
    const answer = { status: 'completed', 'total-time': 17, downtime: 2, ram: { transferred: 9 } };
    expect(readMigration(answer)).toEqual({
      status: 'completed',
      figures: { totalMs: 17, downtimeMs: 2, transferredBytes: 9 },
    });
    expect(readMigration({ status: 'active' })).toEqual({ status: 'active', figures: undefined });
    expect(readMigration({})).toEqual({ status: 'none', figures: undefined });
  });

  test('a migration that failed, and an answer that is none, are errors', () => {
    expect(() => readMigration({ status: 'failed', 'error-desc': 'no peer' })).toThrow('no peer');
    expect(() => readMigration({ status: 'completed', downtime: 1 })).toThrow('total-time');
    expect(() => readMigration(undefined)).toThrow('object');
  });
});

test('readVcpuThreads takes the thread of each vCPU', () => {
  expect(readVcpuThreads([{ 'thread-id': 41 }, { 'thread-id': 42 }])).toEqual([41, 42]);
  expect(() => readVcpuThreads([{}])).toThrow('thread-id');
  expect(() => readVcpuThreads({})).toThrow('list');
});

test('the median is a value that occurs', () => {
  expect(medianOf([9, 1, 5])).toBe(5);
  expect(medianOf([])).toBe(0);
});

describe('readQmpLine', () => {
  test('tells answers, errors, events and the rest apart', () => {
    expect(readQmpLine('{"QMP":{"version":{}}}')).toEqual({ kind: 'greeting' });
    expect(readQmpLine('{"event":"STOP","id":3}')).toEqual({ kind: 'event' });
    expect(readQmpLine('{"return":{"a":1},"id":3}')).toEqual({
      kind: 'return',
      id: 3,
      value: { a: 1 },
    });
    expect(readQmpLine('{"error":{"class":"X","desc":"no"},"id":4}')).toEqual({
      kind: 'error',
      id: 4,
      message: 'no',
    });
    for (const line of ['', 'null', '7', '{"return":{}}', '{"id":1}', '{"error":1,"id":1}', '{']) {
      expect(readQmpLine(line)).toEqual({ kind: 'other' });
    }
  });
});
