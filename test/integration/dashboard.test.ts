/**
 * The dashboard of a real pair in a real browser: what it shows while a guest is protected, loses its
 * host, runs alone and is protected again, without a reload; and that keys and screen readers find
 * their way.
 */
import { renameSync } from 'node:fs';
import { OracleProcess } from '../../src/drill/oracle/oracle-process';
import { TestBrowser, type TestPage } from '../support/browser';
import { Equals } from '../support/equals';
import { kvmDescribe } from '../support/kvm';

const NAMES = ['host-a', 'host-b'] as const;
const LOAD = { pagesPerMs: 16, bytesPerPage: 64, workingSetPages: 200, spin: false } as const;

const originOf = (name: string): string => `http://127.0.0.1:${name === 'host-a' ? 9101 : 9102}`;

function httpFlags(name: string): readonly string[] {
  const other = name === 'host-a' ? 'host-b' : 'host-a';
  return ['--http', originOf(name).slice('http://'.length), '--http-peer', originOf(other)];
}

/** Tab after Tab: what has the focus, and whether that can be seen. */
async function tabStops(page: TestPage, count: number): Promise<string[]> {
  const stops: string[] = [];
  for (let n = 0; n < count; n += 1) {
    await page.page.keyboard.press('Tab');
    stops.push(
      await page.page.evaluate<string>(`(() => {
        const focused = document.activeElement;
        const seen = getComputedStyle(focused).outlineStyle !== 'none';
        const name = focused.getAttribute('aria-label') ?? focused.textContent.trim().slice(0, 24);
        return (focused.id || focused.tagName.toLowerCase()) + ' ' + name + (seen ? '' : ' UNSEEN');
      })()`),
    );
  }
  return stops;
}

kvmDescribe('the dashboard', () => {
  let equals: Equals;
  let oracle: OracleProcess | undefined;
  let browser: TestBrowser;
  let page: TestPage;

  beforeEach(async () => {
    equals = new Equals('dashboard', NAMES, 0, httpFlags);
    await equals.startAll();
    oracle = await OracleProcess.start(
      { ...equals.guest, clients: 4, ratePerSecond: 200 },
      equals.netns.name,
    );
    await oracle.load(LOAD);
    await oracle.start();
    browser = await TestBrowser.open(equals.netns.name);
    page = await browser.page();
    await page.page.goto(`${originOf('host-a')}/`);
    await page.waitText('#verdict-title', /^Protected$/);
  });

  afterEach(async () => {
    await browser?.close();
    await oracle?.close();
    oracle = undefined;
    await equals?.close();
  });

  const card = (name: string): string => `#node-${NAMES.indexOf(name as 'host-a')}`;

  /** The values that a plot shows, as text. */
  const values = (plot: string): Promise<string[]> =>
    page.page.locator(`#plot-${plot} .plot-values strong`).allTextContents();

  test('shows a failover as it happens, on one page, without a reload', async () => {
    await page.page.evaluate('window.never = "reloaded"');
    await page.page.waitForTimeout(4000);
    expect(await page.page.title()).toBe('Protected · equals · Romulus');
    await page.waitText('#verdict-text', /^host-b holds everything .* If host-a fails/);
    await page.waitText(`${card('host-a')} .node-state`, /^protected: runs the guest/);
    await page.waitText(`${card('host-b')} .node-state`, /^ready: /);
    await page.waitText('#live', /live from 2 of 2/);
    const [epochs = ''] = await values('epochs');
    expect(Number(epochs.replace(/[^0-9.]/g, ''))).toBeGreaterThan(50);
    expect((await values('pause')).join()).toMatch(/^[\d.,]+ (µs|ms),[\d.,]+ (µs|ms)$/);
    await page.pictures('dashboard-1-protected');
    // The witness's storage is away, so that the failover stands still where one can see it.
    const away = `${equals.folder}-away`;
    renameSync(equals.folder, away);
    await equals.kill('host-a');
    await page.waitText('#verdict-title', /^Failover under way$/);
    await page.waitText(`${card('host-a')} .badge`, /no connection/);
    await page.waitText('#verdict-text', /host-a is lost\. /);
    await page.pictures('dashboard-2-failover');
    renameSync(away, equals.folder);
    await page.waitText('#verdict-title', /^UNPROTECTED$/);
    await page.waitText('#verdict-text', /host-b runs the guest alone, since \d/);
    await page.waitText('#verdict-action', /Start the node on host-a again/);
    await page.waitText(`${card('host-b')} .badge`, /primary/);
    await page.waitText('#events', /this node took the guest over/);
    await page.page.waitForTimeout(5000);
    await page.pictures('dashboard-3-unprotected');
    equals.start('host-a');
    await page.waitText('#verdict-title', /^Protected$/, 20_000);
    await page.waitText(`${card('host-a')} .node-state`, /^ready: /);
    await page.waitText('#verdict-text', /^host-a holds everything/);
    await page.page.waitForTimeout(6000);
    await page.pictures('dashboard-4-protected-again');
    await page.picture('dashboard-5-whole', true);
    expect(await page.page.evaluate('window.never')).toBe('reloaded');
    const titles = await page.titles();
    const story = titles.filter((title) => !/Not protected yet|waiting/.test(title));
    expect(story.slice(-4)).toEqual([
      ...['Protected', 'Failover under way', 'UNPROTECTED', 'Protected'],
    ]);
    expect(page.ownComplaints).toEqual([]);
    expect(await page.violations()).toEqual([]);
    const verdict = await oracle?.finish();
    expect(verdict).toMatchObject({ unanswered: 0, lost: 0, regressed: 0, violations: [] });
  }, 120_000);

  test('a node that stands still is one that is lost, and is picked up when it goes on', async () => {
    const { process } = equals.host('host-a').node;
    process.kill('SIGSTOP');
    await page.waitText('#verdict-title', /^UNPROTECTED$/);
    await page.waitText(`${card('host-a')} .badge`, /no connection/);
    process.kill('SIGCONT');
    await page.waitText('#verdict-title', /^Protected$/, 20_000);
    await page.waitText(`${card('host-a')} .badge`, /standby/);
    await page.waitText('#live', /live from 2 of 2/);
  }, 120_000);

  test('keys reach everything, axe-core finds nothing, a phone shows all of it', async () => {
    await page.page.waitForTimeout(2500);
    for (const scheme of ['light', 'dark'] as const) {
      expect([scheme, await page.axe(scheme)]).toEqual([scheme, []]);
    }
    const stops = await tabStops(page, 6);
    expect(stops).toEqual([
      'a Skip to the figures',
      `a ${originOf('host-b')}`,
      'summary The same as a table',
      'div Event log',
      'a metrics for Prometheus',
      expect.any(String),
    ]);
    await page.page.locator('.table summary').focus();
    await page.page.keyboard.press('Enter');
    const rows = await page.page.locator('#table tr').allTextContents();
    expect(rows.length).toBe(13);
    expect(rows.join('\n')).toMatch(/Pause, median.*µs/);
    const summary = await page.page.locator('#plot-pause figcaption').textContent();
    expect(summary).toMatch(/^Pause, last five minutes\. median: now .*µs, from .* to .*, median /);
    await page.page.setViewportSize({ width: 360, height: 780 });
    await page.page.waitForTimeout(300);
    expect(await page.page.evaluate('document.documentElement.scrollWidth')).toBe(360);
    expect([await page.axe('light')]).toEqual([[]]);
    expect(page.ownComplaints).toEqual([]);
  }, 120_000);
});
