/** The body of a heartbeat. */
import fc from 'fast-check';
import { FtError } from '../../src/common/errors';
import {
  HEARTBEAT_BYTES,
  noHeartbeat,
  readHeartbeat,
  writeHeartbeat,
} from '../../src/wire/heartbeat';

test('what is written is read', () => {
  const number = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
  const any = fc.oneof(fc.constant(0), number);
  const beats = fc.record({ sequence: number, echo: any, received: any, sent: any });
  fc.assert(
    fc.property(beats, (beat) => {
      const body = Buffer.alloc(HEARTBEAT_BYTES, 0xff);
      expect(writeHeartbeat(beat, body)).toBe(HEARTBEAT_BYTES);
      const read = noHeartbeat();
      expect(readHeartbeat(body, read)).toBeUndefined();
      expect(read).toEqual(beat);
    }),
  );
});

test('the layout is that of docs/wire.md', () => {
  const body = Buffer.alloc(HEARTBEAT_BYTES);
  writeHeartbeat({ sequence: 0x0001_0203_0405_0607, echo: 9, received: 258, sent: 7 }, body);
  expect(body.toString('hex')).toBe(
    '07060504030201000900000000000000' + '02010000000000000700000000000000',
  );
});

const hex = (...words: readonly string[]): Buffer => Buffer.from(words.join(''), 'hex');
const one = '0100000000000000';
const past = '0000000000002000';

test.each([
  ['no body', Buffer.alloc(0)],
  ['half a body', Buffer.alloc(16, 1)],
  ['number 0', Buffer.alloc(32)],
  ['a number past 2^53', hex(past, one, one, one)],
  ['an echo past 2^53', hex(one, 'ffffffffffffffff', one, one)],
  ['a count received past 2^53', hex(one, one, past, one)],
  ['a count sent past 2^53', hex(one, one, one, past)],
])('%s is refused, and nothing of it is used', (_what, body) => {
  const beat = { sequence: 5, echo: 6, received: 7, sent: 8 };
  const error = readHeartbeat(body, beat);
  expect(error).toBeInstanceOf(FtError);
  expect(error?.code).toBe('FT_ERR_MESSAGE');
  expect(beat).toEqual({ sequence: 5, echo: 6, received: 7, sent: 8 });
});
