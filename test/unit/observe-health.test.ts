/** The health endpoints, state by state. */
import { HEALTH_PATHS, healthPathOf, isHealthy } from '../../src/observe/health';

/** State → the paths that say yes. */
const PRIMARY: Readonly<Record<string, string>> = {
  starting: '/livez',
  solo: '/livez /readyz /primary',
  syncing: '/livez /readyz /primary',
  protected: '/livez /readyz /primary',
  switching: '/livez',
  suspended: '/livez',
  fenced: '/livez',
  ended: '/livez',
  stopped: '',
};
const STANDBY: Readonly<Record<string, string>> = {
  joining: '/livez',
  syncing: '/livez',
  ready: '/livez /readyz /standby',
  suspecting: '/livez',
  promoting: '/livez',
  active: '/livez',
  ended: '/livez',
  fenced: '/livez',
  stopped: '',
};

test.each([
  ...Object.entries(PRIMARY).map(([state, yes]) => ['primary', state, yes] as const),
  ...Object.entries(STANDBY).map(([state, yes]) => ['standby', state, yes] as const),
])('%s, %s: yes at %p', (role, state, yes) => {
  const paths = HEALTH_PATHS.filter((path) => isHealthy(path, { role, state }));
  expect(paths.join(' ')).toBe(yes);
});

test('only the four paths are health paths', () => {
  expect(HEALTH_PATHS.map(healthPathOf)).toEqual(HEALTH_PATHS);
  for (const path of ['/', '/metrics', '/livez/', '/primary?x', 'livez', '__proto__']) {
    expect(healthPathOf(path)).toBeUndefined();
  }
});
