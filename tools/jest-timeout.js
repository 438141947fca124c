/**
 * Gives each Jest project the time limit of its kind of test. Jest 30 takes `testTimeout` from the
 * whole run only, so the project hands its limit over as a global.
 */
jest.setTimeout(globalThis.TEST_TIMEOUT_MS);
