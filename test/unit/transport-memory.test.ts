/** The in-process link behaves as TCP does, on a clock that the test moves. */
import { FtError } from '../../src/common/errors';
import type { Connection } from '../../src/transport/connection';
import { MemoryLink } from '../../src/transport/memory';
import { allocFrameBuffer } from '../../src/wire/buffer-pool';
import { type FrameHeader, FrameType } from '../../src/wire/frame';
import { ManualClock } from '../support/manual-clock';

const HEADER: FrameHeader = { type: FrameType.epoch, flags: 0, generation: 1, epoch: 1 };

function watch(connection: Connection) {
  const seen = { epochs: [] as number[], bodies: [] as string[], closed: [] as unknown[] };
  connection.onFrame = (frame) => {
    seen.epochs.push(frame.epoch);
    seen.bodies.push(Buffer.from(frame.body).toString('latin1'));
  };
  connection.onClose = (error) => seen.closed.push(error?.code);
  return seen;
}

function setUp(delayMs = 0) {
  const clock = new ManualClock();
  const link = new MemoryLink(clock, { delayMs });
  const a = watch(link.a);
  const b = watch(link.b);
  clock.settle();
  const send = (from: Connection, epoch: number, text = '', onFlushed?: () => void) => {
    const buffer = allocFrameBuffer(64);
    const bytes = buffer.body.write(text, 'latin1');
    from.send({ ...HEADER, epoch }, buffer, bytes, onFlushed);
    return buffer;
  };
  return { clock, link, a, b, send };
}

test('frames arrive in order after the delay, never within the call', () => {
  const { clock, link, b, send } = setUp(3);
  send(link.a, 1, 'one');
  clock.advance(1);
  send(link.a, 2, 'two');
  clock.advance(1.9);
  expect(b.epochs).toEqual([]);
  clock.advance(0.2);
  expect(b.epochs).toEqual([1]);
  clock.advance(1);
  expect(b.bodies).toEqual(['one', 'two']);
});

test('without delay they arrive when others had their turn', () => {
  const { clock, link, b, send } = setUp();
  send(link.a, 1);
  expect(b.epochs).toEqual([]);
  clock.settle();
  expect(b.epochs).toEqual([1]);
});

test('bodies are copied, buffers come back on arrival', () => {
  const { clock, link, b, send } = setUp(1);
  let flushed = 0;
  const buffer = send(link.a, 1, 'before', () => flushed++);
  buffer.body.fill(0);
  expect(link.a.bytesQueued).toBe(46);
  clock.advance(2);
  expect([b.bodies, flushed, link.a.bytesQueued]).toEqual([['before'], 1, 0]);
});

test('a shorter delay does not let frames overtake', () => {
  const { clock, link, b, send } = setUp(10);
  send(link.a, 1);
  link.setDelayMs(1);
  send(link.a, 2);
  clock.advance(5);
  expect(b.epochs).toEqual([]);
  clock.advance(6);
  expect(b.epochs).toEqual([1, 2]);
});

test('a cut holds everything, tells nobody, and loses nothing', () => {
  const { clock, link, a, b, send } = setUp(1);
  send(link.a, 1);
  link.cut();
  send(link.a, 2);
  send(link.b, 3);
  clock.advance(10_000);
  expect([a.epochs, b.epochs, a.closed, b.closed]).toEqual([[], [], [], []]);
  link.heal();
  clock.advance(1);
  expect([a.epochs, b.epochs]).toEqual([[3], [1, 2]]);
});

test('an orderly close follows what was sent', () => {
  const { clock, link, a, b, send } = setUp(2);
  send(link.a, 1);
  link.a.close();
  clock.settle();
  expect(a.closed).toEqual([undefined]);
  clock.advance(3);
  expect([b.epochs, b.closed]).toEqual([[1], [undefined]]);
  let flushed = 0;
  send(link.a, 2, '', () => flushed++);
  clock.advance(5);
  expect([b.epochs, flushed]).toEqual([[1], 1]);
});

test('a close with an error resets the peer and drops what is under way', () => {
  const { clock, link, a, b, send } = setUp(2);
  let flushed = 0;
  send(link.a, 1, '', () => flushed++);
  link.a.close(new FtError('FT_ERR_TEST', 'enough'));
  clock.advance(5);
  expect([a.closed, b.closed]).toEqual([['FT_ERR_TEST'], ['FT_ERR_CONNECTION_LOST']]);
  expect([b.epochs, flushed]).toEqual([[], 1]);
});

test('a reset that a cut swallowed is learnt by who sends after it', () => {
  const { clock, link, b, send } = setUp(1);
  link.cut();
  link.a.close(new FtError('FT_ERR_TEST', 'killed'));
  clock.advance(100);
  link.heal();
  clock.advance(10);
  expect(b.closed).toEqual([]);
  send(link.b, 1);
  clock.advance(5);
  expect(b.closed).toEqual(['FT_ERR_CONNECTION_LOST']);
});

test('a broken link tells both, once', () => {
  const { clock, link, a, b, send } = setUp(1);
  send(link.a, 1);
  link.reset();
  link.reset();
  clock.advance(10);
  expect([a.closed, b.closed, b.epochs]).toEqual([
    ['FT_ERR_CONNECTION_LOST'],
    ['FT_ERR_CONNECTION_LOST'],
    [],
  ]);
});

test('frames wait for the first handler', () => {
  const clock = new ManualClock();
  const link = new MemoryLink(clock);
  link.a.send(HEADER, allocFrameBuffer(0), 0);
  clock.advance(10);
  const b = watch(link.b);
  clock.settle();
  expect(b.epochs).toEqual([1]);
});

test('a body over the handshake limit closes the connection on both sides', () => {
  const { clock, link, a, b } = setUp();
  link.a.send(HEADER, allocFrameBuffer(70_000), 70_000);
  clock.advance(1);
  expect([a.closed, b.closed]).toEqual([['FT_ERR_CONNECTION_LOST'], ['FT_ERR_FRAME_LENGTH']]);
});

test('onDrain comes when the queue falls under the low-water mark', () => {
  const { clock, link } = setUp(1);
  link.b.setMaxBodyBytes(1 << 20);
  let drains = 0;
  link.a.onDrain = () => drains++;
  for (let i = 0; i < 3; i++) link.a.send(HEADER, allocFrameBuffer(200_000), 200_000);
  expect(drains).toBe(0);
  clock.advance(5);
  expect([drains, link.a.bytesQueued]).toEqual([1, 0]);
});
