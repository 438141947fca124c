/** The body of a heartbeat. */
import fc from 'fast-check';
import { FtError } from '../../src/common/errors';
import { HEARTBEAT_BYTES, readHeartbeat, writeHeartbeat } from '../../src/wire/heartbeat';

test('what is written is read', () => {
  const number = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
  fc.assert(
    fc.property(number, fc.oneof(fc.constant(0), number), (sequence, echo) => {
      const body = Buffer.alloc(HEARTBEAT_BYTES, 0xff);
      expect(writeHeartbeat({ sequence, echo }, body)).toBe(HEARTBEAT_BYTES);
      const beat = { sequence: 0, echo: 0 };
      expect(readHeartbeat(body, beat)).toBeUndefined();
      expect(beat).toEqual({ sequence, echo });
    }),
  );
});

test('the layout is that of docs/wire.md', () => {
  const body = Buffer.alloc(HEARTBEAT_BYTES);
  writeHeartbeat({ sequence: 0x0001_0203_0405_0607, echo: 9 }, body);
  expect(body.toString('hex')).toBe('07060504030201000900000000000000');
});

test.each([
  ['no body', Buffer.alloc(0)],
  ['half a body', Buffer.alloc(8, 1)],
  ['number 0', Buffer.alloc(16)],
  ['a number past 2^53', Buffer.from('00000000000020000000000000000000', 'hex')],
  ['an echo past 2^53', Buffer.from('0100000000000000ffffffffffffffff', 'hex')],
])('%s is refused, and nothing of it is used', (_what, body) => {
  const beat = { sequence: 5, echo: 6 };
  const error = readHeartbeat(body, beat);
  expect(error).toBeInstanceOf(FtError);
  expect(error?.code).toBe('FT_ERR_MESSAGE');
  expect(beat).toEqual({ sequence: 5, echo: 6 });
});
