/**
 * How a disk is divided into regions, of which a map says which may differ between the two images:
 * one bit a region, little-endian, the bits behind the last region zero. The native side divides in
 * the same way (native/disk/region_map.h), so that both nodes speak of the same regions.
 */
import { BYTES_PER_KIB } from './units';

/** As many disks as a guest can have. */
export const DISKS_MAX = 4;

const REGION_BYTES_MIN = 64 * BYTES_PER_KIB;
/** Maps travel in one handshake message; larger disks get larger regions. */
const REGIONS_MAX = 256 * 1024;
/** The largest map of any disk. */
export const REGION_MAP_BYTES_MAX = REGIONS_MAX / 8;

/** Bytes a region of a disk of `diskBytes` has: the least power of two that keeps to the bound. */
export function regionBytesFor(diskBytes: number): number {
  let bytes = REGION_BYTES_MIN;
  while (Math.ceil(diskBytes / bytes) > REGIONS_MAX) bytes *= 2;
  return bytes;
}

export function regionsOf(diskBytes: number): number {
  return Math.ceil(diskBytes / regionBytesFor(diskBytes));
}

/** The length of such a disk's map. */
export function regionMapBytes(diskBytes: number): number {
  return Math.ceil(regionsOf(diskBytes) / 8);
}

/** Why `map` cannot be a map of a disk of `diskBytes` (for the middle of a sentence), or undefined. */
export function regionMapFault(map: Uint8Array, diskBytes: number): string | undefined {
  const bytes = regionMapBytes(diskBytes);
  if (map.length !== bytes) return `its map has ${map.length} bytes, not ${bytes}`;
  const used = regionsOf(diskBytes) % 8;
  const tail = map[bytes - 1] ?? 0;
  if (used !== 0 && tail >> used !== 0) return 'its map marks regions behind the end of the disk';
  return undefined;
}
