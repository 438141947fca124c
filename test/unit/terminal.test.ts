/** When a SIGHUP is that of a terminal that was closed, and when somebody sent it. */
import { Terminal } from '../../src/cli/terminal';

describe('terminal', () => {
  let there: readonly number[] = [];
  const open = (...fds: number[]): Terminal => {
    there = fds;
    return new Terminal((fd) => there.includes(fd));
  };

  beforeEach(() => {
    jest.useFakeTimers();
  });

  afterEach(() => {
    jest.useRealTimers();
  });

  test('without one nothing is gone', () => {
    expect(open().isGone).toBe(false);
    expect(jest.getTimerCount()).toBe(0);
  });

  test('it is gone when it was closed just now, even if a look came between', () => {
    const terminal = open(0, 2);
    jest.advanceTimersByTime(3_600_000);
    expect(terminal.isGone).toBe(false);
    there = [];
    expect(terminal.isGone).toBe(true);
    jest.advanceTimersByTime(10_000);
    expect(terminal.isGone).toBe(true);
  });

  test('whoever has outlived it has none: a SIGHUP of later is from somebody else', () => {
    const terminal = open(0, 1, 2);
    there = [];
    jest.advanceTimersByTime(20_000);
    expect(terminal.isGone).toBe(false);
    expect(jest.getTimerCount()).toBe(0);
  });
});
