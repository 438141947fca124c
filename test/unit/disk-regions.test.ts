/** Regions of a disk and the maps of them, as the two sides exchange them. */
import fc from 'fast-check';
import {
  REGION_MAP_BYTES_MAX,
  regionBytesFor,
  regionMapBytes,
  regionMapFault,
  regionsOf,
} from '../../src/common/disk-regions';
import { diskMapsFault } from '../../src/primary/peer-disks';

const GIB = 1024 ** 3;

test.each([
  [512, 65_536, 1, 1],
  [65_536, 65_536, 1, 1],
  [65_536 + 512, 65_536, 2, 1],
  [9 * 65_536, 65_536, 9, 2],
  [16 * GIB, 65_536, 262_144, 32_768],
  [16 * GIB + 512, 131_072, 131_073, 16_385],
  [1024 * GIB, 4 * 1024 ** 2, 262_144, 32_768],
])('a disk of %d bytes has regions of %d, %d of them, a map of %d bytes', (disk, ...expected) => {
  expect([regionBytesFor(disk), regionsOf(disk), regionMapBytes(disk)]).toEqual(expected);
});

test('whatever the disk, its regions cover it and its map keeps to the bound', () => {
  const disks = fc.integer({ min: 1, max: 2 ** 43 }).map((sectors) => sectors * 512);
  fc.assert(
    fc.property(disks, (bytes) => {
      const [region, count] = [regionBytesFor(bytes), regionsOf(bytes)];
      expect(Number.isInteger(Math.log2(region))).toBe(true);
      expect(count * region).toBeGreaterThanOrEqual(bytes);
      expect((count - 1) * region).toBeLessThan(bytes);
      expect(regionMapBytes(bytes)).toBeLessThanOrEqual(REGION_MAP_BYTES_MAX);
      expect(regionMapFault(new Uint8Array(regionMapBytes(bytes)), bytes)).toBeUndefined();
    }),
  );
});

test('a map of another length, or with marks behind the end, is no map of the disk', () => {
  const disk = 13 * 65_536;
  expect(regionMapFault(Uint8Array.of(0xff, 0x1f), disk)).toBeUndefined();
  expect(regionMapFault(Uint8Array.of(0xff, 0x3f), disk)).toMatch(/behind the end/);
  expect(regionMapFault(Uint8Array.of(0, 0x80), disk)).toMatch(/behind the end/);
  expect(regionMapFault(Uint8Array.of(0xff), disk)).toMatch(/1 bytes, not 2/);
  expect(regionMapFault(new Uint8Array(3), disk)).toMatch(/3 bytes, not 2/);
  expect(regionMapFault(new Uint8Array(0), disk)).toMatch(/0 bytes, not 2/);
  expect(regionMapFault(Uint8Array.of(0xff), 8 * 65_536)).toBeUndefined();
});

describe('the maps of a welcome', () => {
  const written = { bytes: 9 * 65_536, readOnly: false, fingerprint: 0 };
  const readOnly = { bytes: 512, readOnly: true, fingerprint: 7 };
  const disks = [written, readOnly, written];
  const ids = ['s1', '', ''];
  const map = new Uint8Array(2);

  test('fit', () => {
    expect(diskMapsFault([map, undefined, undefined], disks, ids)).toBeUndefined();
    expect(diskMapsFault([undefined, undefined, undefined], disks, ids)).toBeUndefined();
    expect(diskMapsFault([], [], [])).toBeUndefined();
  });

  test.each<[string, (Uint8Array | undefined)[], RegExp]>([
    ['too few', [map], /1 disks, and the guest has 3/],
    ['too many', [map, undefined, undefined, map], /4 disks/],
    ['one for a read-only disk', [map, new Uint8Array(1), undefined], /disk 1: it is read-only/],
    ['one for a disk never in step', [map, undefined, map], /disk 2: .*never in step/],
    ['a short one', [new Uint8Array(1), undefined, undefined], /disk 0: .*1 bytes, not 2/],
    ['an endless one', [new Uint8Array(32_768), undefined, undefined], /disk 0: /],
  ])('%s', (_name, maps, words) => {
    const error = diskMapsFault(maps, disks, ids);
    expect(error?.code).toBe('FT_ERR_DISK_MAPS');
    expect(error?.message).toMatch(words);
  });
});
