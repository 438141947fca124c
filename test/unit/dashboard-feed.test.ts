/** The feed as the page holds it: each way in which it does not open is told apart, and told. */
import { type PageFeed, page, type Trouble } from '../support/dashboard-page';

const OWN = 'https://a:9100';
const PEER = 'https://b:9100';

/** A WebSocket of a browser, as far as the page uses it. */
class Socket extends EventTarget {
  static readonly all: Socket[] = [];

  constructor(
    readonly url: string,
    readonly protocols: readonly string[],
  ) {
    super();
    Socket.all.push(this);
  }

  close(): void {
    this.dispatchEvent(new Event('close'));
  }

  opens(): void {
    this.dispatchEvent(new Event('open'));
  }

  ends(code: number): void {
    this.dispatchEvent(Object.assign(new Event('close'), { code }));
  }

  says(message: object): void {
    this.dispatchEvent(Object.assign(new Event('message'), { data: JSON.stringify(message) }));
  }
}

const asked: Request[] = [];
let answers: (Response | Error)[] = [];
const reader = (is: boolean): Response => new Response(JSON.stringify({ reader: is }));

let token: string | undefined;
let states: string[] = [];

function feedOf(origin: string): PageFeed {
  const feed = new page.NodeFeed(
    origin,
    () => token,
    () => undefined,
    (told) => states.push(told.state === 'live' ? 'live' : words(told.trouble)),
  );
  feed.open();
  return feed;
}

const words = ({ kind, said }: Trouble): string => (said === '' ? kind : `${kind} ${said}`);
const pass = (ms: number): Promise<void> => jest.advanceTimersByTimeAsync(ms);
const socket = (): Socket => {
  const newest = Socket.all.at(-1);
  if (newest === undefined) throw new Error('No feed was asked for.');
  return newest;
};

beforeEach(() => {
  jest.useFakeTimers();
  Socket.all.length = 0;
  asked.length = 0;
  answers = [];
  states = [];
  token = undefined;
  Object.assign(globalThis, {
    location: { origin: OWN },
    WebSocket: Socket,
    fetch: (url: string, options: RequestInit) => {
      asked.push(new Request(url, { headers: options.headers ?? {} }));
      const answer = answers.shift() ?? new TypeError('Failed to fetch');
      return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    },
  });
});
afterEach(() => {
  jest.clearAllTimers();
  jest.useRealTimers();
});

test('a first request that fails is made again, later each time, and its reason is told', async () => {
  answers = [new Response('Too many requests; try again.\n', { status: 429 })];
  const feed = feedOf(OWN);
  await pass(0);
  expect(states).toEqual(['odd 429: Too many requests; try again.']);
  await pass(20_000);
  expect(states.slice(1)).toEqual(Array.from({ length: asked.length - 1 }, () => 'away'));
  expect(asked.length).toBeGreaterThan(6);
  expect(asked.length).toBeLessThan(14);
  answers = [reader(true)];
  await pass(3000);
  socket().opens();
  socket().says({ type: 'now' });
  expect([feed.state, words(feed.trouble)]).toEqual(['live', 'none']);
});

test('a node that comes back with another token asks for it, and takes it', async () => {
  token = 'the-old-one';
  answers = [reader(true)];
  const feed = feedOf(OWN);
  await pass(0);
  expect(asked[0]?.headers.get('Authorization')).toBe('Bearer the-old-one');
  socket().opens();
  socket().says({ type: 'now' });
  socket().ends(1006);
  await pass(1000);
  answers = [reader(false), reader(false)];
  await pass(6000);
  expect(states.filter((state) => state === 'token').length).toBe(2);
  expect(Socket.all.length).toBe(1);
  token = 'the-new-one';
  answers = [reader(true)];
  feed.open();
  await pass(0);
  expect(socket().protocols).toContain(`token.${Buffer.from(token).toString('base64url')}`);
  socket().opens();
  socket().says({ type: 'now' });
  expect(states.at(-1)).toBe('live');
});

test('of what is begun twice, one feed comes', async () => {
  answers = [reader(true), reader(true)];
  const feed = feedOf(OWN);
  feed.open();
  await pass(0);
  expect([asked.length, Socket.all.length]).toEqual([2, 1]);
});

test.each([
  ['nobody answers', new TypeError('Failed to fetch'), undefined, 'away'],
  ['it answers, and opens no feed', reader(false), (one: Socket) => one.ends(1006), 'refused'],
  [
    'it has as many readers as it takes',
    reader(false),
    (one: Socket) => {
      one.opens();
      one.ends(1013);
    },
    'full',
  ],
  ['it opens a feed and is silent', reader(false), (one: Socket) => one.opens(), 'away'],
])('a peer: %s', async (_what, answer, then, wanted) => {
  answers = [answer];
  feedOf(PEER);
  await pass(0);
  if (then !== undefined) then(socket());
  await pass(4000);
  expect(states[0]).toBe(wanted);
  expect(asked[0]?.headers.get('Authorization')).toBeNull();
});
