/** When a replication connection counts as stuck, and when it is only slow. */
import type { FtError } from '../../src/common/errors';
import { LinkWatch, stuckMsOf } from '../../src/primary/link-watch';
import { noHeartbeat } from '../../src/wire/heartbeat';

/** Looks until the watch gives up; each of them after one beat of the standby. */
const LOOKS_MAX = 100;

class Wires {
  readonly ours = { bytesSent: 0, bytesReceived: 0 };
  readonly theirs = noHeartbeat();
  beat = 1;
  mute = false;
  readonly watch = new LinkWatch({ heartbeatIntervalMs: 10, suspectAfterMs: 50 });

  constructor() {
    this.watch.begin();
  }

  /** One beat of ours; unless it is mute, the standby has echoed the one before. */
  look(): FtError | undefined {
    if (!this.mute) this.theirs.echo = this.beat;
    const error = this.watch.look(this.ours, this.beat, this.theirs);
    this.beat += 1;
    return error;
  }

  /** So many looks, before each of which `happen` is called and a beat is heard. The code of the
   * error, and at which look it came; "" and all of them when none did. */
  looks(count: number, happen: (look: number) => void = () => undefined): [string, number] {
    for (let look = 1; look <= count; look += 1) {
      happen(look);
      this.watch.heard();
      const error = this.look();
      if (error !== undefined) return [`${error.code} ${error.facts['way'] ?? ''}`.trim(), look];
    }
    return ['', count];
  }
}

test('the bound: twenty times the silence that is suspected, within a second and ten more than it', () => {
  const bounds = [2, 50, 100, 500, 5000, 60_000].map(stuckMsOf);
  expect(bounds).toEqual([1000, 1000, 2000, 10_000, 15_000, 70_000]);
});

test('nothing of what was sent arrives, while heartbeats pass: stuck', () => {
  const wires = new Wires();
  expect(wires.looks(50)).toEqual(['', 50]);
  wires.ours.bytesSent = 46;
  expect(wires.looks(200)).toEqual(['FT_ERR_LINK_STUCK to', LOOKS_MAX]);
});

test('so it is after a good while in which all arrived', () => {
  const wires = new Wires();
  const good = wires.looks(500, () => {
    wires.ours.bytesSent += 5000;
    wires.theirs.received = wires.ours.bytesSent - 200;
  });
  expect(good[0]).toBe('');
  // The first look finds the last bytes that did arrive.
  const bad = wires.looks(200, () => {
    wires.ours.bytesSent += 5000;
  });
  expect(bad).toEqual(['FT_ERR_LINK_STUCK to', LOOKS_MAX]);
});

test('nothing of what the standby says that it sent arrives here: stuck, too', () => {
  const wires = new Wires();
  wires.theirs.sent = 40;
  expect(wires.looks(200)).toEqual(['FT_ERR_LINK_STUCK from', LOOKS_MAX]);
});

test('a single byte within the bound is enough', () => {
  const wires = new Wires();
  wires.ours.bytesSent = 1e9;
  const slow = wires.looks(1000, (look) => {
    if (look % (LOOKS_MAX - 1) === 0) wires.theirs.received += 1;
  });
  expect(slow[0]).toBe('');
});

test('a standby that acknowledges nothing, because its disks are behind, is not stuck', () => {
  const wires = new Wires();
  wires.ours.bytesSent = 5_000_000;
  wires.theirs.received = 5_000_000;
  expect(wires.looks(2000)).toEqual(['', 2000]);
});

test('one epoch after the other over a long way: each way waits in turn, and neither is stuck', () => {
  const wires = new Wires();
  const turn = wires.looks(2000, (look) => {
    // 30 looks there, 30 looks back, and something is under way at each of them.
    const phase = look % 60;
    if (phase === 0) wires.ours.bytesReceived = wires.theirs.sent;
    if (phase === 1) wires.ours.bytesSent += 4096;
    if (phase === 30) wires.theirs.received = wires.ours.bytesSent;
    if (phase === 31) wires.theirs.sent += 40;
  });
  expect(turn[0]).toBe('');
});

test('where no heartbeats come, silence is judged elsewhere', () => {
  const wires = new Wires();
  wires.ours.bytesSent = 46;
  for (let look = 0; look < 1000; look += 1) {
    expect(wires.look()).toBeUndefined();
  }
});

test('what a process finds in its socket after a stop is one look', () => {
  const wires = new Wires();
  wires.ours.bytesSent = 46;
  expect(wires.looks(LOOKS_MAX - 2)).toEqual(['', LOOKS_MAX - 2]);
  for (let beat = 0; beat < 500; beat += 1) wires.watch.heard();
  expect(wires.look()).toBeUndefined();
  wires.theirs.received = 46;
  expect(wires.looks(300)[0]).toBe('');
});

test('heartbeats without a new echo: the standby is mute', () => {
  const wires = new Wires();
  expect(wires.looks(50)).toEqual(['', 50]);
  wires.mute = true;
  expect(wires.looks(200)).toEqual(['FT_ERR_PEER_MUTE', LOOKS_MAX]);
});

test('a doubt that is over in time is none', () => {
  const wires = new Wires();
  const doubts = wires.looks(1000, (look) => {
    wires.mute = look % LOOKS_MAX !== 0;
  });
  expect(doubts[0]).toBe('');
});

test('who was handed the guest may be mute; the next link is watched again', () => {
  const wires = new Wires();
  wires.watch.noEchoes();
  wires.mute = true;
  expect(wires.looks(500)).toEqual(['', 500]);
  wires.watch.begin();
  expect(wires.looks(500)[0]).toBe('FT_ERR_PEER_MUTE');
});

test('a new link begins anew', () => {
  const wires = new Wires();
  wires.ours.bytesSent = 46;
  wires.looks(LOOKS_MAX - 1);
  wires.watch.begin();
  expect(wires.looks(LOOKS_MAX - 1)[0]).toBe('');
});
