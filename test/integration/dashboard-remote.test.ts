/**
 * The dashboard off loopback, in a real browser: closed to whoever has no token and to pages of other
 * sites; one page for both nodes of a pair over TLS; and for each way in which a node shows nothing,
 * what the page says of it.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { BRIDGE_ADDRESS, NetworkNamespace } from '../../src/drill/lan/netns';
import type { NodeProcess } from '../../src/drill/pair/node-process';
import { projectRoot, WatchedProcess } from '../../src/drill/process/process';
import { TestBrowser } from '../support/browser';
import { type CertificateFiles, nodeNames, TestAuthority } from '../support/certificates';
import { SimEquals, type SimName } from '../support/sim-equals';

const TOKEN = 'what-nobody-guesses-so-soon';

describe('a node off loopback', () => {
  const ORIGIN = `https://${BRIDGE_ADDRESS}:9100`;
  const ELSEWHERE = 'http://127.0.0.1:8099/';
  let netns: NetworkNamespace;
  let folder: string;
  let node: WatchedProcess;
  let stranger: WatchedProcess;
  let browser: TestBrowser;

  beforeAll(async () => {
    netns = NetworkNamespace.make(0);
    folder = mkdtempSync(path.join(os.tmpdir(), 'ft-dashboard-'));
    writeFileSync(path.join(folder, 'token'), `${TOKEN}\n`, { mode: 0o600 });
    const authority = new TestAuthority(folder, 'ca');
    const { cert, key } = authority.issueNode('host-b', 'web');
    node = new WatchedProcess({
      name: 'dashboard-tls',
      netns: netns.name,
      command: process.execPath,
      args: [
        path.join(projectRoot, 'dist/src/cli/ft-standby.js'),
        ...['--machine', 'simulated', '--sim-port', '7009', '--witness', 'none', '--memory', '4M'],
        ...['--listen', '127.0.0.1:7001', '--node', 'host-b', '--pair', 'web'],
        ...['--tls-ca', authority.ca, '--tls-cert', cert, '--tls-key', key],
        ...['--http', `${BRIDGE_ADDRESS}:9100`, '--http-token-file', path.join(folder, 'token')],
        ...['--status-interval-ms', '100'],
      ],
    });
    await node.waitFor('its start', () => true, 8000);
    const page = "response.setHeader('Content-Type', 'text/html'); response.end('<!doctype html>')";
    const serve = `require('http').createServer((_request, response) => { ${page} })`;
    stranger = new WatchedProcess({
      name: 'dashboard-stranger',
      netns: netns.name,
      command: process.execPath,
      args: ['-e', `${serve}.listen(8099, '127.0.0.1', () => console.log('{}'))`],
    });
    await stranger.waitFor('its page', () => true, 8000);
    browser = await TestBrowser.open(netns.name);
  });

  afterAll(async () => {
    await browser?.close();
    await node?.stop();
    await stranger?.stop();
    netns?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test('the page asks for the token, keeps it out of every address, and forgets a bad one', async () => {
    const page = await browser.page('dark');
    await page.page.goto(`${ORIGIN}/`);
    await page.waitText('#token-title', /asks for a token/);
    expect(await page.page.locator('#board').isVisible()).toBe(false);
    expect(await page.page.title()).toMatch(/^Not connected yet · /);
    await page.page.keyboard.type('not-the-token-at-all');
    await page.page.keyboard.press('Enter');
    await page.waitText('#token-error', /not good/);
    expect(await page.axe('dark')).toEqual([]);
    expect(await page.axe('light')).toEqual([]);
    await page.picture('dashboard-6-token');
    await page.page.keyboard.type(TOKEN);
    await page.page.keyboard.press('Enter');
    await page.waitText('#node-0 .node-state', /^joining: waits for a primary/);
    await page.page.reload();
    await page.waitText('#node-0 .node-state', /^joining: /);
    expect(page.addresses.join('\n')).toContain(`wss://${BRIDGE_ADDRESS}:9100/feed`);
    expect(page.addresses.join('\n')).not.toContain('token');
    expect([page.ownComplaints, await page.violations()]).toEqual([[], []]);
    await page.close();
  });

  test('a page of another site gets no feed, token or not', async () => {
    const page = await browser.page();
    // Whoever is to be misled has looked at the dashboard before.
    await page.page.goto(`${ORIGIN}/livez`);
    await page.page.goto(ELSEWHERE);
    const protocols = ['romulus-feed-1', `token.${Buffer.from(TOKEN).toString('base64url')}`];
    const feed = `wss://${BRIDGE_ADDRESS}:9100/feed`;
    // The request settles which client certificate to use: none. A socket alone would not get as far
    // as to be refused by the node.
    await page.page.evaluate(`fetch('${ORIGIN}/access',
      { mode: 'no-cors', credentials: 'include' }).then(() => true)`);
    const outcome = await page.page.evaluate<string>(`new Promise((resolve) => {
      const feed = new WebSocket('${feed}', ${JSON.stringify(protocols)});
      feed.onopen = () => resolve('open');
      feed.onclose = () => resolve('refused');
    })`);
    expect(outcome).toBe('refused');
    expect(page.complaints.join()).toContain('403');
    await page.close();
  });

  test('a first answer that is none stays on the page until there is another', async () => {
    const page = await browser.page();
    let left = 4;
    await page.page.route('**/access', (route) => {
      left -= 1;
      if (left < 0) return route.continue();
      return route.fulfill({ status: 429, body: 'Too many requests; try again in a second.\n' });
    });
    await page.page.goto(`${ORIGIN}/`);
    await page.waitText('#verdict-text', /answers “429: Too many requests; try again in a second”/);
    await page.page.waitForTimeout(1500);
    await page.waitText('#verdict-title', /^Not connected yet$/, 0);
    await page.waitText('#token-title', /asks for a token/);
    await page.page.locator('#token').waitFor({ state: 'visible' });
    expect(left).toBeLessThan(0);
    await page.close();
  });

  test('a page too many says so, and is served when there is room', async () => {
    const crowd = await browser.page();
    await crowd.page.goto(`${ORIGIN}/`);
    const protocols = ['romulus-feed-1', `token.${Buffer.from(TOKEN).toString('base64url')}`];
    await crowd.page.evaluate(`Promise.all(Array.from({ length: 16 }, () => new Promise((resolve) => {
      new WebSocket('wss://${BRIDGE_ADDRESS}:9100/feed', ${JSON.stringify(protocols)}).onmessage = resolve;
    })))`);
    const page = await browser.page();
    await page.page.goto(`${ORIGIN}/`);
    await page.enterToken(TOKEN);
    await page.waitText('#verdict-text', /is looked at by as many pages as it serves/);
    await page.waitText('#node-0 .node-advice', /Close the dashboard where nobody looks at it/);
    await crowd.close();
    await page.waitText('#node-0 .node-state', /^joining: /);
    expect([page.ownComplaints, await page.violations()]).toEqual([[], []]);
    await page.close();
  });
});

describe('a pair seen from another machine', () => {
  let netns: NetworkNamespace;
  let pair: SimEquals;
  let authority: TestAuthority;
  const certificates = new Map<SimName, CertificateFiles>();
  let browser: TestBrowser | undefined;

  const originOf = (name: SimName): string =>
    `https://${BRIDGE_ADDRESS}:${name === 'a' ? 9101 : 9102}`;
  const tokenOf = (name: SimName): string => path.join(pair.folder, `token-${name}`);

  const start = (name: SimName, token: string): NodeProcess => {
    writeFileSync(tokenOf(name), `${token}\n`, { mode: 0o600 });
    const { cert = '', key = '' } = certificates.get(name) ?? {};
    return pair.start(name, [
      ...['--tls-ca', authority.ca, '--tls-cert', cert, '--tls-key', key],
      ...['--http', originOf(name).slice('https://'.length), '--http-token-file', tokenOf(name)],
      ...['--http-peer', originOf(name === 'a' ? 'b' : 'a')],
    ]);
  };

  const kill = async (name: SimName): Promise<void> => {
    const { process } = pair.node(name);
    process.kill('SIGKILL');
    await process.waitExit(5000);
  };

  beforeEach(async () => {
    netns = NetworkNamespace.make(0);
    pair = await SimEquals.make(netns.name);
    authority = new TestAuthority(pair.folder, 'ca');
    for (const name of ['a', 'b'] as const) {
      const names = [...nodeNames(name, 'sim'), `IP:${BRIDGE_ADDRESS}`];
      certificates.set(name, authority.issue(name, names));
    }
    await start('a', TOKEN).waitState(['solo'], 20_000);
  });

  afterEach(async () => {
    await browser?.close();
    browser = undefined;
    await pair?.close();
    netns?.close();
  });

  test('one token for both, a failover over TLS, and a token that changed', async () => {
    browser = await TestBrowser.open(netns.name);
    const page = await browser.page();
    await page.page.goto(`${originOf('a')}/`);
    await page.enterToken(TOKEN);
    // Nobody has ever seen it protected: since when it is not, the node knows.
    await page.waitText('#verdict-text', /^a runs the guest alone, since \d\d:\d\d:\d\d\. /);
    start('b', TOKEN);
    await page.waitText('#verdict-title', /^Protected$/);
    await page.waitText('#live', /live from 2 of 2/);
    await kill('a');
    await page.waitText('#verdict-title', /^UNPROTECTED$/);
    await page.waitText('#verdict-text', /^b runs the guest alone, since \d/);
    await page.waitText('#node-0 .node-state', /^Is not reachable; silent since .* “protected”\.$/);
    expect(page.addresses.join('\n')).toContain(`${originOf('b').replace('https', 'wss')}/feed`);
    const other = 'another-token-since-it-came-back';
    start('a', other);
    await page.waitText('#verdict-title', /^Protected$/, 20_000);
    // What the other node says is shown meanwhile.
    await page.page.locator('#token').waitFor({ state: 'visible' });
    await page.waitText('#token-error', /not good, or not any more/);
    await page.waitText('#node-0 .node-state', /^Asks for a token; silent since /);
    await page.pictures('dashboard-7-another-token');
    expect([await page.axe('light'), await page.axe('dark')]).toEqual([[], []]);
    await page.enterToken(other);
    await page.waitText('#live', /live from 2 of 2/);
    expect(await page.page.locator('#token').isVisible()).toBe(false);
    await kill('b');
    start('b', TOKEN);
    await page.waitText('#node-1 .node-state', /^Answers, but does not let this page read; silent/);
    await page.waitText('#node-1 .node-advice', /^Give both nodes the same token, and name https:/);
    await page.pictures('dashboard-8-refused');
    expect(page.addresses.join('\n')).not.toMatch(/token/);
    const own = page.ownComplaints.filter((text) => !/status of 401/.test(text));
    expect([own, await page.violations()]).toEqual([[], []]);
  }, 120_000);

  test('a browser that does not believe the certificate of one of them is told what it needs', async () => {
    start('b', TOKEN);
    const { cert = '' } = certificates.get('a') ?? {};
    browser = await TestBrowser.open(netns.name, cert);
    const page = await browser.page();
    await page.page.goto(`${originOf('a')}/`);
    await page.enterToken(TOKEN);
    await page.waitText('#verdict-title', /^Protected$/);
    await page.waitText('#node-1 .node-state', /^Was not reached yet\.$/);
    await page.waitText('#node-1 .node-advice', /certificate: install the pair’s ca\.pem/);
    await page.pictures('dashboard-9-not-reached');
    expect([await page.axe('light'), await page.axe('dark')]).toEqual([[], []]);
    await page.page.setViewportSize({ width: 360, height: 780 });
    await page.page.waitForTimeout(300);
    expect(await page.page.evaluate('document.documentElement.scrollWidth')).toBe(360);
    expect(page.complaints.join('\n')).toContain('ERR_CERT_AUTHORITY_INVALID');
  }, 60_000);
});
