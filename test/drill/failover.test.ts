/**
 * SIGKILL of the active side of a simulated pair: the commands, the wire and the oracle without KVM.
 * The same with real guests, and much more, is in matrix.test.ts.
 */
import { drillDefaults, drillText, runDrill } from './drill';

test('2 kills of a simulated pair lose nothing', async () => {
  const pair = { machine: 'simulated', name: 'drill-simulated' } as const;
  const report = await runDrill({ ...drillDefaults, runs: 2, pair });
  process.stdout.write(`${drillText(report)}\n`);
  expect(report.verdict.violations.map((violation) => violation.story)).toEqual([]);
  expect(report.verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
});
