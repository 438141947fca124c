/** The log in both forms, its levels, and what strangers can make it say. */
import { LineBudget, type LogLevel } from '../../src/common/logger';
import { type LogFormat, type NodeLog, openLog } from '../../src/observe/logger';

const lines: string[] = [];
const open = (format: LogFormat, level: LogLevel = 'info'): Promise<NodeLog> =>
  openLog({
    format,
    level,
    node: 'a',
    pair: 'web',
    write: (line) => lines.push(line),
    now: () => new Date(Date.UTC(2026, 0, 2, 3, 4, 5, 678)),
  });

/** What the roles say of a change. */
const CHANGE = {
  ...{ event: 'state', role: 'primary', from: 'solo', to: 'syncing' },
  ...{ why: 'standby b joined', epoch: 120, generation: 3 },
};

beforeEach(() => lines.splice(0));

test('a change of state, for people and for machines', async () => {
  const words = 'primary: solo → syncing';
  (await open('text')).info(words, CHANGE);
  (await open('json')).info(words, CHANGE);
  expect(lines[0]).toBe(
    '2026-01-02T03:04:05.678Z info  primary: solo → syncing why="standby b joined" epoch=120 ' +
      'generation=3\n',
  );
  expect(lines[1]?.endsWith('}\n')).toBe(true);
  expect(JSON.parse(lines[1] ?? '')).toEqual({
    ...{ level: 'info', time: '2026-01-02T03:04:05.678Z', node: 'a', pair: 'web', msg: words },
    ...CHANGE,
  });
});

test.each<LogFormat>(['text', 'json'])(
  '%s: no control character is written as it is',
  async (form) => {
    const words = 'a\x00\x1b[2J\n\x7f\x80\x9b2J\x9fz';
    (await open(form)).info(words, { peer: words });
    expect(lines).toHaveLength(1);
    expect(lines[0]?.slice(0, -1)).not.toMatch(/\p{Cc}/u);
    const { msg, peer } =
      form === 'json' ? JSON.parse(lines[0] ?? '') : { msg: words, peer: words };
    expect([msg, peer]).toEqual([words, words]);
  },
);

test.each<LogFormat>(['text', 'json'])(
  '%s: lines below the level are not written',
  async (form) => {
    const log = await open(form, 'warn');
    const sayAll = (): string[] => {
      lines.splice(0);
      log.debug('d');
      log.info('i');
      log.warn('w');
      log.error('e');
      log.fatal('f');
      return lines.map((line) => /debug|info|warn|error|fatal/.exec(line)?.[0] ?? line);
    };
    expect(sayAll()).toEqual(['warn', 'error', 'fatal']);
    expect(log.level).toBe('warn');
    log.level = 'debug';
    expect(sayAll()).toEqual(['debug', 'info', 'warn', 'error', 'fatal']);
    log.level = 'fatal';
    expect(sayAll()).toEqual(['fatal']);
  },
);

test("json: a peer's words break no line and take no field of ours", async () => {
  const log = await open('json');
  log.warn('a connection was refused\n{"level":"forged"}', {
    ...{ node: 'mallory', level: 'none', msg: 'no', time: 'never' },
    remote: 'x"\n\u001b[2J',
  });
  expect(lines).toHaveLength(1);
  expect(lines[0]?.indexOf('\n')).toBe((lines[0]?.length ?? 0) - 1);
  const read: unknown = JSON.parse(lines[0] ?? '');
  expect(read).toMatchObject({ level: 'warn', node: 'a', node_: 'mallory', msg_: 'no' });
  expect(read).toMatchObject({ remote: 'x"\n\u001b[2J', pair: 'web' });
  // A key that came twice would be somebody else's in most readers.
  expect(lines[0]?.match(/"(node|level|msg|time)":/g)?.sort()).toEqual(
    ['"level":', '"msg":', '"node":', '"time":'].sort(),
  );
});

test('a budget: some lines at once, then one an interval, and none is forgotten', () => {
  const budget = new LineBudget(3, 1000);
  const said = [0, 1, 2, 3, 4, 999_999].map((us) => budget.take(us));
  expect(said).toEqual([0, 0, 0, undefined, undefined, undefined]);
  expect(budget.take(1_000_000)).toBe(3);
  expect(budget.take(1_500_000)).toBeUndefined();
  // A long rest gives all lines back, and not more.
  expect([0, 1, 2, 3].map((us) => budget.take(60_000_000 + us))).toEqual([1, 0, 0, undefined]);
});
