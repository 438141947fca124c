/** What the dashboard's page makes of what nodes say: its verdict, its memory, its words. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { event, hello, type PageNode, page, pairOf } from '../support/dashboard-page';

const { verdictOf } = page;
const primary = (state: string, generation: number): Record<string, string | number> => ({
  ...{ role: 'primary', state, generation },
});
const standby = (state: string, generation: number): Record<string, string | number> => ({
  ...{ role: 'standby', state, generation },
});
const AWAY = { kind: 'away', said: '' };

/** What is left when the garbage is gone. */
function heapUsed(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed;
}

function first<T>(all: readonly T[]): T {
  const [one] = all;
  if (one === undefined) throw new Error('There is none.');
  return one;
}

describe('the verdict', () => {
  test.each([
    [primary('protected', 1), standby('ready', 1), 'Protected'],
    [primary('fenced', 1), standby('promoting', 2), 'Failover under way'],
    [primary('fenced', 1), standby('active', 2), 'Failover under way'],
    [primary('suspended', 1), standby('promoting', 2), 'Failover under way'],
    [primary('suspended', 1), standby('suspecting', 1), 'UNPROTECTED, and waiting'],
    [primary('switching', 1), standby('promoting', 2), 'Switching over'],
    [primary('solo', 1), standby('suspecting', 1), 'UNPROTECTED'],
    [primary('fenced', 1), primary('solo', 2), 'UNPROTECTED'],
    [primary('protected', 1), primary('solo', 2), 'UNPROTECTED'],
    [primary('fenced', 1), standby('joining', 1), 'The guest does not run'],
    [primary('ended', 1), standby('ended', 1), 'The guest does not run'],
  ])('of %j beside %j', (a, b, title) => {
    expect(verdictOf(pairOf({ a, b })).title).toBe(title);
    expect(verdictOf(pairOf({ b, a })).title).toBe(title);
  });

  test('a primary that is there and has lost the guest is not called lost', () => {
    const there = pairOf({ a: primary('fenced', 1), b: standby('promoting', 2) });
    expect(verdictOf(there).text).toMatch(/^a has lost the guest\. b has won the guest/);
    const gone = pairOf({ a: AWAY, b: standby('promoting', 2) });
    expect(verdictOf(gone).text).toMatch(/^a:9100 is lost\. b has won the guest/);
  });

  test('says since when the guest is unprotected, for as long as it is', () => {
    jest.useFakeTimers({ now: new Date('2026-03-01T03:12:00') });
    try {
      // The node's clock is an hour ahead of the browser's.
      const since = Date.now() + 3_600_000;
      const at = (): number => Date.now() + 3_600_000;
      const solo = (): Record<string, string | number> => ({ ...primary('solo', 2), since });
      const model = pairOf({});
      const node: PageNode = new page.NodeModel('http://a:9100');
      model.nodes.push(node);
      model.take(node, hello('a', solo(), { at: at() }));
      node.feed = 'live';
      for (let second = 0; second < 600; second += 1) {
        jest.setSystemTime(Date.now() + 1000);
        model.take(node, { type: 'sample', sample: { at: at(), ...solo() } });
      }
      expect(verdictOf(model).text).toMatch(/^a runs the guest alone, since 03:12:00\. /);
      jest.setSystemTime(new Date('2026-03-02T11:00:00'));
      expect(verdictOf(model).text).toMatch(/alone, since 03:12:00 on 1 March\. /);
    } finally {
      jest.useRealTimers();
    }
  });

  test('of nobody: why not, and what to do', () => {
    const odd = { kind: 'odd', said: '429: Too many requests; try again in a second.' };
    expect(verdictOf(pairOf({ a: odd }))).toMatchObject({
      level: 'unknown',
      title: 'Not connected yet',
      text: 'a:9100 answers “429: Too many requests; try again in a second”.',
    });
    expect(verdictOf(pairOf({ a: AWAY }))).toMatchObject({
      title: 'Connecting',
      action: expect.stringMatching(/^Look whether the nodes run/),
    });
  });

  test('a node that answers and shows nothing is not told to be started', () => {
    const full = { kind: 'full', said: '' };
    const model = pairOf({ a: primary('solo', 1), b: full });
    expect(verdictOf(model).action).not.toMatch(/Start the node/);
    expect(verdictOf(pairOf({ a: primary('solo', 1), b: AWAY })).action).toMatch(/Start the node/);
    const copy = pairOf({ a: full, b: standby('joining', 1) });
    expect(verdictOf(copy).action).toBe('See on the card of a:9100 what it asks for.');
  });
});

describe('a node that shows nothing', () => {
  test.each([
    ['https://b:9100', 'away', /does not trust its certificate: install the pair’s ca\.pem/],
    ['http://b:9100', 'away', /^Its node or host is down, or the way there is blocked\.$/],
    ['https://b:9100', 'refused', /the same token, and name http:\/\/a:9100 with --http-peer/],
    ['https://b:9100', 'full', /^Close the dashboard where nobody looks at it/],
  ])('at %s, %s: the advice names the causes', (origin, kind, wanted) => {
    const model = pairOf({ a: standby('ready', 1) });
    const node = new page.NodeModel(origin);
    node.trouble = { kind, said: '' };
    model.nodes.push(node);
    expect(page.troubleOf(node, model).advice).toMatch(wanted);
  });
});

describe('events', () => {
  const model = pairOf({ a: primary('solo', 1) });
  const node = first(model.nodes);
  const seqs = (message: object): number[] => model.take(node, message).map(({ seq }) => seq);

  test('are taken once, however often a hello tells them again', () => {
    const events = [event(1), event(2)];
    expect(seqs(hello('a', {}, { events }))).toEqual([1, 2]);
    expect(seqs({ type: 'event', event: event(2) })).toEqual([]);
    expect(seqs({ type: 'event', event: event(3) })).toEqual([3]);
    expect(seqs(hello('a', {}, { events: [event(2), event(3), event(5)] }))).toEqual([5]);
  });

  test('are counted anew by another process', () => {
    expect(seqs(hello('a', {}, { started: 2, events: [event(1)] }))).toEqual([1]);
  });

  test('leave nothing behind in the page', () => {
    const takeUntil = (end: number, from: number): void => {
      for (let seq = from; seq < end; seq += 1) {
        model.take(node, { type: 'event', event: event(seq) });
      }
    };
    takeUntil(2000, 2);
    const before = heapUsed();
    takeUntil(22_000, 2000);
    expect(heapUsed() - before).toBeLessThan(500_000);
  });
});
