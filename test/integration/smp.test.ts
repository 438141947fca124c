/**
 * Guests with several processors under a real pair: every vCPU works, each dirtying pages of its
 * own; what the standby holds is the primary's memory, byte for byte, over all of it; and the guest
 * lives on when its primary is killed.
 *
 * The moment that is compared is one at which both sides stand still: the guest ends itself while
 * all its vCPUs write, its last epoch is acknowledged, and both processes stay and keep its memory.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { OracleProcess, type VcpuFigures } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { askEnd, EndOp } from '../support/beacon-ask';
import { kvmDescribe } from '../support/kvm';

const PAGE_BYTES = 4096;
const SET_PAGES = 300;
const LOAD = { pagesPerMs: 6, bytesPerPage: 40, workingSetPages: SET_PAGES, spin: false } as const;
const RUN_MS = 1500;

/** All of a node's guest memory, through the descriptor that the process has of it. */
function guestMemory(node: PairNode | undefined): Buffer {
  const folder = `/proc/${node?.process.pid}/fd`;
  const isGuest = (fd: string): boolean => {
    try {
      return readlinkSync(`${folder}/${fd}`).startsWith('/memfd:guest-memory');
    } catch {
      return false; // closed meanwhile
    }
  };
  const found = readdirSync(folder).filter(isGuest);
  if (found.length !== 1) throw new Error(`The node has ${found.length} guest memories.`);
  return readFileSync(`${folder}/${found[0]}`);
}

function differingPages(a: Buffer, b: Buffer): number[] {
  expect(a.length).toBe(b.length);
  const pages: number[] = [];
  for (let at = 0; at < a.length; at += PAGE_BYTES) {
    if (a.compare(b, at, at + PAGE_BYTES, at, at + PAGE_BYTES) !== 0) pages.push(at / PAGE_BYTES);
  }
  return pages;
}

function usedPages(memory: Buffer): number {
  const zero = Buffer.alloc(PAGE_BYTES);
  let used = 0;
  for (let at = 0; at < memory.length; at += PAGE_BYTES) {
    if (memory.compare(zero, 0, PAGE_BYTES, at, at + PAGE_BYTES) !== 0) used += 1;
  }
  return used;
}

kvmDescribe('several vCPUs', () => {
  let pair: Pair;
  let oracle: OracleProcess;

  const open = async (vcpus: number, flags: readonly string[] = []): Promise<void> => {
    pair = new Pair({ machine: 'kvm', name: 'smp', flags: ['--vcpus', `${vcpus}`, ...flags] });
    await pair.start();
    const settings = { ...pair.guest, clients: 4, ratePerSecond: 200 };
    oracle = await OracleProcess.start(settings, pair.netns?.name);
    await oracle.load({ ...LOAD, each: true });
    await oracle.start();
  };

  const figures = async (vcpus: number): Promise<VcpuFigures[]> => {
    const all: VcpuFigures[] = [];
    for (let index = 0; index < vcpus; index++) all.push(await oracle.vcpu(index));
    return all;
  };

  /** Runs for a while, and expects every vCPU to have written. */
  const expectWork = async (vcpus: number): Promise<void> => {
    const before = await figures(vcpus);
    await sleep(RUN_MS);
    const after = await figures(vcpus);
    for (let index = 0; index < vcpus; index++) {
      expect(after[index]?.vcpus).toBe(vcpus);
      const pages = (after[index]?.pagesDirtied ?? 0) - (before[index]?.pagesDirtied ?? 0);
      expect(pages).toBeGreaterThan(SET_PAGES);
    }
  };

  /** Ends the guest at work; both sides then hold its memory as it was. */
  const stopBoth = async (): Promise<[Buffer, Buffer]> => {
    expect(await oracle.rest()).toBe(0);
    const from = pair.standby?.process.lines.length ?? 0;
    expect(askEnd(pair.netns?.name, pair.guest, EndOp.powerOff)?.status).toBe(0);
    await pair.active?.waitState(['ended'], 8000);
    await pair.standby?.waitState(['joining'], 8000, from);
    return [guestMemory(pair.active), guestMemory(pair.standby)];
  };

  afterEach(async () => {
    await oracle?.close();
    await pair.close();
  });

  test.each([1, 2, 4])('%d: all of memory is equal on both sides', async (vcpus) => {
    await open(vcpus, ['--on-guest-end', 'hold', '--audit-pages', '0']);
    await expectWork(vcpus);
    const [primary, standby] = await stopBoth();
    expect(usedPages(primary)).toBeGreaterThan(vcpus * SET_PAGES);
    expect(differingPages(primary, standby)).toEqual([]);
    // The comparison itself: one byte in the last page is seen.
    standby.writeUInt8(1 ^ (standby.at(-1) ?? 0), standby.length - 1);
    expect(differingPages(primary, standby)).toEqual([primary.length / PAGE_BYTES - 1]);
  });

  test.each([2, 4])('%d: the guest lives on when its primary is killed', async (vcpus) => {
    await open(vcpus);
    for (let kills = 0; kills < 2; kills++) {
      await expectWork(vcpus);
      await pair.killActive();
      await expectWork(vcpus);
      await pair.rejoin();
    }
    expect(pair.active?.figure('auditMismatches')).toBe(0);
    const verdict = await oracle.finish();
    expect(verdict.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0 });
  });

  test('a standby with another number of vCPUs is refused by name', async () => {
    pair = new Pair({ machine: 'kvm', name: 'smp-unlike' });
    const standby = pair.startStandby();
    pair.startPrimary(pair.slots[0], pair.slots[1].port, ['--vcpus', '2']);
    const isRefused = (): boolean =>
      standby.process.story().includes('field=machine.vcpus ours=1 theirs=2');
    await until('the refusal in the log', isRefused, 10_000);
  });
});
