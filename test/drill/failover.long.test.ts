/** `make drills RUNS=n`: the failover drill with n kills; its report goes to build/drills.json. */
import { kvmTest } from '../support/kvm';
import { figure, writeReport } from '../support/report';
import { drillDefaults, drillText, type Kill, runDrill } from './drill';

const runs = Number(process.env['RUNS'] ?? 100);

function tell(kill: Kill, n: number): void {
  process.stdout.write(
    `kill ${String(n).padStart(3)} of ${runs}: promoted after ${figure(kill.promotedMs, 1)} ms, ` +
      `first new answer after ${figure(kill.failoverMs, 1)} ms, ` +
      `protected again in ${figure(kill.reprotectedMs)} ms\n`,
  );
}

kvmTest(`${runs} kills in a row lose nothing`, async () => {
  const report = await runDrill({
    ...drillDefaults,
    runs,
    seed: Date.now() >>> 0,
    pair: { machine: 'kvm', name: 'drill-long' },
    onKill: tell,
  });
  const file = writeReport('drills.json', report);
  process.stdout.write(`${drillText(report)}\nwritten to ${file}\n`);
  expect(report.verdict.violations.map((violation) => violation.story)).toEqual([]);
  expect(report.verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  expect(report.kills).toHaveLength(runs);
});
