/** CRC-32C against published values and against the definition, bit by bit. */
import { crc32c, crc32cRange } from '../../src/common/crc32c';

/** The definition: polynomial division, one bit at a time. */
function bitwise(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return ~crc >>> 0;
}

describe('crc32c', () => {
  // The check value of the polynomial, and the vectors of RFC 3720, appendix B.4.
  test.each([
    ['nothing', Buffer.alloc(0), 0x00000000],
    ['123456789', Buffer.from('123456789'), 0xe3069283],
    ['32 zero bytes', Buffer.alloc(32), 0x8a9136aa],
    ['32 bytes of ff', Buffer.alloc(32, 0xff), 0x62a8ab43],
    ['0 to 31', Buffer.from(Array.from({ length: 32 }, (_, i) => i)), 0x46dd794e],
    ['31 to 0', Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)), 0x113fdb5c],
  ])('%s', (_name, bytes, expected) => {
    expect(crc32c(bytes)).toBe(expected);
  });

  test('every length and alignment agrees with the definition', () => {
    const bytes = Buffer.from(Array.from({ length: 96 }, (_, i) => (i * 37 + 11) & 0xff));
    for (let begin = 0; begin < 16; begin++) {
      for (let end = begin; end <= bytes.length; end++) {
        expect(crc32cRange(bytes, begin, end)).toBe(bitwise(bytes.subarray(begin, end)));
      }
    }
  });

  test('pieces chain: the seed is the CRC of what came before', () => {
    const bytes = Buffer.from('a checksum of two pieces is the checksum of the whole');
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(crc32c(bytes.subarray(cut), crc32c(bytes.subarray(0, cut)))).toBe(crc32c(bytes));
    }
  });
});
