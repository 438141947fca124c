/**
 * A guest with a disk, whose host dies again and again: no write that was answered is lost, no block
 * is torn, and the images of both sides are the same in the end. FT_DISK_KILLS says how many kills
 * (4 if absent: one of each kind); `make drills` does more.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { figure, writeReport } from '../../src/drill/report/report';
import { kvmTest } from '../support/kvm';
import {
  DISK_BYTES,
  type DiskDrillReport,
  diskDrillDefaults,
  diskDrillText,
  isPartial,
  judgeImage,
  restDisk,
  runDiskDrill,
  startLoad,
} from './disk-drill';

const runs = Number(process.env['FT_DISK_KILLS'] ?? 4);

/** A sync from a map may send this share of the disk at most; all that is ever written is less. */
const PARTIAL_SHARE_MAX = 0.25;

function expectGood(report: DiskDrillReport): void {
  expect(report.verdict.violations.map((violation) => violation.story)).toEqual([]);
  expect(report.verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  expect(report.disk.stories).toEqual([]);
  expect(report.disk).toMatchObject({ lost: 0, torn: 0, damaged: 0 });
  expect(report.load).toMatchObject({ errors: 0, broken: 0 });
  expect(report.imageBytesUnlike).toBe(0);
  expect(report.auditMismatches).toBe(0);
  const kills = report.kills.length;
  expect(report.disk.acknowledged).toBeGreaterThan(50 * kills);
  expect(report.load.writes).toBeGreaterThan(50 * kills);
  for (const { step, syncBytes } of report.kills) {
    if (isPartial(step)) {
      expect(syncBytes).toBeGreaterThan(0);
      expect(syncBytes).toBeLessThan(PARTIAL_SHARE_MAX * DISK_BYTES);
    }
    // What was there before the guest is sent whole; the rest of the image may be holes.
    if (step === 'replace') expect(syncBytes).toBeGreaterThan(0.8 * DISK_BYTES);
  }
}

kvmTest(`${runs} kills while the disk is written lose nothing of it`, async () => {
  const report = await runDiskDrill({
    ...diskDrillDefaults,
    runs,
    pair: { machine: 'kvm', name: 'disk', diskBytes: DISK_BYTES },
  });
  writeReport('disk-drills-short.json', report);
  process.stdout.write(`${diskDrillText(report)}\n`);
  expectGood(report);
  expect(report.kills).toHaveLength(runs);
});

kvmTest(
  'blocks that are written while they are being written end alike on both sides',
  async () => {
    const report = await runDiskDrill({
      ...diskDrillDefaults,
      steps: ['return'],
      runs: 2,
      regionBlocks: 3,
      pair: { machine: 'kvm', name: 'disk-overlap', diskBytes: DISK_BYTES },
    });
    process.stdout.write(`${diskDrillText(report)}\n`);
    expectGood(report);
  },
);

kvmTest('the image of a survivor that is never protected again has every write', async () => {
  const options = {
    ...diskDrillDefaults,
    runs: 1,
    pair: { machine: 'kvm', name: 'disk-survivor', diskBytes: DISK_BYTES },
  } as const;
  const pair = new Pair(options.pair);
  try {
    await pair.start();
    const oracle = await startLoad(pair, options);
    await sleep(700);
    await pair.killActive();
    await sleep(300);
    const load = await restDisk(oracle);
    const verdict = await oracle.finish();
    const image = pair.imagePath(pair.active?.slot ?? pair.slots[1]);
    await pair.stopInOrder();
    const disk = await judgeImage(oracle, image, load);
    await oracle.close();
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
    expect(disk.stories).toEqual([]);
    expect(disk).toMatchObject({ lost: 0, torn: 0, damaged: 0 });
    expect(disk.acknowledged).toBeGreaterThan(50);
    expect(load).toMatchObject({ errors: 0, broken: 0 });
    process.stdout.write(`${figure(disk.acknowledged)} writes answered, all in the image\n`);
  } finally {
    await pair.close();
  }
});

kvmTest('a read-only disk fails every write, and the guest lives on, here and there', async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-disk-'));
  const image = path.join(folder, 'fixed.img');
  const bytes = Buffer.alloc(1024 ** 2, 'fixed');
  writeFileSync(image, bytes);
  const flags = ['--disk', `${image},ro`];
  const pair = new Pair({ machine: 'kvm', name: 'disk-fixed', diskBytes: DISK_BYTES, flags });
  let oracle: OracleProcess | undefined;
  try {
    await pair.start();
    oracle = await OracleProcess.start({ ...pair.guest, ratePerSecond: 200 }, pair.netns?.name);
    const one = oracle;
    await one.start();
    const fixed = { disk: 1, underWayMax: 2, writesPerSecond: 200, firstBlock: 0, blocks: 100 };
    await one.diskLoad(fixed);
    const moreFail = async (): Promise<void> => {
      const { errors } = await one.diskFigures();
      const isMore = async (): Promise<boolean> => (await one.diskFigures()).errors > errors + 10;
      await until('writes that fail', isMore, 5000);
    };
    await moreFail();
    await pair.killActive();
    await moreFail();
    expect(await one.diskFigures()).toMatchObject({ writes: 0 });
    const verdict = await one.finish();
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
    await pair.stopInOrder();
    expect(readFileSync(image).equals(bytes)).toBe(true);
  } finally {
    await oracle?.close();
    await pair.close();
    rmSync(folder, { recursive: true });
  }
});
