/**
 * SIGKILL of the active side, again and again, under load; FT_DRILL_RUNS says how often (10 if
 * absent). `make drills` does the same many times over.
 */
import { kvmTest } from '../support/kvm';
import { writeReport } from '../support/report';
import { drillDefaults, drillText, runDrill } from './drill';

const runs = Number(process.env['FT_DRILL_RUNS'] ?? 10);

kvmTest(`${runs} kills in a row lose nothing`, async () => {
  const report = await runDrill({
    ...drillDefaults,
    runs,
    pair: { machine: 'kvm', name: 'drill' },
  });
  writeReport('drills-short.json', report);
  process.stdout.write(`${drillText(report)}\n`);
  expect(report.verdict.violations.map((violation) => violation.story)).toEqual([]);
  expect(report.verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  expect(report.kills).toHaveLength(runs);
  expect(report.auditMismatches).toBe(0);
  expect(report.verdict.requests).toBeGreaterThan(100 * runs);
});

test('2 kills of a simulated pair lose nothing', async () => {
  const pair = { machine: 'simulated', name: 'drill-simulated' } as const;
  const report = await runDrill({ ...drillDefaults, runs: 2, pair });
  process.stdout.write(`${drillText(report)}\n`);
  expect(report.verdict.violations.map((violation) => violation.story)).toEqual([]);
  expect(report.verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
});
