/** The journal: order, bounds, listeners, and that it says what the log says. */
import { silentLogger } from '../../src/common/logger';
import { Journal, type JournalEvent } from '../../src/node/journal';

/** A journal whose later turns come when the test says so. */
function journalByHand(eventsMax = 4) {
  const turns: (() => void)[] = [];
  let atMs = Date.UTC(2026, 0, 2);
  const journal = new Journal({
    eventsMax,
    now: () => new Date(atMs),
    soon: (action) => turns.push(action),
  });
  return {
    journal,
    turn: () => {
      for (const action of turns.splice(0)) action();
    },
    pass: (ms: number) => {
      atMs += ms;
    },
  };
}

const seqs = (events: readonly JournalEvent[]): number[] => events.map((event) => event.seq);

describe('the journal', () => {
  test('keeps the newest events and tells which are missing by their numbers', () => {
    const { journal } = journalByHand(4);
    expect(journal.since(0)).toEqual([]);
    for (let n = 1; n <= 10; n += 1) journal.add('info', `event ${n}`);
    expect(seqs(journal.since(0))).toEqual([7, 8, 9, 10]);
    expect(seqs(journal.since(8))).toEqual([9, 10]);
    expect(seqs(journal.since(10))).toEqual([]);
    // Of a process before this one.
    expect(seqs(journal.since(5000))).toEqual([7, 8, 9, 10]);
    expect(journal.seq).toBe(10);
  });

  test('an event has the moment, its kind and its facts', () => {
    const { journal } = journalByHand();
    journal.add('warn', 'early');
    journal.moment = () => {
      return { role: 'primary', state: 'solo', generation: 3, epoch: 120, life: 2 };
    };
    journal.add('info', 'primary: syncing → solo', {
      event: 'state',
      why: 'lost',
      gone: undefined,
    });
    const [early, later] = journal.since(0);
    expect(early).toMatchObject({ kind: 'note', level: 'warn', role: 'none', facts: {} });
    expect(later).toEqual({
      ...{ seq: 2, at: '2026-01-02T00:00:00.000Z', level: 'info', kind: 'state' },
      text: 'primary: syncing → solo',
      ...{ role: 'primary', state: 'solo', generation: 3, epoch: 120, life: 2 },
      facts: { why: 'lost' },
    });
  });

  test('tells listeners in a later turn, in order, until they go', () => {
    const { journal, turn } = journalByHand(4);
    const heard: number[] = [];
    journal.add('info', 'before anybody listened');
    const leave = journal.onEvent((event) => heard.push(event.seq));
    journal.add('info', 'a');
    journal.add('info', 'b');
    expect(heard).toEqual([]);
    turn();
    expect(heard).toEqual([2, 3]);
    for (let n = 0; n < 9; n += 1) journal.add('info', `burst ${n}`);
    turn();
    expect(heard).toEqual([2, 3, 9, 10, 11, 12]);
    leave();
    journal.add('info', 'c');
    turn();
    expect(heard).toHaveLength(6);
  });

  test('what is said again and again is written down seldom; a state always', () => {
    const { journal, pass } = journalByHand(1000);
    for (let n = 0; n < 500; n += 1) journal.add('warn', 'a connection was refused');
    expect(journal.seq).toBe(10);
    pass(30_000);
    for (let n = 0; n < 500; n += 1) journal.add('warn', 'a connection was refused');
    expect(journal.seq).toBe(13);
    for (let n = 0; n < 50; n += 1) journal.add('info', 'a → b', { event: 'state' });
    expect(journal.seq).toBe(63);
  });

  test('strangers at the door have a share, and push out nothing else', () => {
    const { journal, pass } = journalByHand(100);
    for (let n = 0; n < 90; n += 1) journal.add('info', 'a → b', { event: 'state' });
    for (let n = 0; n < 2000; n += 1) {
      journal.add('warn', `192.0.2.1:${n} is no peer`, { event: 'door' });
      if (n >= 500) pass(10_000);
    }
    const kinds = journal.since(0).map((event) => event.kind);
    expect(kinds.filter((kind) => kind === 'state')).toHaveLength(90);
    expect(kinds.filter((kind) => kind === 'door')).toHaveLength(10);
    // Ten at once, and then one in ten seconds.
    expect(journal.seq).toBe(90 + 10 + 1499);
    for (let n = 0; n < 100; n += 1) journal.add('info', 'b → a', { event: 'state' });
    expect(journal.since(0)).toHaveLength(100);
    journal.add('warn', 'one more is no peer', { event: 'door' });
    expect(journal.since(0).filter((event) => event.kind === 'door')).toHaveLength(1);
  });

  test('long words and many facts are cut', () => {
    const { journal } = journalByHand();
    const many = Object.fromEntries(
      Array.from({ length: 100 }, (_, n) => [`f${n}`, 'x'.repeat(9999)]),
    );
    journal.add('info', 'y'.repeat(100_000), many);
    const [event] = journal.since(0);
    expect(event?.text).toHaveLength(2000);
    expect(Object.keys(event?.facts ?? {})).toHaveLength(32);
    expect(JSON.stringify(event).length).toBeLessThan(80_000);
  });

  test('the tee says the same to the log and to the journal', () => {
    const { journal } = journalByHand();
    const said: unknown[] = [];
    const inner = { ...silentLogger, error: (...words: unknown[]) => void said.push(words) };
    journal.tee(inner).error('no', { code: 'FT_ERR_X' });
    expect(said).toEqual([['no', { code: 'FT_ERR_X' }]]);
    expect(journal.since(0)).toMatchObject([{ text: 'no', facts: { code: 'FT_ERR_X' } }]);
  });
});
