/** Units: factors, and amounts as a person reads and writes them. Units stand last in names. */
import { FtError } from './errors';

export const US_PER_MS = 1000;
export const US_PER_SECOND = 1_000_000;
export const BYTES_PER_KIB = 1024;
export const BYTES_PER_MIB = 1024 * 1024;
export const BYTES_PER_GIB = 1024 * 1024 * 1024;
export const PAGE_BYTES = 4096;

const SUFFIX_BYTES: Readonly<Record<string, number>> = {
  '': 1,
  K: BYTES_PER_KIB,
  M: BYTES_PER_MIB,
  G: BYTES_PER_GIB,
};

/**
 * Reads "4096", "64K", "256M", "2G" or "256MiB" (powers of 1024, either case). Errors:
 * FT_ERR_BYTES with the text.
 */
export function parseBytes(text: string): number | FtError {
  const match = /^([0-9]{1,16})([kKmMgG]?)(?:i?[bB])?$/.exec(text.trim());
  const bytes = Number(match?.[1]) * (SUFFIX_BYTES[(match?.[2] ?? '').toUpperCase()] ?? Number.NaN);
  if (Number.isSafeInteger(bytes)) return bytes;
  return new FtError(
    'FT_ERR_BYTES',
    `${JSON.stringify(text)} is no amount of memory. Write a whole number, with K, M or G behind ` +
      'it for powers of 1024, such as 256M.',
    { text },
  );
}

/** "512 B", "4.0 KiB", "1.5 MiB". */
export function formatBytes(bytes: number): string {
  if (bytes < BYTES_PER_KIB) return `${bytes} B`;
  if (bytes < BYTES_PER_MIB) return `${(bytes / BYTES_PER_KIB).toFixed(1)} KiB`;
  if (bytes < BYTES_PER_GIB) return `${(bytes / BYTES_PER_MIB).toFixed(1)} MiB`;
  return `${(bytes / BYTES_PER_GIB).toFixed(1)} GiB`;
}

/** "38 µs", "1.25 ms", "2.50 s". */
export function formatUs(us: number): string {
  if (us < US_PER_MS) return `${us.toFixed(us < 10 ? 1 : 0)} µs`;
  if (us < US_PER_SECOND) return `${(us / US_PER_MS).toFixed(2)} ms`;
  return `${(us / US_PER_SECOND).toFixed(2)} s`;
}
