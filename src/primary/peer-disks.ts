/**
 * Judges the maps that a standby's welcome carries: which regions of its images may differ. A map
 * that is wrong could leave regions out of the sync, and the standby's disk would be no copy.
 */
import { regionMapFault } from '../common/disk-regions';
import { type Facts, FtError } from '../common/errors';
import type { DiskDescription } from '../machine/machine';

/**
 * Undefined when there is one entry a disk and every map fits its disk; else FT_ERR_DISK_MAPS.
 * `syncIds` are those that our hello named: only a disk with such a name can have a map.
 */
export function diskMapsFault(
  maps: readonly (Uint8Array | undefined)[],
  disks: readonly DiskDescription[],
  syncIds: readonly string[],
): FtError | undefined {
  if (maps.length !== disks.length) {
    return refuse(`it tells of ${maps.length} disks, and the guest has ${disks.length}`);
  }
  for (const [index, disk] of disks.entries()) {
    const map = maps[index];
    if (map === undefined) continue;
    const fault = faultOf(map, disk, syncIds[index] ?? '');
    if (fault !== undefined) return refuse(`disk ${index}: ${fault}`);
  }
  return undefined;
}

/** What the log says of the disks' sync: how many are sent whole, and how many in part. */
export function diskSyncFacts(
  disks: readonly DiskDescription[],
  maps: readonly (Uint8Array | undefined)[],
): Facts {
  const written = disks.filter((disk) => !disk.readOnly).length;
  if (written === 0) return {};
  const inPart = maps.filter((map) => map !== undefined).length;
  return { disksWhole: written - inPart, disksInPart: inPart };
}

function faultOf(map: Uint8Array, disk: DiskDescription, syncId: string): string | undefined {
  if (disk.readOnly) return 'it is read-only and has a map of differences';
  if (syncId === '') return 'it has a map, and was never in step with this node';
  return regionMapFault(map, disk.bytes);
}

function refuse(what: string): FtError {
  const message = `The standby's welcome makes no sense: ${what}. Run the same release on both.`;
  return new FtError('FT_ERR_DISK_MAPS', message, { what });
}
