/**
 * The link between two hosts breaks for a second: the standby comes back with its image and is sent
 * what changed, which is measured against a full sync of the same guest; then it takes over, and the
 * clients judge whether anything was lost.
 *
 * The nodes speak over the namespace's loopback, and that is what is cut; the clients' bridge is not.
 */

import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { Pair, type PairNode, SUSPECT_AFTER_MS } from '../../src/drill/pair/pair';
import { sleep, until } from '../../src/drill/process/time';
import { kvmDescribe } from '../support/kvm';

/** A catch-up after a cut of a second moves less than this share of a full sync. */
const SHARE_MAX = 0.05;
/** Pages that the guest fills before it rests: 40 MiB of its 64. */
const FILLED_PAGES = 10_000;
/** Every page of the guest is hashed once in 256 epochs. */
const AUDIT = ['--audit-pages', '64'] as const;

kvmDescribe('a link that breaks for a second', () => {
  let pair: Pair;
  let oracle: OracleProcess | undefined;

  const active = (): PairNode => {
    if (pair.active === undefined) throw new Error('There is no active side.');
    return pair.active;
  };

  const synced = (kind: string): Promise<unknown> =>
    active().waitStatus(
      `a ${kind} sync`,
      (f) => f['state'] === 'protected' && f['syncKind'] === kind,
      20_000,
    );

  /** Nothing passes between the nodes for `ms`; returns when the guest is protected again. */
  const cutLink = async (ms: number): Promise<void> => {
    const { netns } = pair;
    const from = active().process.lines.length;
    netns?.run('ip', 'link', 'set', 'lo', 'down');
    await sleep(ms);
    netns?.run('ip', 'link', 'set', 'lo', 'up');
    await active().waitState(['solo'], 10_000, from);
    await active().waitState(['protected'], 20_000, from);
  };

  const epochsGoOn = async (count: number): Promise<void> => {
    const first = active().figure('epochCommitted');
    const isFar = (): boolean => active().figure('epochCommitted') >= first + count;
    await until(`${count} epochs`, isFar, 30_000);
  };

  beforeEach(async () => {
    pair = new Pair({
      machine: 'kvm',
      name: 'catch-up',
      flags: AUDIT,
      // The primary notices first, and so keeps the guest.
      suspectAfterMs: ({ name }) => (name === 'b' ? 3 : 1) * SUSPECT_AFTER_MS,
    });
    await pair.start();
    const settings = { ...pair.guest, clients: 4, ratePerSecond: 100 };
    oracle = await OracleProcess.start(settings, pair.netns?.name);
  });

  afterEach(async () => {
    await oracle?.close();
    await pair.close();
    oracle = undefined;
  });

  test('moves less than a twentieth of a full sync, and nothing is lost afterwards', async () => {
    const fill = { pagesPerMs: 5, bytesPerPage: 4096, workingSetPages: FILLED_PAGES, spin: false };
    await oracle?.load(fill);
    // Not twice over: the noise of two passes compresses.
    const isFilled = async (): Promise<boolean> =>
      Number((await oracle?.stats())?.pagesDirtied ?? 0) > 0.8 * FILLED_PAGES;
    await until('a filled guest', isFilled, 10_000);
    await oracle?.load({ ...fill, pagesPerMs: 0 });
    await oracle?.start();
    // A fresh standby gets all of it.
    const from = active().process.lines.length;
    await pair.standby?.process.stop();
    await active().waitState(['solo'], 10_000, from);
    await pair.rejoin();
    await synced('full');
    const full = active().figure('syncBytes');
    await epochsGoOn(300);

    await cutLink(1000);
    await synced('catch-up');
    const bytes = active().figure('syncBytes');
    const share = bytes / full;
    const kib = (n: number): string => `${(n / 1024).toFixed(0)} KiB`;
    process.stdout.write(
      `catch-up: ${kib(bytes)} of ${kib(full)} (${(share * 100).toFixed(2)} %), ` +
        `${active().figure('syncPages')} pages, ${active().figure('syncMs')} ms\n`,
    );
    expect(full).toBeGreaterThan(8 * 1024 * 1024);
    expect(share).toBeLessThan(SHARE_MAX);
    // Every page is compared more than once.
    await epochsGoOn(600);
    expect(active().figure('auditMismatches')).toBe(0);

    // Once more, and a takeover on its heels.
    await cutLink(1000);
    await synced('catch-up');
    await pair.killActive();
    await sleep(500);
    const verdict = await oracle?.finish();
    expect(verdict?.violations.map((violation) => violation.story)).toEqual([]);
    expect(verdict).toMatchObject({ lost: 0, regressed: 0 });
    expect(verdict?.requests).toBeGreaterThan(300);
  }, 120_000);

  test('a guest that changes too much meanwhile is sent whole', async () => {
    const load = { pagesPerMs: 40, bytesPerPage: 64, workingSetPages: FILLED_PAGES, spin: false };
    await oracle?.load(load);
    await oracle?.start();
    await cutLink(1000);
    await synced('full');
    await oracle?.load({ ...load, pagesPerMs: 0 });
    await epochsGoOn(300);
    expect(active().figure('auditMismatches')).toBe(0);
    await pair.killActive();
    await sleep(300);
    const verdict = await oracle?.finish();
    expect(verdict).toMatchObject({ lost: 0, regressed: 0 });
  }, 90_000);
});
