/** The flags about disks: --disk and --disk-map-dir. */
import path from 'node:path';
import { DISKS_MAX } from '../common/disk-regions';
import { type DiskConfig, parseDisk } from './compound-values';
import type { Flags } from './parse';

import { configError } from './values';

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
    const disk = parseDisk('disk', text);
    const whole = path.resolve(disk.path);
    if (seen.has(whole)) throw configError('disk', text, 'another image each time it is given');
    seen.add(whole);
    return disk;
  });
}
