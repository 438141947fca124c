/**
 * A bit for every page of guest memory, as it travels: bit i is bit i mod 8 of byte i / 8, and the
 * bits behind the last page are zero.
 */
import { FtError } from './errors';
import { PAGE_BYTES } from './units';

/** Maps of memories up to 32 GiB. */
export const PAGE_MAP_BYTES_MAX = 1024 * 1024;

/** How long the map of a memory is. */
export function pageMapBytes(memoryBytes: number): number {
  return Math.ceil(memoryBytes / PAGE_BYTES / 8);
}

/** FT_ERR_PAGE_MAP when `map` is not one of a memory of this size. */
export function pageMapFault(map: Uint8Array, memoryBytes: number): FtError | undefined {
  const pages = memoryBytes / PAGE_BYTES;
  const bytes = pageMapBytes(memoryBytes);
  const facts = { bytes: map.length, pages };
  if (map.length !== bytes) {
    const message = `A map of pages has ${map.length} bytes where ${bytes} belong.`;
    return new FtError('FT_ERR_PAGE_MAP', message, facts);
  }
  if (pages % 8 !== 0 && (map[bytes - 1] ?? 0) >> (pages % 8) !== 0) {
    const message = `A map of pages names one behind the last of ${pages}.`;
    return new FtError('FT_ERR_PAGE_MAP', message, facts);
  }
  return undefined;
}

/** How many pages a map names. */
export function pagesIn(map: Uint8Array): number {
  let count = 0;
  for (const byte of map) for (let bits = byte; bits !== 0; bits &= bits - 1) count += 1;
  return count;
}
