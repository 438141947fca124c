/** The flags about disks: --disk and --disk-map-dir. */
import path from 'node:path';
import { DISKS_MAX } from '../common/disk-regions';
import type { Flags } from './parse';
import { configError } from './values';

/** An image on this host for one of the guest's disks. */
export interface DiskConfig {
  readonly path: string;
  readonly readOnly: boolean;
}

/** Throws FT_ERR_CONFIG. */
export function readDisks(flags: Flags, machine: 'kvm' | 'simulated'): readonly DiskConfig[] {
  const given = flags.all('disk');
  const first = given[0];
  if (first !== undefined && machine === 'simulated') {
    throw configError('disk', first, 'used with --machine kvm only');
  }
  const beyond = given[DISKS_MAX];
  if (beyond !== undefined) throw configError('disk', beyond, `given at most ${DISKS_MAX} times`);
  const seen = new Set<string>();
  return given.map((text) => {
    const disk = parseDisk(text);
    const whole = path.resolve(disk.path);
    if (seen.has(whole)) throw configError('disk', text, 'another image each time it is given');
    seen.add(whole);
    return disk;
  });
}

/** "PATH" or "PATH,ro". A comma begins a suffix, so a path cannot have one. */
function parseDisk(text: string): DiskConfig {
  const [image = '', suffix, ...more] = text.split(',');
  const known = suffix === undefined || suffix === 'ro';
  if (image !== '' && known && more.length === 0) {
    return { path: image, readOnly: suffix === 'ro' };
  }
  throw configError('disk', text, 'PATH or PATH,ro, with no comma in the path');
}
