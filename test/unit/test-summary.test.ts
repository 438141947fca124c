/**
 * The judge of test runs (tools/test-summary.js): above all, that a run cannot pass in silence when
 * KVM tests were skipped on a machine that has KVM, or when the test process died half-way.
 */
import { failuresOf, summaryLine } from '../../tools/test-summary';

const ended = { status: 0, signal: null };
const clean = {
  complete: true,
  running: [],
  passed: 3,
  failed: [],
  skipped: [],
  broken: [],
};

describe('what counts as a failure', () => {
  test('nothing, when all passed', () => {
    expect(failuresOf(clean, ended, true)).toEqual([]);
  });

  test('a skipped KVM test where there is KVM, and only there', () => {
    const record = { ...clean, skipped: ['test/integration/pair.test.ts: the pair kvm: boots'] };
    expect(failuresOf(record, ended, false)).toEqual([]);
    expect(failuresOf(record, ended, true)).toEqual([
      'test/integration/pair.test.ts: the pair kvm: boots (skipped although /dev/kvm exists)',
    ]);
  });

  test('a test skipped for another reason is none', () => {
    const record = { ...clean, skipped: ['test/unit/a.test.ts: something'] };
    expect(failuresOf(record, ended, true)).toEqual([]);
  });

  test('the file in which the test process died', () => {
    const record = { ...clean, complete: false, running: ['test/native/a.test.ts'] };
    expect(failuresOf(record, { status: null, signal: 'SIGABRT' }, true)).toEqual([
      'test/native/a.test.ts: the test process ended here (SIGABRT)',
    ]);
  });

  test('a file that could not be loaded, and a run that never began', () => {
    const record = { ...clean, broken: ['test/unit/a.test.ts'] };
    expect(failuresOf(record, { status: 1, signal: null }, true)).toHaveLength(1);
    expect(failuresOf(undefined, { status: 1, signal: null }, true)).toHaveLength(1);
  });

  test('an exit code that no failed test explains', () => {
    expect(failuresOf(clean, { status: 1, signal: null }, true)).toHaveLength(1);
  });
});

test('the last line names skipped tests only if there were any', () => {
  expect(summaryLine(12, 0, 0)).toBe('12 passed, 0 failed');
  expect(summaryLine(12, 1, 2)).toBe('12 passed, 1 failed, 2 skipped');
});
