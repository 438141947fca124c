/**
 * The harness itself: a listing is read whole or refused, a filter matches its test case, and a
 * native test that fails, crashes or hangs is a Jest test that fails.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { filterFor, parseTestCases, root, runProgram, runSanitized } from './sanitized';

const rule = '='.repeat(79);

describe('the listing', () => {
  test('gives the names in order', () => {
    const listing = `[doctest] listing all test case names\n${rule}\nb: one, two\na\n${rule}\n[doctest] unskipped test cases passing the current filters: 2\n`;
    expect(parseTestCases(listing)).toEqual(['b: one, two', 'a']);
  });

  test('is refused when a name was lost', () => {
    const listing = `${rule}\na\n${rule}\n[doctest] unskipped test cases passing the current filters: 2\n`;
    expect(() => parseTestCases(listing)).toThrow('2 test cases announced, 1 read');
    expect(() => parseTestCases('')).toThrow('announced');
  });
});

test('a filter keeps commas from separating filters', () => {
  expect(filterFor('a, b and "c"')).toBe('a? b and ?c?');
});

describe('what goes wrong in a program', () => {
  let folder = '';
  let binary = '';

  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'romulus-native-'));
    binary = path.join(folder, 'wrong');
    const source = `
      #include <cstdlib>
      #include <cstring>
      #include <unistd.h>
      int main(int, char** argv) {
        if (!std::strcmp(argv[1], "freed")) {
          char* volatile p = static_cast<char*>(std::malloc(4));
          std::free(p);
          *p = 1;
        }
        if (!std::strcmp(argv[1], "undefined")) {
          volatile int big = 0x7fffffff;
          big = big + 1;
        }
        if (!std::strcmp(argv[1], "hang")) ::sleep(60);
        return 0;
      }`;
    writeFileSync(`${binary}.cc`, source);
    // Reading freed memory is what the program is for, so the compiler's warning is not wanted.
    const flags = ['-w', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
    const built = runProgram('g++', [...flags, '-o', binary, `${binary}.cc`], 120_000);
    if (!built.ok) throw new Error(built.output);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('nothing wrong passes', () => {
    expect(runSanitized(binary, ['nothing'], 30_000).ok).toBe(true);
  });
  test.each([
    ['freed', 'heap-use-after-free'],
    ['undefined', 'signed integer overflow'],
  ])('%s is a failure that says so', (what, words) => {
    const run = runSanitized(binary, [what], 30_000);
    expect(run.ok).toBe(false);
    expect(run.output).toContain(words);
  });
  test('a program that hangs is ended and fails', () => {
    const run = runSanitized(binary, ['hang'], 500);
    expect(run.ok).toBe(false);
    expect(run.output).toContain('ETIMEDOUT');
  });
  test('a program that is missing fails', () => {
    expect(runProgram(path.join(root, 'build', 'no-such-program'), [], 1000).ok).toBe(false);
  });
});
