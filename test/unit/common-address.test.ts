/** Addresses and amounts as people write them. */
import { formatAddress, isLoopback, parseAddress } from '../../src/common/address';
import { FtError } from '../../src/common/errors';
import { formatBytes, formatUs, parseBytes } from '../../src/common/units';

describe('parseAddress', () => {
  test.each([
    ['127.0.0.1:7001', '127.0.0.1', 7001],
    ['standby-2.example:0', 'standby-2.example', 0],
    ['[::1]:65535', '::1', 65535],
    ['[fe80::1%eth0]:80', 'fe80::1%eth0', 80],
  ])('%s', (text, host, port) => {
    const address = parseAddress(text);
    expect(address).toEqual({ host, port });
    expect(formatAddress(address as { host: string; port: number })).toBe(text);
  });

  test.each([
    ['', /host before the colon is missing/],
    [':7001', /host before the colon is missing/],
    ['127.0.0.1', /port is missing/],
    ['127.0.0.1:', /port "" is no whole number/],
    ['127.0.0.1:http', /port "http"/],
    ['127.0.0.1:65536', /port "65536"/],
    ['127.0.0.1:-1', /port "-1"/],
    ['127.0.0.1:7001 ', /port "7001 "/],
    ['::1:7001', /brackets/],
    ['[::1]', /port is missing/],
    ['[::1]7001', /character|port/],
    ['[host]:1', /"host" in the brackets/],
    ['a b:1', /character/],
    [`${'x'.repeat(254)}:1`, /longer than 253/],
  ])('%j is refused with the reason', (text, reason) => {
    const error = parseAddress(text);
    expect(error).toBeInstanceOf(FtError);
    expect((error as FtError).code).toBe('FT_ERR_ADDRESS');
    expect((error as FtError).message).toMatch(reason);
  });
});

test.each([
  ['localhost', true],
  ['127.0.0.1', true],
  ['127.255.3.4', true],
  ['::1', true],
  ['::ffff:127.0.0.1', true],
  ['0.0.0.0', false],
  ['::', false],
  ['128.0.0.1', false],
  ['127.0.0.256', false],
  ['127.0.0.1.example', false],
  ['localhost.example', false],
])('isLoopback(%s) is %s', (host, expected) => {
  expect(isLoopback(host)).toBe(expected);
});

describe('amounts', () => {
  test.each([
    ['0', 0],
    ['4096', 4096],
    ['64K', 65536],
    ['256m', 268435456],
    ['2G', 2147483648],
    ['1MiB', 1048576],
    ['8b', 8],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  test.each(['', '-1', '1.5G', '1T', 'G', '1 G', '99999999999999999G', '0x10'])(
    '%j is no amount',
    (text) => {
      expect(parseBytes(text)).toMatchObject({ code: 'FT_ERR_BYTES' });
    },
  );

  test('are written as a person reads them', () => {
    expect([512, 4096, 1572864, 3 * 2 ** 30].map(formatBytes)).toEqual([
      '512 B',
      '4.0 KiB',
      '1.5 MiB',
      '3.0 GiB',
    ]);
    expect([3.21, 38.4, 1250, 2.5e6].map(formatUs)).toEqual([
      '3.2 µs',
      '38 µs',
      '1.25 ms',
      '2.50 s',
    ]);
  });
});
