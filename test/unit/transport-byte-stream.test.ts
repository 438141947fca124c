/**
 * RawStream keeps the line of what is written in order, whatever the system takes of it and whatever
 * its owner does when told so. The system here is a fake that takes as many bytes as a test says and
 * keeps them: what it got must be what was written, byte by byte.
 */
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { RawStream, type StreamEvents } from '../../src/transport/byte-stream';

/** A call that takes whatever there is. */
const ALL = Number.MAX_SAFE_INTEGER;

class FakeSystem {
  /** What one call after the other takes: bytes at most (0: no room), or −errno. Then everything. */
  readonly takes: number[] = [];
  readonly got: Buffer[] = [];
  calls = 0;
  /** Calls made when the system had said that it has no room, and had not said otherwise. */
  callsInVain = 0;
  full = false;
  watched: [readable: boolean, writable: boolean] = [false, false];
  onWritable: () => void = () => undefined;
  onReadable: (bytes: number) => void = () => undefined;
  room: Uint8Array = Buffer.alloc(0);
  gap: Uint8Array = Buffer.alloc(0);
  roomBytes = 0;
  aims = 0;

  /** What the peer sends, and the system reads in one go: into the gap, and then into the room. */
  arrive(bytes: Buffer): void {
    const placed = bytes.copy(this.gap);
    const behind = bytes.subarray(placed);
    expect(behind.length).toBeLessThanOrEqual(this.roomBytes);
    behind.copy(this.room);
    this.gap = Buffer.alloc(0);
    this.roomBytes = this.room.length;
    this.onReadable(bytes.length);
  }

  write(
    buffers: readonly Uint8Array[],
    lengths: readonly number[],
    from: number,
    count: number,
    skip: number,
  ): number {
    this.calls += 1;
    if (this.full) this.callsInVain += 1;
    const take = this.takes.shift() ?? ALL;
    if (take < 0) return take;
    this.full = take === 0;
    let left = take;
    let skipped = skip;
    for (let at = from; at < from + count && left > 0; at += 1) {
      const length = lengths[at] as number;
      // As in the addon (native/binding/raw_socket.cc): only the first may be begun already.
      expect(skipped).toBeLessThanOrEqual(length);
      const piece = Buffer.from((buffers[at] as Uint8Array).subarray(skipped, length));
      this.got.push(piece.subarray(0, left));
      left -= Math.min(left, piece.length);
      skipped = 0;
    }
    return take - left;
  }

  watch(readable: boolean, writable: boolean): void {
    this.watched = [readable, writable];
  }

  aim(gap: Uint8Array, roomBytes: number): void {
    this.aims += 1;
    this.gap = gap;
    this.roomBytes = roomBytes;
  }

  close(): void {}

  /** There is room again. */
  drain(): void {
    expect(this.watched[1]).toBe(true);
    this.full = false;
    this.onWritable();
  }
}

function setUp() {
  const system = new FakeSystem();
  const seen = { written: 0, errors: [] as string[], ends: 0 };
  const owner = {
    onWritten: (): void => undefined,
    onData: (_chunk: Buffer, _placed: number): void => undefined,
    gap: (): Buffer | undefined => undefined,
  };
  const events: StreamEvents = {
    onData: (chunk, placed) => owner.onData(chunk, placed),
    gap: () => owner.gap(),
    onEnd: () => undefined,
    onGone: () => undefined,
    onError: (error) => seen.errors.push(error.message),
    onWritten: () => {
      seen.written += 1;
      owner.onWritten();
    },
  };
  const socket = Object.assign(new EventEmitter(), {
    pause: () => undefined,
    destroy: () => undefined,
    end: () => {
      seen.ends += 1;
    },
  });
  const stream = new RawStream(
    socket as unknown as Socket,
    3,
    (_fd, room, onReadable, onWritable) => {
      system.onWritable = onWritable;
      system.onReadable = onReadable;
      system.room = room;
      system.roomBytes = room.length;
      return system;
    },
    events,
  );
  const sent: Buffer[] = [];
  /** No two neighbours look alike, and the buffer is longer than what is written of it. */
  const write = (bytes: number): void => {
    const buffer = Buffer.alloc(bytes + 5, 0xee);
    for (let at = 0; at < bytes; at += 1) buffer[at] = (sent.length * 37 + at) % 0xee;
    sent.push(buffer.subarray(0, bytes));
    stream.write(buffer, bytes);
  };
  const expectWhole = (): void => {
    expect(Buffer.concat(system.got).equals(Buffer.concat(sent))).toBe(true);
    expect(seen.written).toBe(sent.length);
  };
  return { system, seen, owner, stream, write, expectWhole };
}

test('a write is told when its last byte is taken, and goes on in its middle', () => {
  const { system, seen, write, expectWhole } = setUp();
  system.takes.push(4, 3, 0);
  write(10);
  expect([seen.written, system.watched[1]]).toEqual([0, true]);
  write(6);
  expect(system.calls).toBe(3);
  system.takes.push(3, 1);
  system.drain();
  expectWhole();
  expect(system.watched[1]).toBe(false);
});

test('who writes when told of room does so behind a buffer that is begun', () => {
  const { system, owner, stream, write, expectWhole } = setUp();
  let more = 3;
  owner.onWritten = () => {
    more -= 1;
    if (more >= 0) write(20 + more);
  };
  stream.cork();
  for (const bytes of [10, 10, 10]) write(bytes);
  // The first is whole and of the second 7 bytes are gone when the owner writes the fourth.
  system.takes.push(17, 5, 30);
  stream.uncork();
  expectWhole();
});

test('who writes when told does not begin on what an earlier call had left of another', () => {
  const { system, owner, write, expectWhole } = setUp();
  system.takes.push(9, 0);
  write(10);
  let more = 1;
  owner.onWritten = () => {
    more -= 1;
    if (more >= 0) write(4);
  };
  // The one byte that is left goes now; nothing of the 4 bytes after it was taken before.
  system.drain();
  expectWhole();
});

test('a long line whose head is cut off stays in order', () => {
  const { system, owner, stream, write, expectWhole } = setUp();
  let more = 150;
  owner.onWritten = () => {
    more -= 1;
    if (more >= 0) write(1 + (more % 9));
  };
  stream.cork();
  for (let i = 0; i < 200; i += 1) write(1 + (i % 7));
  // Past the number of settled writes that may stand at its head, and always in a buffer's middle.
  for (let i = 0; i < 40; i += 1) system.takes.push(300 - i, 1, 2);
  stream.uncork();
  expectWhole();
});

test('an owner who answers each write with another does not go deeper each time', () => {
  const { system, seen, owner, write, expectWhole } = setUp();
  let depth = 0;
  let depthMax = 0;
  owner.onWritten = () => {
    depth += 1;
    depthMax = Math.max(depthMax, depth);
    if (seen.written < 1000) write(3);
    depth -= 1;
  };
  write(3);
  expectWhole();
  expect([seen.written, depthMax, system.calls]).toEqual([1000, 1, 1000]);
});

test('after the system had no room it is left alone until it says so', () => {
  const { system, owner, stream, write, expectWhole } = setUp();
  let more = 2;
  owner.onWritten = () => {
    more -= 1;
    if (more >= 0) write(8);
  };
  stream.cork();
  write(10);
  write(10);
  system.takes.push(15, 0);
  stream.uncork();
  expect([system.calls, system.callsInVain, system.watched[1]]).toEqual([2, 0, true]);
  system.drain();
  expect(system.callsInVain).toBe(0);
  expectWhole();
});

test('a broken connection is told once, to an owner who wrote when told as well', () => {
  const { system, seen, owner, stream, write } = setUp();
  owner.onWritten = () => write(8);
  stream.cork();
  write(10);
  write(10);
  system.takes.push(15, -32, -32, -32);
  stream.uncork();
  expect([seen.errors, seen.written]).toEqual([['EPIPE'], 1]);
});

test('the end is sent once, behind what was written when told', () => {
  const { system, seen, owner, stream, write, expectWhole } = setUp();
  system.takes.push(4, 0);
  write(10);
  stream.end();
  let more = 1;
  owner.onWritten = () => {
    expect(seen.ends).toBe(0);
    more -= 1;
    if (more >= 0) write(8);
  };
  system.drain();
  expectWhole();
  expect(seen.ends).toBe(1);
});

test('what a large body still lacks is read to where it belongs, and little behind it', () => {
  const { system, owner } = setUp();
  const told: [chunk: number, placed: number][] = [];
  owner.onData = (chunk, placed) => told.push([chunk.length, placed]);
  const body = Buffer.alloc(40_000);
  const sent = Buffer.from(body.map((_, at) => at % 251));
  let wanted: Buffer | undefined = body.subarray(10_000);
  owner.gap = () => wanted;
  system.arrive(Buffer.alloc(10_040));
  expect([system.gap.length, system.roomBytes]).toEqual([30_000, 4096]);
  wanted = body.subarray(20_000);
  system.arrive(sent.subarray(10_000, 20_000));
  wanted = undefined;
  system.arrive(Buffer.concat([sent.subarray(20_000), Buffer.alloc(50)]));
  expect(body.subarray(10_000)).toEqual(sent.subarray(10_000));
  expect(told).toEqual([
    [10_040, 0],
    [0, 10_000],
    [50, 20_000],
  ]);
  // Another large body may follow; when none does, the whole room is used again, unasked.
  expect([system.gap.length, system.roomBytes, system.aims]).toEqual([0, 4096, 3]);
  system.arrive(Buffer.alloc(60));
  system.arrive(Buffer.alloc(200_000));
  expect(system.aims).toBe(3);
});

test('a small gap is not aimed at: its bytes come with what follows', () => {
  const { system, owner } = setUp();
  let chunks = 0;
  owner.onData = (chunk, placed) => {
    chunks += chunk.length;
    expect(placed).toBe(0);
  };
  owner.gap = () => Buffer.alloc(9000);
  system.arrive(Buffer.alloc(5000));
  system.arrive(Buffer.alloc(9100));
  expect([system.aims, chunks]).toEqual([0, 14_100]);
});
