/**
 * One Jest project per kind of test; `test/<project>/` holds its files.
 *
 *   unit          one module, no KVM, no network, fast
 *   property      generated input (fast-check): round trips, truncation, bit flips
 *   sim           the production roles on a simulated clock, network, disk and witness
 *   native        the C++ tests and fuzzers, built and run as standalone programs
 *   integration   real KVM, real processes, real TAP in a network namespace
 *   drill         kills, stops and partitions under load, judged by the client's oracle
 *   drill-long    the same, many times over; only by `make drills`
 *   linux         a Linux kernel as the guest; only by `make test-linux`, which builds it first
 *
 * Files run one after another: a guest and its client want both cores to themselves. (tools/run-tests
 * gives the first four kinds, which have no such wishes, as many workers as there are cores.)
 */

const project = (name, timeoutMs, more = {}) => ({
  displayName: name,
  rootDir: __dirname,
  testEnvironment: 'node',
  testMatch: [`<rootDir>/test/${name}/**/*.test.ts`],
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/build/'],
  // The dashboard's page is modules for browsers, and its logic is tested here.
  transform: { '^.+\\.ts$': '@swc/jest', '/dashboard/page/.+\\.js$': '@swc/jest' },
  globals: { TEST_TIMEOUT_MS: timeoutMs },
  setupFilesAfterEnv: ['<rootDir>/tools/jest-timeout.js'],
  ...more,
});

module.exports = {
  maxWorkers: 1,
  reporters: ['default', '<rootDir>/tools/jest-reporter.js'],
  projects: [
    project('unit', 30_000),
    project('property', 60_000),
    project('sim', 60_000),
    project('native', 300_000),
    project('integration', 60_000),
    project('drill', 600_000, { testPathIgnorePatterns: ['\\.long\\.test\\.ts$'] }),
    project('drill-long', 7_200_000, {
      testMatch: ['<rootDir>/test/drill/**/*.long.test.ts'],
    }),
    project('linux', 600_000),
  ],
};
