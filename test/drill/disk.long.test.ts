/** `make drills DISK_RUNS=n`: the disk drill with n kills; its report goes to build/disk-drills.json. */

import { figure, writeReport } from '../../src/drill/report/report';
import { kvmTest } from '../support/kvm';
import {
  DISK_BYTES,
  type DiskKill,
  diskDrillDefaults,
  diskDrillText,
  runDiskDrill,
} from './disk-drill';

const runs = Number(process.env['DISK_RUNS'] ?? 50);

function tell(kill: DiskKill, n: number): void {
  const { step, promotedMs, firstDiskAnswerMs, reprotectedMs, syncBytes } = kill;
  const took = (what: string, ms: number | undefined): string =>
    ms === undefined ? '' : `${what} after ${figure(ms, 1)} ms, `;
  process.stdout.write(
    `kill ${String(n).padStart(3)} of ${runs}, ${step.padEnd(9)}: ` +
      `${took('promoted', promotedMs)}${took('first disk answer', firstDiskAnswerMs)}` +
      `protected again in ${figure(reprotectedMs)} ms with ${figure(syncBytes / 1024)} KiB sent\n`,
  );
}

kvmTest(`${runs} kills while the disk is written lose nothing of it`, async () => {
  const report = await runDiskDrill({
    ...diskDrillDefaults,
    runs,
    seed: Date.now() >>> 0,
    pair: { machine: 'kvm', name: 'disk-long', diskBytes: DISK_BYTES },
    onKill: tell,
  });
  const file = writeReport('disk-drills.json', report);
  process.stdout.write(`${diskDrillText(report)}\nwritten to ${file}\n`);
  expect(report.verdict.violations.map((violation) => violation.story)).toEqual([]);
  expect(report.verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  expect(report.disk.stories).toEqual([]);
  expect(report.disk).toMatchObject({ lost: 0, torn: 0, damaged: 0 });
  expect(report.load).toMatchObject({ errors: 0, broken: 0 });
  expect(report.imageBytesUnlike).toBe(0);
  expect(report.kills).toHaveLength(runs);
});
