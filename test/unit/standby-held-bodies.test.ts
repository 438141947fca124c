/** Bodies that wait for the rest of their epoch stay what they were, while their room is used again. */
import { HeldBodies } from '../../src/standby/held-bodies';
import { CHUNK_BYTES } from '../../src/wire/frame';

const filled = (bytes: number, value: number): Buffer => Buffer.alloc(bytes, value);

test('a held body is a copy, and keeps its bytes while others come and go', () => {
  const bodies = new HeldBodies();
  const source = filled(CHUNK_BYTES, 1);
  const first = bodies.hold(source);
  source.fill(9);
  const second = bodies.hold(filled(CHUNK_BYTES - 5, 2));
  expect(Buffer.compare(first.body, filled(CHUNK_BYTES, 1))).toBe(0);
  if (second.room === undefined) throw new Error('a large body has a room');
  bodies.release(second.room);
  const third = bodies.hold(filled(CHUNK_BYTES / 2, 3));
  expect(third.room).toBe(second.room);
  expect(third.room).not.toBe(first.room);
  expect(Buffer.compare(third.body, filled(CHUNK_BYTES / 2, 3))).toBe(0);
  expect(Buffer.compare(first.body, filled(CHUNK_BYTES, 1))).toBe(0);
});

test('small bodies take no more than their length, and oversized ones have no room to share', () => {
  const bodies = new HeldBodies();
  for (const bytes of [0, 1, CHUNK_BYTES / 2 - 1, CHUNK_BYTES + 1]) {
    const { body, room } = bodies.hold(filled(bytes, 7));
    expect([body.length, room]).toEqual([bytes, undefined]);
    expect(Buffer.compare(body, filled(bytes, 7))).toBe(0);
  }
});

test('rooms that are kept are bounded', () => {
  const bodies = new HeldBodies();
  const rooms = Array.from({ length: 200 }, () => bodies.hold(filled(CHUNK_BYTES, 1)).room);
  for (const room of rooms) if (room !== undefined) bodies.release(room);
  const again = Array.from({ length: 200 }, () => bodies.hold(filled(CHUNK_BYTES, 2)).room);
  const used = again.filter((room) => rooms.includes(room)).length;
  expect(used).toBeGreaterThanOrEqual(17);
  expect(used * CHUNK_BYTES).toBeLessThanOrEqual(32 * 1024 * 1024);
});
