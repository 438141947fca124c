/**
 * Where each disk's map of differing regions is kept: beside an image that is a file, in
 * --disk-map-dir if that is given, and nowhere for a block device without it, whose neighbourhood
 * (/dev) is no place for files.
 */
import { realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import { crc32c } from '../common/crc32c';
import { FtError, toFtError } from '../common/errors';
import type { DiskConfig } from '../config/compound-values';
import type { DiskFile } from '../machine/machine';

/** Throws FT_ERR_DISK_OPEN for an image that is not there, FT_ERR_DISK_MAP for the directory. */
export function diskFiles(
  disks: readonly DiskConfig[],
  mapDir: string | undefined,
): readonly DiskFile[] {
  if (mapDir !== undefined) checkMapDir(mapDir);
  return disks.map((disk) => ({ ...disk, mapPath: mapPathOf(disk, mapDir) }));
}

function mapPathOf(disk: DiskConfig, mapDir: string | undefined): string {
  if (disk.readOnly) return '';
  const image = realPath(disk);
  if (mapDir !== undefined) {
    // Two images may have the same name in different directories.
    const mark = crc32c(Buffer.from(image)).toString(16).padStart(8, '0');
    return path.join(mapDir, `${path.basename(image)}.${mark}.ftmap`);
  }
  return statSync(image).isBlockDevice() ? '' : `${image}.ftmap`;
}

function realPath(disk: DiskConfig): string {
  try {
    return realpathSync(disk.path);
  } catch (thrown) {
    const cause = toFtError(thrown).message;
    const message = `The disk image ${disk.path} cannot be found (${cause}); check --disk.`;
    throw new FtError('FT_ERR_DISK_OPEN', message, { path: disk.path }, thrown);
  }
}

function checkMapDir(mapDir: string): void {
  if (statSync(mapDir, { throwIfNoEntry: false })?.isDirectory() === true) return;
  const message = `--disk-map-dir ${mapDir} is no directory; make it, or name another.`;
  throw new FtError('FT_ERR_DISK_MAP', message, { path: mapDir });
}
