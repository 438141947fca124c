/**
 * Debian's Chromium without a window, in a network namespace, and what a test wants to know of a
 * page: what it complained of, what it said in which order, what stands in the way of keys and
 * screen readers.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { projectRoot } from '../../src/drill/process/process';
import { atExit } from '../../src/drill/process/process-exit';

const screenshotFolder = path.join(projectRoot, 'build', 'screenshots');
const axeSource = readFileSync(path.join(projectRoot, 'node_modules/axe-core/axe.min.js'), 'utf8');

/** Kept by the page from its first moment on: titles of the verdict, and violations of its policy. */
const RECORDER = `
  window.seenTitles = [];
  window.seenViolations = [];
  document.addEventListener('securitypolicyviolation', (event) => {
    window.seenViolations.push(event.violatedDirective + ' ' + event.blockedURI);
  });
  document.addEventListener('DOMContentLoaded', () => {
    const title = document.getElementById('verdict-title');
    if (title === null) return;
    const note = () => {
      const text = title.textContent;
      if (window.seenTitles.at(-1) !== text) window.seenTitles.push(text);
    };
    new MutationObserver(note).observe(title, { childList: true, characterData: true, subtree: true });
    note();
  });
`;

/** What axe-core found, one line each. */
type Finding = string;

export class TestBrowser {
  private constructor(
    private readonly browser: Browser,
    private readonly folder: string,
  ) {}

  /**
   * Chromium cannot use its own sandbox as root; it shows pages of our own alone. It believes every
   * certificate, or, if `cert` is given, that file's alone.
   */
  static async open(netns: string, cert?: string): Promise<TestBrowser> {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'ft-browser-'));
    atExit(folder, () => rmSync(folder, { recursive: true, force: true }));
    const executablePath = path.join(folder, 'chromium');
    writeFileSync(executablePath, `#!/bin/sh\nexec ip netns exec ${netns} chromium "$@"\n`);
    chmodSync(executablePath, 0o755);
    const args = [
      ...['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
      // Certificates are those of an authority made for the test.
      cert === undefined
        ? '--ignore-certificate-errors'
        : `--ignore-certificate-errors-spki-list=${keyHash(cert)}`,
    ];
    return new TestBrowser(await chromium.launch({ executablePath, args }), folder);
  }

  async close(): Promise<void> {
    await this.browser.close();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async page(scheme: 'light' | 'dark' = 'light'): Promise<TestPage> {
    const context = await this.browser.newContext({
      viewport: { width: 1360, height: 860 },
      colorScheme: scheme,
      reducedMotion: 'reduce',
    });
    await context.addInitScript(RECORDER);
    return new TestPage(context, await context.newPage());
  }
}

/** How Chromium names a certificate's key. */
function keyHash(cert: string): string {
  const { publicKey } = new X509Certificate(readFileSync(cert));
  const key = publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}

export class TestPage {
  /** What the page wrote to its console as an error, and what it threw. */
  readonly complaints: string[] = [];
  /** What it asked for, WebSockets included. */
  readonly addresses: string[] = [];

  constructor(
    private readonly context: BrowserContext,
    readonly page: Page,
  ) {
    page.on('console', (message) => {
      if (['error', 'warning'].includes(message.type())) this.complaints.push(message.text());
    });
    page.on('pageerror', (error) => this.complaints.push(error.message));
    page.on('request', (request) => this.addresses.push(request.url()));
    page.on('websocket', (socket) => this.addresses.push(socket.url()));
  }

  close(): Promise<void> {
    return this.context.close();
  }

  /** Waits until an element's text matches; the error says what it was instead. */
  async waitText(selector: string, wanted: RegExp, timeoutMs = 15_000): Promise<string> {
    const endMs = performance.now() + timeoutMs;
    for (;;) {
      const text = (await this.page.locator(selector).first().textContent()) ?? '';
      if (wanted.test(text)) return text;
      if (performance.now() > endMs) {
        throw new Error(`${selector} says ${JSON.stringify(text)} and not ${wanted}.`);
      }
      await this.page.waitForTimeout(20);
    }
  }

  /** Types a token into the form, when that is there. */
  async enterToken(token: string): Promise<void> {
    await this.page.locator('#token-text').fill(token);
    await this.page.keyboard.press('Enter');
  }

  /** The verdict's titles in the order in which they were shown. */
  titles(): Promise<string[]> {
    return this.page.evaluate('window.seenTitles');
  }

  violations(): Promise<string[]> {
    return this.page.evaluate('window.seenViolations');
  }

  /** Complaints but for those of a browser that cannot connect: that is what is being tested. */
  get ownComplaints(): string[] {
    const expected =
      /ERR_(CONNECTION_(REFUSED|RESET)|EMPTY_RESPONSE|SOCKET_NOT_CONNECTED)|WebSocket conn/;
    return this.complaints.filter((text) => !expected.test(text));
  }

  /** What axe-core finds, in a colour scheme. */
  async axe(scheme: 'light' | 'dark'): Promise<Finding[]> {
    await this.page.emulateMedia({ colorScheme: scheme });
    await this.page.evaluate(axeSource);
    return this.page.evaluate(`axe.run(document, { resultTypes: ['violations'] }).then(
      ({ violations }) => violations.flatMap(({ id, nodes }) =>
        nodes.map(({ target, failureSummary }) => id + ' at ' + target + ': ' + failureSummary)))`);
  }

  /** A picture in build/screenshots/NAME.png. */
  async picture(name: string, fullPage = false): Promise<void> {
    mkdirSync(screenshotFolder, { recursive: true });
    await this.page.screenshot({ path: path.join(screenshotFolder, `${name}.png`), fullPage });
  }

  /** Sizes and colours of the same moment: desktop light and dark, phone. */
  async pictures(name: string): Promise<void> {
    for (const scheme of ['light', 'dark'] as const) {
      await this.page.emulateMedia({ colorScheme: scheme });
      await this.page.waitForTimeout(100);
      await this.picture(`${name}-${scheme}`);
    }
    const size = this.page.viewportSize();
    await this.page.setViewportSize({ width: 360, height: 780 });
    await this.page.waitForTimeout(200);
    await this.picture(`${name}-phone`);
    if (size !== null) await this.page.setViewportSize(size);
    await this.page.waitForTimeout(200);
  }
}
